"""The numbers of the status page: read on the event loop, for threads that wait."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

from negserve_server.access.message_times import NO_TIMES, MeanTimes
from negserve_server.administration.server_control import Controlled
from negserve_server.administration.server_status import ServerStatus
from negserve_server.graph import TriplesFactory
from negserve_server.pages.refused_request import RefusedRequest
from negserve_server.publishing.datasets import Datasets

_T = TypeVar("_T")

#: Datasets that a page names; clients may publish ever others.
MOST_DATASETS = 100
#: Numbers so young are shown again, so that many visitors cost as much as one.
_FRESH_SECONDS = 1.0
#: Rates are those since a reading of this age at most.
_MOST_RATE_SECONDS = 30.0
#: How long the event loop, or another worker, may take.
_ANSWER_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class GraphCounts:
    """Numbers of triples and ids of a graph.

    :ivar triples: number of triples, by split
    :ivar num_entities: size of the entity id space
    :ivar num_relations: likewise for relations
    """

    triples: Mapping[str, int]
    num_entities: int
    num_relations: int

    @classmethod
    def of(cls, factory: TriplesFactory) -> GraphCounts:
        """Take it of a graph."""
        triples = {split: len(columns) for split, columns in factory.columns.items()}
        return cls(triples, factory.num_entities, factory.num_relations)


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a server held and had done at a moment, all workers together.

    :ivar status: of the server
    :ivar sizes: of the graphs, by dataset
    :ivar read_at: of the monotonic clock
    :ivar negatives_a_second: by dataset; None where that is not known
    :ivar message_means: of messages of negatives, by dataset; None where there was none
    :ivar rate_seconds: for how long these are means
    """

    status: ServerStatus
    sizes: Mapping[str, GraphCounts]
    read_at: float
    negatives_a_second: Mapping[str, float | None] = field(default_factory=dict)
    message_means: Mapping[str, MeanTimes | None] = field(default_factory=dict)
    rate_seconds: float = 0.0

    def since(self, before: Numbers) -> Numbers:
        """Give these numbers with the rates since earlier ones."""
        seconds = self.read_at - before.read_at
        drawn = {each.name: each.num_negatives for each in before.status.datasets}
        rates = {
            # A worker that was killed takes its counts along.
            each.name: (each.num_negatives - drawn[each.name]) / seconds
            if 0 <= drawn.get(each.name, -1) <= each.num_negatives
            else None
            for each in self.status.datasets
        }
        times = {each.name: each.times for each in before.status.datasets}
        means = {
            each.name: each.times.means_since(times.get(each.name, NO_TIMES))
            for each in self.status.datasets
        }
        return Numbers(self.status, self.sizes, self.read_at, rates, means, seconds)


class ServerNumbers:
    """Reads numbers and graphs, which belong to the event loop, from threads of visitors.

    :param loop: of the server
    :param control: gives the status, of all workers together
    :param datasets: the graphs
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, control: Controlled, datasets: Datasets
    ) -> None:
        self._loop = loop
        self._control = control
        self._datasets = datasets
        self._lock = threading.Lock()
        self._last: Numbers | None = None

    def read(self) -> Numbers:
        """Give the numbers, with rates; the first visitor after a pause waits a second for these.

        :raises RefusedRequest: if the event loop or a worker does not answer
        """
        with self._lock:
            last, now = self._last, time.monotonic()
            if last is not None and now - last.read_at < _FRESH_SECONDS:
                return last
            if last is None or now - last.read_at > _MOST_RATE_SECONDS:
                last = self._on_loop(self._read())
                time.sleep(_FRESH_SECONDS)
            self._last = numbers = self._on_loop(self._read()).since(last)
            return numbers

    def names(self) -> list[str]:
        """Give the names of the datasets, :data:`MOST_DATASETS` at most.

        :raises RefusedRequest: if the event loop does not answer
        """

        async def first_names() -> list[str]:
            return list(islice(self._datasets, MOST_DATASETS))

        return self._on_loop(first_names())

    def find(self, name: str) -> TriplesFactory:
        """Give a graph.

        :raises InvalidInput: if there is none of that name
        :raises RefusedRequest: if the event loop does not answer
        """

        async def find() -> TriplesFactory:
            return self._datasets.find(name)

        return self._on_loop(find())

    async def _read(self) -> Numbers:
        status = await self._control.status()
        some = islice(self._datasets.items(), MOST_DATASETS)
        sizes = {name: GraphCounts.of(factory) for name, factory in some}
        return Numbers(status, sizes, time.monotonic())

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop is closed, as the process ends
            work.close()
            raise _no_answer() from None
        try:
            return future.result(_ANSWER_SECONDS)
        except (TimeoutError, CancelledError):
            future.cancel()
            raise _no_answer() from None


def _no_answer() -> RefusedRequest:
    return RefusedRequest(
        "503 Service Unavailable",
        f"the server has not answered for {_ANSWER_SECONDS:g} seconds; try again in a while",
    )
