"""The queries of an evaluation: in batches, with their known answers read ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve.evaluation.evaluated_graph import kept_columns, num_ids_of
from negserve.types.answers.known_values import KnownValues
from negserve.types.config import SLOTS, Slot
from negserve.types.triples_factory import TriplesFactory

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


def query_batches(
    graph: TriplesFactory,
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
    graph: TriplesFactory,
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
