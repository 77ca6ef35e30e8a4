"""Check that a sampler suits a library without masks."""

from __future__ import annotations

from negserve.errors import InvalidRequestError
from negserve.sampling import NegativeSampler


def check_unmasked(sampler: NegativeSampler, library: str) -> None:
    """Refuse a sampler whose mask can't be ignored.

    :raises InvalidRequestError: for a sampler that masks known triples, is distinct or shares
        values by chunks
    """
    masks = {
        "filter_mode": (sampler.filter_mode, sampler.filtered and sampler.filter_mode == "mask"),
        "distinct": (sampler.distinct, sampler.distinct),
        "chunk_size": (sampler.chunk_size, sampler.chunk_size > 1),
    }
    for name, (value, is_masked) in masks.items():
        if is_masked:
            raise InvalidRequestError(
                f"{name}={value!r} marks invalid negatives by a mask, which {library} does not "
                f"support; leave it at its default"
            )
