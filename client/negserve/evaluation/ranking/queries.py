"""The queries of an evaluation: in batches, with their known answers read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.ranking.protocols import EvaluationGraph
from negserve.terminal.nearest import did_you_mean
from negserve.types.config import SLOTS, Slot
from negserve.types.known_values import KnownValues
from negserve.types.triples import as_triples

#: Batches whose known answers are asked for while an earlier one is scored.
_AHEAD = 2
#: Scores of a batch, where the caller does not say how large it is: 64 MiB as float32.
_SCORES_AT_ONCE = 2**24
_MOST_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class QueryBatch:
    """Queries of one slot.

    :ivar slot: what is asked for
    :ivar begin: number of the first query, among those of all slots
    :ivar pairs: the given ids, int64, shape (n, 2)
    :ivar targets: the id that completes the triple, int64, shape (n,)
    """

    slot: Slot
    begin: int
    pairs: NDArray[np.int64]
    targets: NDArray[np.int64]


def find_triples(
    graph: EvaluationGraph, triples: ArrayLike | torch.Tensor | None, split: str | None
) -> NDArray[np.int64]:
    """Return the triples to evaluate, checked, shape (n, 3).

    :raises InvalidRequestError: if not exactly one of both is given, for no triples, for ids
        outside the id space, and for the split of a graph that can't give its triples
    """
    if iscoroutinefunction(graph.known):
        raise InvalidRequestError(
            "the triples factory is one for asyncio, and evaluate() blocks; take it from "
            "negserve.Client"
        )
    if (triples is None) == (split is None):
        raise InvalidRequestError("give either the triples to evaluate, or the name of their split")
    if isinstance(triples, torch.Tensor):
        triples = triples.detach().cpu().numpy()
    rows = as_triples(_triples_of(graph, split) if split is not None else np.asarray(triples))
    if len(rows) == 0:
        raise InvalidRequestError("there are no triples to evaluate")
    for column, slot in enumerate(SLOTS):
        num_ids = num_ids_of(graph, slot)
        is_outside = (rows[:, column] < 0) | (rows[:, column] >= num_ids)
        if is_outside.any():
            row = int(is_outside.argmax())
            raise InvalidRequestError(
                f"the {slot} of triple {row} is {rows[row, column]}; ids of this graph are 0 to "
                f"{num_ids - 1}",
                reason=f"{'RELATION' if slot == 'relation' else 'ENTITY'}_ID_OUT_OF_RANGE",
                metadata={"row": str(row), "value": str(rows[row, column])},
            )
    return rows


def find_splits(graph: EvaluationGraph, splits: Sequence[str] | None) -> tuple[str, ...]:
    """Return the splits to filter by: all of the graph, where none are named.

    :raises InvalidRequestError: for a name given as one string
    """
    if isinstance(splits, str):
        raise InvalidRequestError(f"filter_splits={splits!r}; give a sequence: ({splits!r},)")
    if splits is not None:
        return tuple(splits)
    counts: Mapping[str, int] | None = getattr(graph, "num_triples_per_split", None)
    return tuple(_splits_of(graph) or ("training",)) if counts is None else tuple(counts)


def num_ids_of(graph: EvaluationGraph, slot: Slot) -> int:
    """Return the size of the id space of a slot."""
    return graph.num_relations if slot == "relation" else graph.num_entities


def kept_columns(slot: Slot) -> list[int]:
    """Return the columns of the ids that a query gives."""
    return [column for column, each in enumerate(SLOTS) if each != slot]


def query_batches(
    graph: EvaluationGraph,
    triples: NDArray[np.int64],
    slots: Sequence[Slot],
    batch_size: int | None,
) -> list[tuple[Slot, int, int]]:
    """Divide queries into batches: slot, first triple and end of each.

    They don't depend on how many ranks share them, so a model that scores a row differently in
    another batch still gives equal scores.
    """
    batches = []
    for slot in slots:
        fitting = min(max(_SCORES_AT_ONCE // num_ids_of(graph, slot), 1), _MOST_AT_ONCE)
        size = fitting if batch_size is None else batch_size
        batches += [
            (slot, begin, min(begin + size, len(triples))) for begin in range(0, len(triples), size)
        ]
    return batches


def read_ahead(
    graph: EvaluationGraph,
    triples: NDArray[np.int64],
    slots: Sequence[Slot],
    batches: Sequence[tuple[Slot, int, int]],
    splits: Sequence[str],
) -> Generator[tuple[QueryBatch, KnownValues | None]]:
    """Yield batches with their known answers; None for no splits.

    A thread asks for those of two further batches while the caller scores one.
    """

    def make(batch: tuple[Slot, int, int]) -> QueryBatch:
        slot, begin, end = batch
        rows = triples[begin:end]
        return QueryBatch(
            slot=slot,
            begin=slots.index(slot) * len(triples) + begin,
            pairs=np.ascontiguousarray(rows[:, kept_columns(slot)]),
            targets=np.ascontiguousarray(rows[:, SLOTS.index(slot)]),
        )

    if not splits:
        for batch in batches:
            yield make(batch), None
        return
    waiting: deque[tuple[QueryBatch, Future[KnownValues]]] = deque()
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="negserve-known")
    try:
        for each in batches:
            query = make(each)
            waiting.append((query, pool.submit(graph.known, query.pairs, query.slot, splits)))
            if len(waiting) > _AHEAD:
                ready, future = waiting.popleft()
                yield ready, future.result()
        while waiting:
            ready, future = waiting.popleft()
            yield ready, future.result()
    finally:
        # Whoever stops early, by Ctrl-C for one, does not wait for an answer that nobody reads.
        pool.shutdown(wait=False, cancel_futures=True)


def _splits_of(graph: Any) -> Mapping[str, ArrayLike] | None:
    """Return the triples by split of a graph that is in this process; None for a remote one."""
    splits: Mapping[str, ArrayLike] | None = getattr(graph, "splits", None)
    return splits


def _triples_of(graph: EvaluationGraph, split: str) -> ArrayLike:
    splits = _splits_of(graph)
    if splits is None:
        raise InvalidRequestError(
            f"a server does not send the triples of a split, so split={split!r} has to be given "
            f"as triples, shape (n, 3); or open the dataset with compute='client', which downloads "
            f"its snapshot"
        )
    if split not in splits:
        raise InvalidRequestError(
            f"the graph has no split {split!r}, but {', '.join(splits)}"
            f"{did_you_mean(split, splits)}"
        )
    return splits[split]
