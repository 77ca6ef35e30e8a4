"""The options that every negative sampler has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch

from negserve.errors import InvalidRequestError
from negserve.types.config import FilterMode, Slot, Split


class SamplerOptions(TypedDict, total=False):
    """Keyword arguments of :class:`negserve.sampling.NegativeSampler`, documented there."""

    filter_splits: Sequence[Split] | None
    filter_mode: FilterMode
    seed: int
    corruption_scheme: Sequence[Slot]
    candidates: Sequence[int] | torch.Tensor | None
    distinct: bool
    chunk_size: int
    log_q: bool
    rank: int | None
    world_size: int | None


def checked_filter_splits(
    filter_splits: Sequence[Split] | None, filtered: bool
) -> tuple[Split, ...]:
    """Return the splits of a sampler's filter; none without a filter.

    :param filter_splits: None for ``training``
    :raises InvalidRequestError: for splits without a filter, or a filter without splits: both
        would filter nothing
    """
    splits: tuple[Split, ...] = ("training",) if filter_splits is None else tuple(filter_splits)
    if filtered and not splits:
        raise InvalidRequestError(
            "filter_splits=() with filtered=True: nothing would be filtered; name splits, or give "
            "filtered=False",
            reason="INVALID_CONFIGURATION",
            metadata={"field": "filter_splits", "value": "()"},
        )
    if filter_splits and not filtered:
        raise InvalidRequestError(
            f"filter_splits={splits} with filtered=False: nothing would be filtered; give "
            f"filtered=True, or leave filter_splits out",
            reason="INVALID_CONFIGURATION",
            metadata={"field": "filter_splits", "value": ", ".join(splits)},
        )
    return splits
