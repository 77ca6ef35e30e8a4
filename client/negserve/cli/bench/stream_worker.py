"""A process that keeps streams busy, see :mod:`.stream_workers`.

Reads one JSON object a line, and answers with one: ``open`` opens the streams of a cell and lets
each answer once, ``measure`` keeps them busy for some seconds.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve.cli.bench.counting_client import CountingClient
from negserve.errors import NegserveError
from negserve.types.config import SamplerConfig
from negserve.types.epoch import EpochConfig
from negserve.types.warning_categories import LeakageWarning

#: Different batches that are sent in turn, so that the server has not just looked the same up.
_BATCHES = 8


class _Stream:
    """A stream with a connection of its own.

    :param seed: of its sampler, so that streams differ
    :ivar client: counts its bytes
    """

    def __init__(
        self, stack: ExitStack, client: dict[str, Any], dataset: str, sampler: dict[str, Any],
        call: str, batch_size: int, seed: int,
    ) -> None:  # fmt: skip
        self.client = stack.enter_context(CountingClient(**client))
        self._is_asked = call == "Sample"
        factory = self.client.triples_factory(dataset)
        sampler = {**sampler, "filter_splits": tuple(sampler["filter_splits"]), "seed": seed}
        if call == "Sample":
            self.step = _sample(stack, factory, sampler, batch_size)
        else:
            self.step = _read_epochs(stack, factory, sampler, batch_size)
        self.step()

    def measure(self, seconds: float) -> dict[str, Any]:
        """Step for some seconds, and until a message has arrived.

        :return: times of calls, or from one message to the next, in microseconds; negatives and
            bytes; and the seconds that it took
        """
        client = self.client
        num_read = len(client.arrivals)
        while len(client.arrivals) == num_read:
            self.step()  # what was read ahead of the measurement is not counted
        negatives, moments, num_before = 0, [time.perf_counter()], len(client.arrivals)
        sent, received = client.sent, client.received
        while moments[-1] < moments[0] + seconds or len(client.arrivals) == num_before:
            negatives += self.step()
            moments.append(time.perf_counter())
        elapsed = moments[-1] - moments[0]
        if not self._is_asked:
            # Of the messages, as one may have several batches: the next ones are there at once.
            moments = [moments[0], *client.arrivals[num_before:]]
        return {
            "microseconds": [round(1e6 * (after - before)) for before, after in pairwise(moments)],
            "negatives": negatives,
            "sent": client.sent - sent,
            "received": client.received - received,
            "elapsed": elapsed,
        }


def _sample(
    stack: ExitStack, factory: RemoteTriplesFactory, options: dict[str, Any], batch_size: int
) -> Callable[[], int]:
    batches = itertools.cycle(_positives(factory, batch_size))
    sampler = factory.open_sampler(**options)
    stack.callback(sampler.close)
    positions = itertools.count(step=batch_size)
    return lambda: int(sampler.sample(next(batches), next(positions)).replaced.size)


def _read_epochs(
    stack: ExitStack, factory: RemoteTriplesFactory, options: dict[str, Any], batch_size: int
) -> Callable[[], int]:
    stream = factory.epochs(
        SamplerConfig(**options), EpochConfig(batch_size=batch_size, tail="wrap")
    )

    def batches() -> Iterator[int]:
        while True:
            for batch in stream:
                yield int(batch.negatives.replaced.size)

    counts = batches()
    stack.callback(counts.close)  # type: ignore[attr-defined]
    return lambda: next(counts)


def _positives(factory: RemoteTriplesFactory, batch_size: int) -> NDArray[np.int64]:
    """Read some training triples, shape (batches, batch_size, 3); repeated if there are fewer."""
    found: list[NDArray[np.int64]] = []
    epoch = iter(factory.epochs(SamplerConfig(), EpochConfig(batch_size=1024), prefetch=1))
    for batch in epoch:
        found.append(batch.positives)
        if sum(map(len, found)) >= _BATCHES * batch_size:
            break
    epoch.close()  # type: ignore[attr-defined]
    return np.resize(np.concatenate(found), (_BATCHES, batch_size, 3))


class _Worker:
    """The streams of the cell at hand."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._streams: list[_Stream] = []

    def open(self, seeds: list[int], **options: Any) -> dict[str, Any]:
        """Open streams in place of those of the cell before."""
        self.close()
        self._streams = [_Stream(self._stack, seed=seed, **options) for seed in seeds]
        return {}

    def measure(self, seconds: float) -> dict[str, Any]:
        """Keep all streams busy at once."""
        cpu, begin = time.process_time(), time.perf_counter()
        with ThreadPoolExecutor(len(self._streams)) as pool:
            streams = list(pool.map(lambda stream: stream.measure(seconds), self._streams))
        elapsed, cpu = time.perf_counter() - begin, time.process_time() - cpu
        return {"streams": streams, "elapsed": elapsed, "cpu": cpu}

    def close(self) -> None:
        """End all streams."""
        self._stack.close()
        self._streams = []


def main() -> None:
    """Answer requests until the input ends."""
    warnings.simplefilter("ignore", LeakageWarning)  # nothing is trained
    worker = _Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(worker, request.pop("do"))(**request)
        except NegserveError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
    worker.close()


if __name__ == "__main__":
    main()
