"""The process that reads many epoch streams, see :mod:`.load`.

Each stream has a thread of its own, which rebuilds whole int64 triples. They share the connection
that a client has: of 256 connections, the threads in one process would be what is measured.

Reads one JSON object a line, and answers with one. It imports of negserve only what trainers do, so
that it runs with the client of an older checkout, too.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from bisect import bisect_left
from typing import Any

import numpy as np
import torch

from negserve import Client, EpochConfig, SamplerConfig

#: Positives of all ranks' batches, and ranks: a rank has few positives, and its epoch one message.
_TINY_BATCH, _TINY_WORLD = 8, 65_536
#: Messages after which a stream has used up what was read ahead before the start.
_SETTLED = 8


class _Stream:
    """One stream, read by a thread: one batch, and from the start on as fast as it can.

    :param start: when the other batches are read; opening the next stream would take long beside
        those that run
    :ivar moments: when each batch had arrived, and been rebuilt
    :ivar counts: negatives of each batch
    """

    def __init__(
        self, client: Client, dataset: str, sampler: SamplerConfig, epoch: EpochConfig,
        start: threading.Event,
    ) -> None:  # fmt: skip
        self._stream = client.triples_factory(dataset).epochs(sampler, epoch)
        self.moments: list[float] = []
        self.counts: list[int] = []
        self.has_begun = threading.Event()
        self._start = start
        self._is_wanted = True
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._is_wanted:
            for batch in self._stream:
                triples = torch.from_numpy(batch.negative_triples())
                self.counts.append(triples.shape[0] * triples.shape[1])
                self.moments.append(time.perf_counter())
                self.has_begun.set()
                self._start.wait()
                if not self._is_wanted:
                    break

    def stop(self) -> None:
        """Ask the thread to end."""
        self._is_wanted = False

    def join(self) -> None:
        """Wait for the thread's end."""
        self._thread.join()


class StreamClient:
    """Opens streams of a server, measures and closes them."""

    def __init__(self, target: str) -> None:
        torch.set_num_threads(1)
        self._target = target
        self._client = Client(target)
        self._streams: list[_Stream] = []

    def open(
        self, dataset: str, streams: int, batch_size: int, k: int, world_size: int
    ) -> dict[str, Any]:
        """Open streams, and wait until each has delivered some batches since the start of all.

        :param world_size: 1 for independent streams, of a seed each; else the streams are its ranks
        """
        start = threading.Event()
        for number in range(streams):
            sampler = SamplerConfig(
                kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",),
                seed=number if world_size == 1 else 0,
            )  # fmt: skip
            epoch = EpochConfig(
                batch_size=batch_size, tail="drop", world_size=world_size,
                rank=number % world_size,
            )  # fmt: skip
            self._streams.append(_Stream(self._client, dataset, sampler, epoch, start))
            if not self._streams[-1].has_begun.wait(60):
                raise TimeoutError(f"{self._target}: a stream delivers nothing for 60 s")
        start.set()
        until = time.monotonic() + 60
        while any(len(stream.moments) < _SETTLED for stream in self._streams):
            if time.monotonic() > until:
                raise TimeoutError(f"{self._target}: a stream delivers too little for 60 s")
            time.sleep(0.01)
        return {}

    def measure(self, seconds: float) -> dict[str, Any]:
        """Let all streams run for some seconds.

        :return: negatives of each stream, and milliseconds from one message of a stream to the next
        """
        begin = time.perf_counter()
        time.sleep(seconds)
        end = time.perf_counter()
        negatives, intervals = [], []
        for stream in self._streams:
            moments = list(stream.moments)
            first, last = bisect_left(moments, begin), bisect_left(moments, end)
            negatives.append(sum(stream.counts[first:last]))
            # From the message before the measurement on; a stream that has none waits all along.
            ended = np.diff(moments[max(0, first - 1) : last])
            intervals += ended.tolist() if len(ended) else [end - moments[last - 1]]
        return {
            "elapsed": end - begin,
            "negatives": negatives,
            "p50_ms": 1e3 * float(np.median(intervals)),
            "p99_ms": 1e3 * float(np.quantile(intervals, 0.99)),
            "messages": len(intervals),
        }

    def close(self) -> dict[str, Any]:
        """End all streams."""
        for stream in self._streams:
            stream.stop()
        for stream in self._streams:
            stream.join()
        self._streams = []
        return {}

    def open_tiny(self, dataset: str, number: int) -> dict[str, Any]:
        """Open streams of one message with a few positives, one after the other, to their ends.

        :return: processor time and duration of one, in milliseconds
        """
        sampler = SamplerConfig(kind="bernoulli", filter_splits=("training",))
        factory = self._client.triples_factory(dataset)
        cpu = begin = 0.0
        for at in range(-number // 10, number):  # the first ones warm both sides up
            if at == 0:
                cpu, begin = time.process_time(), time.perf_counter()
                print(json.dumps({"warm": True}), flush=True)
            epoch = EpochConfig(
                batch_size=_TINY_BATCH, world_size=_TINY_WORLD, rank=at % _TINY_WORLD
            )
            stream = factory.epochs(sampler, epoch, prefetch=1)
            stream.reads_on = False  # unknown to older checkouts, which never did
            assert sum(len(batch.positives) for batch in stream) <= _TINY_BATCH
        cpu, elapsed = time.process_time() - cpu, time.perf_counter() - begin
        return {"client_ms": 1e3 * cpu / number, "ms": 1e3 * elapsed / number}


def main(target: str) -> None:
    """Answer requests until the input ends."""
    client = StreamClient(target)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(client, request.pop("do"))(**request)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
