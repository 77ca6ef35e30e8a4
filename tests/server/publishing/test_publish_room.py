"""Memory for published graphs is reserved as bytes arrive, and silent uploads give way first."""

from __future__ import annotations

import queue
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from negserve import Client
from negserve.types.fingerprint import graph_fingerprint, split_fingerprint
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import CODE, ids, refusal
from tests.support.server_process import ServerProcess, server_process

SIZES = 100, 3
LIMITS = ("--max-publish-triples", "100", "--max-publish-ids", "1000", "--max-publish-graphs", "9")
_LONG = 60


def graph(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rows = np.arange(count)
    return np.stack([rows, np.full(count, seed % 3), (rows * 7 + seed) % 100], 1)


class Uploader:
    """A ``Publish`` stream, message by message."""

    def __init__(
        self,
        channel: grpc.Channel,
        name: str,
        triples: np.ndarray[Any, Any],
        num_announced: int = 0,
    ) -> None:
        self.triples = triples
        self.fingerprint = graph_fingerprint({"training": split_fingerprint(triples, *SIZES)})
        self.requests: queue.SimpleQueue[pb.PublishRequest | None] = queue.SimpleQueue()
        self.answers: Any = SamplerServiceStub(channel).Publish(
            iter(self.requests.get, None), timeout=_LONG
        )
        announcement = pb.PublishAnnouncement(
            name=name,
            fingerprint=self.fingerprint,
            num_entities=SIZES[0],
            num_relations=SIZES[1],
            splits=[
                pb.AnnouncedSplit(
                    split=pb.SPLIT_TRAINING, num_triples=num_announced or len(triples)
                )
            ],
        )
        self.requests.put(pb.PublishRequest(announcement=announcement))

    def is_asked(self) -> bool:
        return bool(next(self.answers).HasField("upload"))

    def send(self, begin: int, end: int) -> None:
        heads, relations, tails = (ids(*column) for column in self.triples[begin:end].T)
        self.requests.put(
            pb.PublishRequest(
                chunk=pb.PublishChunk(
                    split=pb.SPLIT_TRAINING,
                    first_row=begin,
                    triples=pb.Triples(heads=heads, relations=relations, tails=tails),
                    crc32=zlib.crc32(heads.data + relations.data + tails.data),
                )
            )
        )

    def has_sent(self, begin: int, end: int) -> None:
        self.send(begin, end)
        assert next(self.answers).progress.num_received == end

    def is_published(self) -> bool:
        *_, last = self.answers
        return bool(last.published.dataset.fingerprint == self.fingerprint)

    def close(self) -> None:
        self.requests.put(None)
        self.answers.cancel()


@pytest.fixture
def taking() -> Iterator[ServerProcess]:
    with server_process("--allow-publish", "--threads", "1", *LIMITS) as server:
        yield server


@contextmanager
def connections(target: str, count: int) -> Iterator[list[grpc.Channel]]:
    options = (("grpc.use_local_subchannel_pool", 1),)
    with ExitStack() as stack:
        yield [stack.enter_context(grpc.insecure_channel(target, options)) for _ in range(count)]


def test_announcements_alone_shut_nobody_out():
    with (
        server_process("--allow-publish", "--threads", "1") as server,
        connections(server.target, 1) as (greedy,),
    ):
        announcers = [Uploader(greedy, f"big{i}", graph(9), 2**24) for i in range(300)]
        for announcer in announcers:
            assert announcer.is_asked()
        with Client(server.target, timeout=20) as client:
            assert client.publish("mine", graph(40)).num_triples == 40
        for announcer in announcers:
            announcer.close()


def test_of_several_that_do_not_fit_together_the_first_to_need_the_room_has_it(
    taking: ServerProcess,
):
    with connections(taking.target, 2) as (one, other):
        first, second = Uploader(one, "first", graph(60)), Uploader(other, "second", graph(60, 1))
        assert first.is_asked()
        assert second.is_asked()
        second.has_sent(0, 30)
        first.has_sent(0, 59)
        waiting = Uploader(one, "second", graph(60, 1))
        assert next(waiting.answers).progress.stage == pb.PublishProgress.STAGE_WAITING
        second.send(30, 60)
        for each in (second, waiting):  # who waits need not try in vain
            code, reason, metadata, _ = refusal(each.answers)
            assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "GRAPH_TOO_LARGE")
            assert metadata == {"resource": "triples", "value": "60", "limit": "41"}
        first.send(59, 60)
        assert first.is_published()
        for each in (first, second, waiting):
            each.close()


def test_silent_uploads_give_way(taking: ServerProcess):
    with connections(taking.target, 2) as (one, other):
        silent = Uploader(one, "silent", graph(90))
        assert silent.is_asked()
        silent.has_sent(0, 80)
        refused = Uploader(other, "mine", graph(60, 1))
        assert refused.is_asked()
        refused.send(0, 60)
        assert refusal(refused.answers)[1] == "GRAPH_TOO_LARGE"
        time.sleep(11)
        mine = Uploader(other, "mine", graph(60, 1))
        assert mine.is_asked()
        mine.send(0, 60)
        assert mine.is_published()
        code, reason, metadata, details = refusal(silent.answers)
        assert (code, reason, metadata) == (
            CODE.DEADLINE_EXCEEDED,
            "STREAM_IDLE",
            {"limit": "10.0"},
        )
        assert "'mine' needs the room" in details
        for each in (silent, refused, mine):
            each.close()


def test_an_upload_with_more_than_half_of_the_room_gives_way(taking: ServerProcess):
    with connections(taking.target, 2) as (one, other):
        greedy = [Uploader(one, f"greedy{i}", graph(50, i)) for i in range(3)]
        for each, count in zip(greedy, (40, 30, 10), strict=True):
            assert each.is_asked()
            each.has_sent(0, count)
        mine = Uploader(other, "mine", graph(50, 5))
        assert mine.is_asked()
        mine.send(0, 50)
        assert mine.is_published()
        code, reason, _, details = refusal(greedy[0].answers)
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "GRAPH_TOO_LARGE")
        assert "more than half of all" in details
        # The others have less than that together now, and go on.
        greedy[1].has_sent(30, 31)
        for each in (*greedy, mine):
            each.close()


def test_idle_graphs_give_way_only_to_what_has_arrived():
    options = ("--allow-publish", "--threads", "1", "--publish-keep-seconds", "0")
    with (
        server_process(*options, *LIMITS) as server,
        connections(server.target, 1) as (channel,),
        Client(server.target) as client,
    ):
        client.publish("old", graph(60), num_entities=100)
        mine = Uploader(channel, "mine", graph(80, 1))
        assert mine.is_asked()
        mine.has_sent(0, 79)
        assert client.list_datasets() == ["world", "old"]
        mine.send(79, 80)
        assert mine.is_published()
        assert client.list_datasets() == ["world", "mine"]
        mine.close()


def test_a_graph_that_can_never_fit_is_refused_at_once(taking: ServerProcess):
    with connections(taking.target, 1) as (channel,):
        never = Uploader(channel, "never", graph(99), 101)
        code, reason, metadata, _ = refusal(never.answers)
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "GRAPH_TOO_LARGE")
        assert metadata == {"resource": "triples", "value": "101", "limit": "100"}
        never.close()
