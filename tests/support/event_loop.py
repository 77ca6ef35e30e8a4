"""The asyncio client behind a blocking interface."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve import CorruptedBatch, KnownValues, aio
from negserve.types.config import Slot

_T = TypeVar("_T")
_SECONDS = 120


class EventLoop:
    """An event loop in a separate thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_SECONDS)

    def close(self) -> None:
        """End the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()


async def _next_of(answers: AsyncIterator[_T]) -> _T | None:
    return await anext(answers, None)


class BlockingSampler:
    """A sampler for asyncio that satisfies ``negserve.sampling.ConfiguredSampler``."""

    def __init__(self, loop: EventLoop, sampler: aio.RemoteSampler) -> None:
        self._loop = loop
        self._sampler = sampler

    def sample(self, positives: ArrayLike, position: int) -> CorruptedBatch:
        return self._loop.run(self._sampler.sample(positives, position))

    def stream(
        self, batches: Iterable[tuple[ArrayLike, int]], ahead: int = 4
    ) -> Generator[CorruptedBatch, None, None]:
        return self._iterate(self._sampler.stream(batches, ahead))

    def parts(self, positives: ArrayLike, position: int) -> Generator[CorruptedBatch, None, None]:
        return self._iterate(self._sampler.parts(positives, position))

    def _iterate(
        self, answers: AsyncGenerator[CorruptedBatch, None]
    ) -> Generator[CorruptedBatch, None, None]:
        try:
            while (batch := self._loop.run(_next_of(answers))) is not None:
                yield batch
        finally:
            self._loop.run(answers.aclose())

    def close(self) -> None:
        self._loop.run(self._sampler.close())


class BlockingFactory:
    """A factory for asyncio that satisfies ``negserve.sampling.TriplesFactory``."""

    def __init__(self, loop: EventLoop, factory: aio.RemoteTriplesFactory) -> None:
        self._loop = loop
        self._factory = factory
        self.fingerprint = factory.fingerprint
        self.split_fingerprints = factory.split_fingerprints
        self.num_entities = factory.num_entities
        self.num_relations = factory.num_relations

    def open_sampler(self, **options: Any) -> BlockingSampler:
        return BlockingSampler(self._loop, self._loop.run(self._factory.open_sampler(**options)))

    def contains(self, triples: ArrayLike, splits: Sequence[str]) -> NDArray[np.bool_]:
        return self._loop.run(self._factory.contains(triples, splits))

    def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        return self._loop.run(self._factory.known(pairs, slot, splits))
