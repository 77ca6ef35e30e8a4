"""The options that every negative sampler has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import torch

from negserve.config import FilterMode, Slot, Split


class SamplerOptions(TypedDict, total=False):
    """Keyword arguments of :class:`negserve.sampling.NegativeSampler`, which says what they do."""

    filter_splits: Sequence[Split]
    filter_mode: FilterMode
    seed: int
    corruption_scheme: Sequence[Slot]
    candidates: Sequence[int] | torch.Tensor | None
    distinct: bool
    chunk_size: int
    log_q: bool
    rank: int | None
    world_size: int | None
