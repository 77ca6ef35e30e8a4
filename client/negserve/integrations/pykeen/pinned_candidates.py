"""The pinned candidates of PyKEEN's evaluation triples, as tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch

from negserve.evaluation import EvaluationSet
from negserve.integrations.pykeen.evaluation_graph import FoundSplits
from negserve.types.config import SamplerConfig, Slot


@dataclass(frozen=True, slots=True, eq=False)
class PinnedCandidates:
    """The candidates of a set, held in memory, and found by triple.

    :ivar evaluation_set: its manifest
    :ivar row_of: row of each triple
    :ivar candidates: by side, int64, shape (rows, n)
    :ivar masks: by side, bool, shape (rows, n), True where a candidate counts
    """

    evaluation_set: EvaluationSet
    row_of: Mapping[tuple[int, ...], int]
    candidates: Mapping[Slot, torch.Tensor]
    masks: Mapping[Slot, torch.Tensor]

    @classmethod
    def of(cls, found: FoundSplits, sampler: SamplerConfig, triples: torch.Tensor) -> Self:
        """Draw the candidates of some triples.

        :param found: where triples and known triples are
        :param sampler: what to draw, but for the splits of the filter
        :param triples: integer ids, shape (n, 3)
        :raises NegserveError: as the server says
        """
        rows = triples.cpu().numpy()
        config = replace(sampler, filter_splits=found.splits)
        made = EvaluationSet.create(found.factory, config, triples=rows)
        candidates: dict[Slot, list[torch.Tensor]] = {side: [] for side in made.sides}
        masks: dict[Slot, list[torch.Tensor]] = {side: [] for side in made.sides}
        for batch in made.batches(found.factory, triples=rows):
            candidates[batch.side].append(torch.from_numpy(batch.candidates.astype("int64")))
            masks[batch.side].append(torch.from_numpy(batch.mask.copy()))
        ordered = made.rows(found.factory, triples=rows).tolist()
        return cls(
            made,
            {tuple(triple): row for row, triple in enumerate(ordered)},
            {side: torch.cat(parts) for side, parts in candidates.items()},
            {side: torch.cat(parts) for side, parts in masks.items()},
        )

    def of_batch(self, triples: torch.Tensor, side: Slot) -> tuple[torch.Tensor, torch.Tensor]:
        """Give candidates and mask of some of the triples, on their device, shape (m, n) each."""
        rows = torch.tensor([self.row_of[tuple(triple)] for triple in triples.tolist()])
        device = triples.device
        return self.candidates[side][rows].to(device), self.masks[side][rows].to(device)
