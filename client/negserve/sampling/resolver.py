"""Samplers by name."""

from __future__ import annotations

from negserve.errors import InvalidRequestError
from negserve.sampling.negative_sampler import NegativeSampler
from negserve.sampling.negative_samplers import NEGATIVE_SAMPLERS, BasicNegativeSampler


def get_negative_sampler_cls(
    query: str | type[NegativeSampler] | None = None,
) -> type[NegativeSampler]:
    """Get the negative sampler class.

    :param query: a class, which is returned; a name, in any case and with or without
        ``NegativeSampler``, ``-`` and ``_``; or None for the basic sampler
    :raises InvalidRequestError: for an unknown name, or a class that is not a sampler
    """
    if query is None:
        return BasicNegativeSampler
    if isinstance(query, type) and issubclass(query, NegativeSampler):
        return query
    if isinstance(query, str):
        name = query.lower().translate(str.maketrans("", "", "-_ ")).removesuffix("negativesampler")
        if name in NEGATIVE_SAMPLERS:
            return NEGATIVE_SAMPLERS[name]
    raise InvalidRequestError(
        f"{query!r} is not a negative sampler; choose from {', '.join(NEGATIVE_SAMPLERS)}"
    )
