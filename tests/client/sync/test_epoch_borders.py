"""From one epoch to the next: on one stream of the server, which is given up if it isn't wanted."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from negserve import Client, EpochConfig, SamplerConfig, UnavailableError
from negserve._protocol.epoch_progress import MOST_EPOCHS
from negserve._sync.interrupts import run_sync
from negserve.v1 import sampler_pb2 as pb
from tests.client.sync.test_epoch_stream import (
    NUM_BATCHES,
    Scripted,
    batch_at,
    configured,
    nothing,
    open_stream,
    positions,
    scripted,
    silence,
)
from tests.support.server_process import ServerProcess

__all__ = ["scripted"]

SECONDS = 30


def epochs(count: int, first: int = 0) -> Callable[..., Iterator[pb.SampleEpochResponse]]:
    """Send some batches, from one epoch to the next, and then nothing until the client leaves."""

    def part(start: int, context: grpc.ServicerContext) -> Iterator[pb.SampleEpochResponse]:
        yield configured(start)
        begin = first * NUM_BATCHES + start
        for position in range(begin, begin + count):
            batch = batch_at(position)
            batch.next_start = position % NUM_BATCHES + 1
            yield pb.SampleEpochResponse(batches=pb.EpochBatches(batches=[batch]))
        yield from silence(start, context)

    return part


def failing(part: Callable[..., Iterator[Any]], after: int) -> Callable[..., Iterator[Any]]:
    """Fail after some messages, as a proxy does."""

    def failed(start: int, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from itertools.islice(part(start, context), after)
        context.abort(grpc.StatusCode.UNAVAILABLE, "as the script says")

    return failed


def epoch(number: int) -> list[int]:
    """Positions of an epoch."""
    return list(range(number * NUM_BATCHES, (number + 1) * NUM_BATCHES))


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "negserve-epoch"]


def test_epochs_come_on_one_stream(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [epochs(4 * NUM_BATCHES)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client, digest=True)
        assert [positions(stream) for _ in range(3)] == [epoch(0), epoch(1), epoch(2)]
        assert stream.state_dict() | {"digest": ""} == {"epoch": 3, "start": 0, "digest": ""}
        assert servicer.starts == [0]
        other = open_stream(client, digest=True)
        other.load_state_dict({"epoch": 0, "start": 0})
        for _ in range(3):
            list(other)
        assert other.digest == stream.digest


@pytest.mark.parametrize("prefetch", [1, 4])
def test_the_next_epoch_is_read_ahead(scripted: tuple[Scripted, str], prefetch: int):
    """Its first batches are there before it is begun: the server sends no more."""
    servicer, target = scripted
    servicer.script = [epochs(NUM_BATCHES + prefetch)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client, prefetch=prefetch)
        assert positions(stream) == epoch(0)
        taken = iter(stream)
        assert positions(itertools.islice(taken, prefetch)) == epoch(1)[:prefetch]
        taken.close()  # type: ignore[attr-defined]
    assert servicer.starts == [0]


@pytest.mark.parametrize("place", [(0, 0), (1, 4), (3, 0)])
def test_another_place_ends_the_stream_and_begins_there(
    scripted: tuple[Scripted, str], place: tuple[int, int]
):
    servicer, target = scripted
    number, start = place
    servicer.script = [epochs(99), epochs(99, first=number)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client)
        list(stream)
        stream.load_state_dict({"epoch": number, "start": start})
        assert servicer.ended.acquire(blocking=False) is False
        assert positions(stream) == epoch(number)[start:]
        assert servicer.ended.acquire(timeout=SECONDS)
        assert len(readers()) == 1
    assert list(zip(servicer.epochs, servicer.starts, strict=True)) == [(0, 0), place]


def test_the_same_place_set_again_goes_on(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [epochs(99)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client)
        list(stream)
        stream.load_state_dict(stream.state_dict())
        assert positions(stream) == epoch(1)
    assert servicer.starts == [0]


def test_another_configuration_ends_the_stream(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [epochs(99), epochs(99, first=1)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client)
        list(stream)
        stream.config = EpochConfig(batch_size=1, shuffle=False)
        assert positions(stream) == epoch(1)
        assert servicer.ended.acquire(timeout=SECONDS)
    assert servicer.starts == [0, 0]


def test_leaving_an_epoch_ends_the_stream(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [epochs(99), epochs(99, first=1)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client)
        list(stream)
        for _ in itertools.islice(stream, 3):
            pass
        assert servicer.ended.acquire(timeout=SECONDS)
        assert not readers()
        assert positions(stream) == epoch(1)[3:]
    assert servicer.starts == [0, 3]


def test_a_stream_that_is_garbage_ends(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [epochs(99)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client)
        list(stream)
        (reader,) = readers()
        del stream
        gc.collect()
        assert servicer.ended.acquire(timeout=SECONDS)
        reader.join(SECONDS)
        assert not reader.is_alive()


def test_copies_go_on_by_themselves(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [epochs(99), epochs(99, first=1)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client)
        list(stream)
        other = pickle.loads(pickle.dumps(stream))
        assert positions(other) == epoch(1)
        shallow = copy.copy(stream)
        assert positions(stream) == epoch(1)
        assert positions(shallow) == epoch(1)
        del other, shallow
    assert servicer.epochs == [0, 1, 1]


def test_what_fails_ahead_is_tried_again_when_it_is_wanted(scripted: tuple[Scripted, str]):
    """Not before: the trainer may be done, and its server, too."""
    servicer, target = scripted
    ahead = failing(epochs(99), after=1 + NUM_BATCHES + 2)
    servicer.script = [ahead, nothing, epochs(99, first=1)]
    with Client(target, timeout=SECONDS) as client:
        stream = open_stream(client)
        assert positions(stream) == epoch(0)
        for reader in readers():
            reader.join(SECONDS)
            assert not reader.is_alive()
        assert servicer.starts == [0]
        assert positions(stream) == epoch(1)
    assert servicer.starts == [0, 2, 2]


def test_what_fails_for_good_is_told_when_it_is_wanted(scripted: tuple[Scripted, str]):
    servicer, target = scripted
    servicer.script = [failing(epochs(99), after=1 + NUM_BATCHES + 2), failing(nothing, after=0)]
    with Client(target, timeout=SECONDS, patience=0.3) as client:
        stream = open_stream(client)
        assert positions(stream) == epoch(0)
        taken = iter(stream)
        assert positions(itertools.islice(taken, 2)) == epoch(1)[:2]
        with pytest.raises(UnavailableError, match="as the script says"):
            next(taken)
        assert stream.state_dict() == {"epoch": 1, "start": 2}


def test_a_worker_that_goes_on_within_an_epoch_asks_for_the_rest_of_it_only(client: Client):
    """It goes on as the last worker, which it is not in the next epoch."""
    sampler = SamplerConfig(num_negs_per_pos=1000)
    factory = client.triples_factory("world")
    config = EpochConfig(batch_size=100, num_workers=2)
    for worker, num_epochs in ((0, 1), (1, MOST_EPOCHS)):
        stream = factory.epochs(sampler, replace(config, worker=worker))
        progress = stream._progress()
        request = progress.request()
        assert (request.worker, request.num_epochs) == (worker, MOST_EPOCHS)
        with run_sync(client._transport.open, "SampleEpoch", request) as call:
            for _ in range(2):
                progress.take(run_sync(call.next, SECONDS))
        request = progress.request()
        assert request.start > 0
        assert (request.worker, request.num_epochs) == (1, num_epochs)


@pytest.mark.parametrize("k", [1, 500])
def test_an_interrupt_at_the_last_message_of_an_epoch_loses_no_batch(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, k: int
):
    """The reader has given its batches, and the stream's place is still before them."""
    sampler, config = SamplerConfig(seed=3, num_negs_per_pos=k), EpochConfig(batch_size=1000)
    with Client(server.target) as client:
        factory = client.triples_factory("world")
        undisturbed = factory.epochs(sampler, config)
        wanted = [batch.positives.tolist() for _ in range(2) for batch in undisturbed]
        stream = factory.epochs(sampler, config)
        taken = stream._next

        async def interrupted(reader: Any) -> Any:
            items = await taken(reader)
            if items[-1][1].epoch == 1:
                monkeypatch.undo()
                signal.raise_signal(signal.SIGINT)
            return items

        monkeypatch.setattr(stream, "_next", interrupted)
        got = []
        with pytest.raises(KeyboardInterrupt):
            got.extend(batch.positives.tolist() for batch in stream)
        assert stream.state_dict() == {"epoch": 0, "start": 5000 if k > 1 else 0}
        while stream.epoch < 2:
            got += [batch.positives.tolist() for batch in stream]
        assert got == wanted
