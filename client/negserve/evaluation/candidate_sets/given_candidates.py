"""Candidate sets that others published, checked against a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.candidate_sets.candidate_table import CandidateTable
from negserve.evaluation.evaluated_graph import as_array, splits_to_filter, triples_to_evaluate
from negserve.types.config import SLOTS, Slot
from negserve.types.triples import check_ids, narrowest_dtype
from negserve.types.triples_factory import TriplesFactory

#: Most candidates that are looked up at once, each a triple of 24 bytes.
_LOOKED_UP = 2**20


@dataclass(frozen=True, eq=False)
class GivenCandidates:
    """Candidates from elsewhere, and what is wrong with them.

    :ivar table: the candidates; masked where they are known triples of the graph, or the true
        answer itself
    :ivar num_known: by side, candidates that are known triples
    :ivar num_targets: by side, candidates that are the true answer of their query
    :ivar splits: whose triples count as known
    """

    table: CandidateTable
    num_known: Mapping[Slot, int]
    num_targets: Mapping[Slot, int]
    splits: tuple[str, ...]

    def __str__(self) -> str:
        """Report the counts."""
        return "; ".join(
            f"{side}: {self.table.candidates[side].size} candidates, {self.num_known[side]} known "
            f"in {', '.join(self.splits)} and {self.num_targets[side]} equal to the true answer, "
            f"all masked"
            for side in self.num_known
        )


@dataclass(frozen=True, eq=False)
class GivenNegatives:
    """Negative triples from elsewhere, and what is wrong with them.

    :ivar triples: int64, shape (n, 3)
    :ivar mask: bool, shape (n,), False where a negative is a known triple of the graph
    :ivar num_known: how many are
    :ivar splits: whose triples count as known
    """

    triples: NDArray[np.int64]
    mask: NDArray[np.bool_]
    num_known: int
    splits: tuple[str, ...]


def candidates_from_ogb(
    graph: TriplesFactory, arrays: Mapping[str, Any], splits: Sequence[str] | None = None
) -> GivenCandidates:
    """Take a split of OGB's ``ogbl-wikikg2``, or of data like it.

    :param graph: a triples factory, remote or in process, with the ids of the arrays
    :param arrays: ``dataset.get_edge_split()["valid"]`` or ``["test"]``: integer tensors or arrays
        ``head``, ``relation`` and ``tail``, shape (m,), and at least one of ``head_neg`` and
        ``tail_neg``, shape (m, n)
    :param splits: whose triples count as known; None for all of the graph
    :raises InvalidRequestError: for a missing array, another shape, or an id outside the graph,
        naming array, row and value
    """
    missing = [name for name in ("head", "relation", "tail") if name not in arrays]
    sides: list[Slot] = [side for side in SLOTS if f"{side}_neg" in arrays and side != "relation"]
    if missing or not sides:
        raise InvalidRequestError(
            f"arrays lack {', '.join(missing) or 'head_neg and tail_neg'}; give a split of "
            f"get_edge_split()"
        )
    columns = [_ids(name, arrays[name], 1, graph) for name in ("head", "relation", "tail")]
    if len({len(column) for column in columns}) > 1:
        raise InvalidRequestError(
            f"head, relation and tail have {[len(column) for column in columns]} ids; give one of "
            f"each for each triple"
        )
    positives = np.stack(columns, axis=1)
    candidates = {side: _ids(f"{side}_neg", arrays[f"{side}_neg"], 2, graph) for side in sides}
    for side, values in candidates.items():
        if len(values) != len(positives):
            raise InvalidRequestError(
                f"{side}_neg has {len(values)} rows for {len(positives)} triples; give one each"
            )
    return _checked(graph, positives, candidates, splits)


def negatives_from_triples(
    graph: TriplesFactory, negatives: ArrayLike, splits: Sequence[str] | None = None
) -> GivenNegatives:
    """Take negatives that are whole triples, such as those of CoDEx, which people verified.

    They need not belong to positives one by one, so they serve classification, not ranking.

    :param graph: a triples factory, remote or in process, with the ids of the triples
    :param negatives: integer ids, shape (n, 3)
    :param splits: whose triples count as known; None for all of the graph
    :raises InvalidRequestError: for another shape, or an id outside the graph, naming row and value
    """
    triples = triples_to_evaluate(graph, negatives, split=None)
    chosen = splits_to_filter(graph, splits)
    known = graph.contains(triples, chosen)
    return GivenNegatives(triples, ~known, int(known.sum()), chosen)


def _checked(
    graph: TriplesFactory,
    positives: NDArray[np.int64],
    candidates: Mapping[Slot, NDArray[np.int64]],
    splits: Sequence[str] | None,
) -> GivenCandidates:
    chosen = splits_to_filter(graph, splits)
    masks: dict[Slot, NDArray[np.bool_]] = {}
    num_known: dict[Slot, int] = {}
    num_targets: dict[Slot, int] = {}
    for side, values in candidates.items():
        column = SLOTS.index(side)
        known = np.zeros(values.shape, dtype=np.bool_)
        step = max(1, _LOOKED_UP // max(1, values.shape[1]))
        for start in range(0, len(values), step):
            part = values[start : start + step]
            triples = np.repeat(positives[start : start + step], values.shape[1], axis=0)
            triples[:, column] = part.ravel()
            known[start : start + step] = graph.contains(triples, chosen).reshape(part.shape)
        is_target = values == positives[:, column, None]
        masks[side] = ~(known | is_target)
        num_known[side] = int((known & ~is_target).sum())
        num_targets[side] = int(is_target.sum())
    dtype = narrowest_dtype(graph.num_entities)
    table = CandidateTable(
        positives, {side: values.astype(dtype) for side, values in candidates.items()}, masks
    )
    return GivenCandidates(table, num_known, num_targets, chosen)


def _ids(name: str, values: object, ndim: int, graph: TriplesFactory) -> NDArray[np.int64]:
    array = as_array(name, values)
    if array.ndim != ndim or not np.issubdtype(array.dtype, np.integer):
        shape = "(m,)" if ndim == 1 else "(m, n)"
        raise InvalidRequestError(
            f"{name} is {array.dtype} of shape {array.shape}; give integer ids of shape {shape}",
            reason="SHAPE_MISMATCH",
            metadata={"field": name, "value": str(array.shape), "expected": shape},
        )
    is_relation = name == "relation"
    check_ids(name, array, graph.num_relations if is_relation else graph.num_entities, is_relation)
    return array.astype(np.int64)
