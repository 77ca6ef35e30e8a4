"""The process that reads many epoch streams, see :mod:`.load`.

Streams are read by ``negserve.aio``, as in a process that has many of them: one event loop, and a
task for each stream, which rebuilds whole int64 triples. Or by grpcio alone, which takes the bytes
of each message and drops them: what those streams get is what the server gives. All share one
connection. The client may be that of an older checkout: only what both offer to the public is used.

Reads one JSON object a line, and answers with one.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import numpy as np
import torch

import negserve
import negserve.aio
from benchmarks.measured.plain_grpc import OPENING
from negserve import EpochConfig, SamplerConfig
from negserve.v1 import sampler_pb2 as pb

#: Positives of all ranks' batches, and ranks: a rank has few positives, and its epoch one message.
_TINY_BATCH, _TINY_WORLD = 8, 65_536
#: Batches and messages after which a stream has used up what was read ahead before the start.
_SETTLED = 8
_PATIENCE_SECONDS = 60
_METHOD = "/negserve.v1.SamplerService/SampleEpoch"
_MOST_EPOCHS = 2**32 - 1
_TINY_SAMPLER = SamplerConfig(kind="bernoulli", filter_splits=("training",))


def _tiny(number: int) -> EpochConfig:
    return EpochConfig(batch_size=_TINY_BATCH, world_size=_TINY_WORLD, rank=number % _TINY_WORLD)


def _request(dataset: str, sampler: SamplerConfig, epoch: EpochConfig, most: int) -> bytes:
    """Encode a request of Bernoulli's kind.

    :param most: most epochs of the stream; an older server gives one, whatever is asked
    """
    request = pb.SampleEpochRequest(
        dataset=dataset,
        sampler=pb.SamplerConfig(
            kind=pb.SAMPLER_KIND_BERNOULLI,
            num_negs_per_pos=sampler.num_negs_per_pos,
            corruption_scheme=[pb.SLOT_HEAD, pb.SLOT_TAIL],
            filter_splits=[pb.SPLIT_TRAINING],
            filter_mode=pb.FILTER_MODE_EXACT,
            chunk_size=1,
            seed=sampler.seed,
        ),
        batch_size=epoch.batch_size,
        rank=epoch.rank,
        world_size=epoch.world_size,
        tail=pb.TAIL_RULE_DROP if epoch.tail == "drop" else pb.TAIL_RULE_SHORT,
    )
    if "num_epochs" in pb.SampleEpochRequest.DESCRIPTOR.fields_by_name:
        request.num_epochs = most
    return request.SerializeToString()


class _Stream(ABC):
    """One stream, read by a task: a little, and from the start on as fast as it can.

    :param start: when the rest is read: once all streams are open
    :ivar moments: when each batch had been rebuilt, or each message had arrived
    :ivar counts: negatives of each
    """

    def __init__(self, start: asyncio.Event) -> None:
        self.moments: list[float] = []
        self.counts: list[int] = []
        self.has_begun = asyncio.Event()
        self._start = start
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for count in self._counts():
            self.counts.append(count)
            self.moments.append(time.perf_counter())
            self.has_begun.set()
            await self._start.wait()

    @abstractmethod
    def _counts(self) -> AsyncIterator[int]:
        """Iterate over the negatives of each batch or message."""


class _TriplesStream(_Stream):
    """A stream of ``negserve.aio``, whose batches are rebuilt as triples."""

    def __init__(self, stream: negserve.aio.EpochStream, start: asyncio.Event) -> None:
        self._stream = stream
        super().__init__(start)

    async def _counts(self) -> AsyncIterator[int]:
        while True:
            async for batch in self._stream:
                triples = torch.from_numpy(batch.negative_triples())
                count = triples.shape[0] * triples.shape[1]
                del triples, batch  # a trainer has one batch at a time, whatever its streams are
                yield count


class _BytesStream(_Stream):
    """A stream of grpcio alone, whose messages are dropped; where it ends, the next one begins.

    :param method: what is called
    :param batch_negatives: negatives of a batch
    """

    def __init__(
        self, method: Any, request: bytes, batch_negatives: int, start: asyncio.Event
    ) -> None:
        self._method = method
        self._request = request
        self._batch_negatives = batch_negatives
        super().__init__(start)

    async def _counts(self) -> AsyncIterator[int]:
        batch_bytes = 0.0
        while True:
            call = self._method(self._request)
            await call.read()  # configured
            while (data := await call.read()) is not grpc.aio.EOF:
                if not batch_bytes:
                    first = pb.SampleEpochResponse.FromString(data)
                    batch_bytes = len(data) / len(first.batches.batches)
                yield self._batch_negatives * round(len(data) / batch_bytes)


class StreamClient:
    """Opens streams of a server, measures and closes them.

    :param client: of that server
    :param target: the server
    :param plain: address of a server of :mod:`benchmarks.measured.plain_grpc`
    """

    def __init__(self, client: negserve.aio.Client, target: str, plain: str) -> None:
        torch.set_num_threads(1)
        self._client = client
        self._target = target
        self._channel = grpc.aio.insecure_channel(
            target, options=[("grpc.max_receive_message_length", -1)]
        )
        self._plain = plain
        self._streams: list[_Stream] = []

    async def open(
        self, dataset: str, streams: int, batch_size: int, k: int, world_size: int, reader: str
    ) -> dict[str, Any]:
        """Open streams, and wait until each has delivered something since the start of all.

        :param world_size: 1 for independent streams, of a seed each; else the streams are its ranks
        :param reader: who reads them, ``negserve.aio`` or ``grpcio``
        """
        factory = await self._client.triples_factory(dataset)
        start = asyncio.Event()
        for number in range(streams):
            sampler = SamplerConfig(
                kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",),
                seed=number if world_size == 1 else 0,
            )  # fmt: skip
            epoch = EpochConfig(
                batch_size=batch_size, tail="drop", world_size=world_size,
                rank=number % world_size,
            )  # fmt: skip
            stream: _Stream
            if reader == "grpcio":
                request = _request(dataset, sampler, epoch, _MOST_EPOCHS)
                method: Any = self._channel.unary_stream(_METHOD)
                stream = _BytesStream(method, request, batch_size * k, start)
            else:
                stream = _TriplesStream(factory.epochs(sampler, epoch), start)
            self._streams.append(stream)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for stream in self._streams:
                await stream.has_begun.wait()
        start.set()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while any(len(stream.moments) < _SETTLED for stream in self._streams):
                await asyncio.sleep(0.01)
        return {}

    async def measure(self, seconds: float) -> dict[str, Any]:
        """Let all streams run for some seconds.

        :return: negatives of each stream, and milliseconds from one batch or message of a stream
            to the next
        """
        begin = time.perf_counter()
        await asyncio.sleep(seconds)
        end = time.perf_counter()
        negatives, intervals, number = [], [], 0
        for stream in self._streams:
            moments = stream.moments
            first, last = bisect_left(moments, begin), bisect_left(moments, end)
            negatives.append(sum(stream.counts[first:last]))
            number += last - first
            # From the one before the measurement on; a stream that has none waits all along.
            ended = np.diff(moments[max(0, first - 1) : last])
            intervals += ended.tolist() if len(ended) else [end - moments[last - 1]]
        return {
            "elapsed": end - begin,
            "negatives": negatives,
            "p50_ms": 1e3 * float(np.median(intervals)),
            "p99_ms": 1e3 * float(np.quantile(intervals, 0.99)),
            "fair_share_ms": 1e3 * (end - begin) * len(self._streams) / number,
        }

    async def close(self) -> dict[str, Any]:
        """End all streams."""
        for stream in self._streams:
            stream.task.cancel()
        await asyncio.gather(*(stream.task for stream in self._streams), return_exceptions=True)
        self._streams = []
        return {}

    async def open_tiny(self, dataset: str, number: int, reader: str) -> dict[str, Any]:
        """Open streams of one message with a few positives, one after the other, to their ends.

        :param reader: who reads them: ``negserve``, ``negserve.aio`` or ``grpcio``; or ``plain``,
            grpcio that reads as many messages from a server of grpcio alone
        :return: processor time and duration of one, in milliseconds
        """
        factory = await self._client.triples_factory(dataset)
        epochs = range(-number // 10, number)  # the first ones warm both sides up
        steps: Iterator[Any] | AsyncIterator[Any]
        if reader == "negserve":
            steps = _opened(self._target, dataset, epochs)
        elif reader == "negserve.aio":
            steps = _opened_by_tasks(factory, epochs)
        else:
            method = _METHOD if reader == "grpcio" else OPENING
            async with grpc.aio.insecure_channel(self._plain) as plain:
                channel = self._channel if reader == "grpcio" else plain
                requests = [_request(dataset, _TINY_SAMPLER, _tiny(at), 1) for at in epochs]
                return await _timed(_read(channel.unary_stream(method), requests), number)
        return await _timed(steps, number)


def _opened(target: str, dataset: str, epochs: range) -> Iterator[None]:
    with negserve.Client(target) as client:
        factory = client.triples_factory(dataset)
        for at in epochs:
            stream = factory.epochs(_TINY_SAMPLER, _tiny(at), prefetch=1)
            stream.reads_on = False
            assert sum(len(batch.positives) for batch in stream) <= _TINY_BATCH
            yield


async def _opened_by_tasks(
    factory: negserve.aio.RemoteTriplesFactory, epochs: range
) -> AsyncIterator[None]:
    for at in epochs:
        stream = factory.epochs(_TINY_SAMPLER, _tiny(at), prefetch=1)
        stream.reads_on = False
        async for _ in stream:
            pass
        yield


async def _read(method: Any, requests: list[bytes]) -> AsyncIterator[None]:
    for request in requests:
        call = method(request)
        while await call.read() is not grpc.aio.EOF:
            pass
        yield


async def _timed(steps: Iterator[Any] | AsyncIterator[Any], number: int) -> dict[str, Any]:
    """Time the last steps of some more, once the first are done."""
    left = number + number // 10
    cpu = begin = 0.0

    def done() -> None:
        nonlocal left, cpu, begin
        left -= 1
        if left == number:
            cpu, begin = time.process_time(), time.perf_counter()
            print(json.dumps({"warm": True}), flush=True)

    if isinstance(steps, Iterator):
        for _ in steps:
            done()
    else:
        async for _ in steps:
            done()
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - begin
    return {"client_ms": 1e3 * cpu / number, "ms": 1e3 * elapsed / number}


async def main(target: str, plain: str) -> None:
    """Answer requests until the input ends."""
    async with negserve.aio.Client(target) as connected:
        client = StreamClient(connected, target, plain)
        while line := await asyncio.to_thread(sys.stdin.readline):
            request = json.loads(line)
            answer = await getattr(client, request.pop("do"))(**request)
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
