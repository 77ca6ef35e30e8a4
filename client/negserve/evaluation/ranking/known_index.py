"""Known answers of queries as indices into a matrix of their scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from negserve.errors import InvalidRequestError
from negserve.evaluation.evaluated_graph import as_array, num_ids_of
from negserve.types.answers.known_values import KnownValues
from negserve.types.config import Slot
from negserve.types.triples_factory import TriplesFactory


@dataclass(frozen=True, eq=False)
class KnownIndex:
    """The known answers of n queries: positions in a matrix of scores, shape (n, num_ids).

    In order of rows, then columns, each once. 16 bytes per known answer.

    :ivar rows: the query, int64, shape (k,)
    :ivar columns: the id that is known, int64, shape (k,)
    :ivar shape: (n, num_ids)
    """

    rows: Tensor
    columns: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, values: KnownValues, num_ids: int, device: torch.device | str | None = None
    ) -> KnownIndex:
        """Make it of known values; ids cross to the device as int32 where that holds them."""
        width = np.int32 if num_ids <= 2**31 else np.int64
        counts = torch.from_numpy(values.counts).to(device)
        columns = torch.from_numpy(values.values.astype(width)).to(device).long()
        rows = torch.arange(len(counts), device=counts.device)
        return cls(rows.repeat_interleave(counts), columns, (len(counts), num_ids))

    def to(self, device: torch.device | str) -> KnownIndex:
        """Move it to a device; itself if it is there."""
        if self.rows.device == torch.device(device):
            return self
        return KnownIndex(self.rows.to(device), self.columns.to(device), self.shape)

    def check_fits(self, scores: Tensor) -> None:
        """Check the shape of a matrix of scores.

        :raises InvalidRequestError: for another one
        """
        if tuple(scores.shape) != self.shape:
            raise InvalidRequestError(
                f"scores have shape {tuple(scores.shape)}, but the known answers are of "
                f"{self.shape[0]} queries among {self.shape[1]} ids; for a part of the ids, name "
                f"them (candidates)"
            )

    def contains(self, candidates: Tensor) -> Tensor:
        """Tell which candidates are known answers of their query.

        :param candidates: ids, integers, shape (n, m)
        :return: bool, on the device of the index, shape (n, m)
        :raises InvalidRequestError: for another number of rows, or ids outside the id space
        """
        n, num_ids = self.shape
        candidates = candidates.to(self.rows.device, torch.int64)
        if candidates.ndim != 2 or len(candidates) != n:
            raise InvalidRequestError(
                f"candidates have shape {tuple(candidates.shape)}; give ({n}, m): those of each "
                f"of the {n} queries"
            )
        if ((candidates < 0) | (candidates >= num_ids)).any():
            raise InvalidRequestError(f"candidates have an id that is not from 0 to {num_ids - 1}")
        if len(self.rows) == 0:
            return torch.zeros_like(candidates, dtype=torch.bool)
        cells = self.rows * num_ids + self.columns
        first = torch.arange(n, device=cells.device).unsqueeze(1) * num_ids
        wanted = first + candidates
        at = torch.searchsorted(cells, wanted).clamp_(max=len(cells) - 1)
        return cells[at] == wanted


def known(
    graph: TriplesFactory,
    pairs: ArrayLike | Tensor,
    slot: Slot,
    splits: Sequence[str],
    *,
    device: torch.device | str | None = None,
) -> KnownIndex:
    """Ask for the known answers of queries, as index tensors.

    :param graph: a triples factory, remote, in process or computed on the client
    :param pairs: the two ids that each query gives, in the order head, relation, tail, integers,
        shape (n, 2)
    :param slot: the one that is asked for
    :param splits: names of the splits whose triples are known, at least one
    :param device: where the tensors go, such as that of the scores
    :raises NegserveError: as :meth:`negserve.RemoteTriplesFactory.known`
    """
    found = graph.known(as_array("pairs", pairs), slot, splits)
    return KnownIndex.of(found, num_ids_of(graph, slot), device)


def mask_known(
    scores: Tensor,
    index: KnownIndex,
    targets: Tensor,
    *,
    candidates: Tensor | None = None,
    value: float = -math.inf,
) -> Tensor:
    """Overwrite the scores of known answers other than the target, in place.

    This is for what selects by scores, such as ``topk``. For ranks give the index itself to
    :func:`negserve.evaluation.ranks`, which tells what is masked from what scores -inf.

    :param scores: shape (n, num_ids); with ``candidates`` (n, m). They are changed
    :param index: known answers of the n queries
    :param targets: id of each query's target, whose score stays, integers, shape (n,)
    :param candidates: the ids that the columns stand for, row by row, integers, shape (n, m)
    :param value: what known answers get
    :return: ``scores``
    :raises InvalidRequestError: for shapes that do not fit each other
    """
    if len(targets) != len(scores) or targets.ndim != 1:
        raise InvalidRequestError(
            f"targets have shape {tuple(targets.shape)}; give one for each of the "
            f"{len(scores)} rows of the scores"
        )
    index = index.to(scores.device)
    targets = targets.to(scores.device, torch.int64)
    if candidates is None:
        index.check_fits(scores)
        is_other = index.columns != targets[index.rows]
        cells = index.rows[is_other], index.columns[is_other]
        return scores.index_put_(cells, torch.tensor(value, device=scores.device).to(scores.dtype))
    if candidates.shape != scores.shape:
        raise InvalidRequestError(
            f"candidates have shape {tuple(candidates.shape)}, the scores {tuple(scores.shape)}; "
            f"give the id of each column of each row"
        )
    is_target = candidates.to(scores.device) == targets.unsqueeze(1)
    return scores.masked_fill_(index.contains(candidates) & ~is_target, value)
