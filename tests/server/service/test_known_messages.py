"""Known values in bounded messages: divided anywhere, and joined again by the client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any
from unittest.mock import AsyncMock, Mock

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from negserve import Client, KnownValues, RemoteTriplesFactory
from negserve._protocol.known_pipeline import KnownPipeline
from negserve.types.config import Slot
from negserve.types.dataset import Dataset
from negserve.types.dataset import Limits as ClientLimits
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.admission.scheduler import Scheduler
from negserve_server.config.limits import Limits
from negserve_server.graph import TriplesFactory
from negserve_server.index import FilterIndex
from negserve_server.publishing.datasets import Datasets
from negserve_server.service.servicer import SamplerServicer
from negserve_server.service.streams import known_messages
from tests.server.messages import TIMEOUT, ids, known_configuration
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

GRPC_DEFAULT = 4 * 1024 * 1024
#: Most pairs, and most values, of a message.
PIECE = 2**17
LIMITS = Limits()


@contextmanager
def pieces_of(num_pairs: int, num_values: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_messages, "_PIECE_PAIRS", num_pairs)
        patch.setattr(known_messages, "_PIECE_VALUES", num_values)
        yield


def index_of(counts: list[int], num_entities: int = 0) -> FilterIndex:
    """Make an index in which head i has so many tails, the last ids."""
    num_entities = num_entities or max(len(counts), max(counts, default=0)) + 1
    heads = np.repeat(np.arange(len(counts)), counts)
    tails = np.concatenate(
        [np.arange(num_entities - count, num_entities) for count in counts] or [np.empty(0, int)]
    )
    triples = np.stack([heads, np.zeros_like(heads), tails], axis=1).astype(np.int64)
    return FilterIndex(triples, num_entities=num_entities, num_relations=1)


def answers(index: FilterIndex, pairs: pb.Pairs, slot: Slot = "tail") -> list[pb.KnownResponse]:
    """Answer a message as the server does."""
    answer = known_messages.KnownAnswer(index, index.by_slot(slot), slot)
    for _ in answer.find(pairs, LIMITS):
        pass
    return [pb.KnownResponse.FromString(answer.encode(piece)) for piece in answer.pieces()]


def heads(*values: int) -> pb.Pairs:
    return pb.Pairs(first=ids(*values), second=ids(*[0] * len(values)))


def described(responses: list[pb.KnownResponse]) -> list[tuple[int, list[int], bool]]:
    return [
        (
            each.first_pair,
            np.frombuffer(each.counts.data, f"<u{each.counts.width}").tolist(),
            each.is_continued,
        )
        for each in responses
    ]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([], [(0, [], False)]),
        ([0], [(0, [0], False)]),
        ([0, 0, 0, 0], [(0, [0, 0, 0], False), (3, [0], False)]),
        ([4], [(0, [4], False)]),
        ([5], [(0, [4], True), (0, [1], False)]),
        ([8], [(0, [4], True), (0, [4], False)]),
        ([9], [(0, [4], True), (0, [4], True), (0, [1], False)]),
        # Pairs without values belong to the message that is full before them.
        ([4, 0, 0, 2], [(0, [4, 0, 0], False), (3, [2], False)]),
        ([0, 5, 0, 4], [(0, [0, 4], True), (1, [1, 0, 3], True), (3, [1], False)]),
        ([2, 2, 2], [(0, [2, 2], False), (2, [2], False)]),
        ([3, 3], [(0, [3, 1], True), (1, [2], False)]),
        ([1, 1, 1, 1], [(0, [1, 1, 1], False), (3, [1], False)]),
        ([0, 0, 9], [(0, [0, 0, 4], True), (2, [4], True), (2, [1], False)]),
        ([0, 0, 0, 9], [(0, [0, 0, 0], False), (3, [4], True), (3, [4], True), (3, [1], False)]),
    ],
    ids=str,
)
def test_an_answer_is_divided_at_pairs_and_within_them(
    counts: list[int], expected: list[tuple[int, list[int], bool]]
):
    index = index_of(counts)
    with pieces_of(num_pairs=3, num_values=4):
        responses = answers(index, heads(*range(len(counts))))
    assert described(responses) == expected
    values = b"".join(each.values.data for each in responses)
    assert values == b"".join(index.known_tails(i, 0).astype("u1") for i in range(len(counts)))


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], list[tuple[int, int]], Slot]:
    """Triples of 12 entities and 3 relations, pairs with repetitions, and a slot."""
    sizes = (12, 3, 12)
    triples = draw(st.lists(st.tuples(*(st.integers(0, size - 1) for size in sizes)), max_size=80))
    slot: Slot = draw(st.sampled_from(["head", "relation", "tail"]))
    kept = [size for size, name in zip(sizes, ("head", "relation", "tail"), strict=True)
            if name != slot]  # fmt: skip
    arbitrary = st.tuples(*(st.integers(0, size - 1) for size in kept))
    of_triples = [without(triple, slot) for triple in triples]
    among = st.one_of(arbitrary, st.sampled_from(of_triples)) if of_triples else arbitrary
    return triples, draw(st.lists(among, max_size=20)), slot


def without(triple: tuple[int, ...], slot: Slot) -> tuple[int, int]:
    head, relation, tail = triple
    return {"head": (relation, tail), "relation": (head, tail), "tail": (head, relation)}[slot]


@given(questions(), st.integers(1, 7), st.integers(1, 9), st.integers(1, 21))
def test_a_client_joins_what_a_server_divides(
    question: tuple[list[tuple[int, int, int]], list[tuple[int, int]], Slot],
    piece_pairs: int,
    piece_values: int,
    pairs_per_message: int,
):
    triples, pairs, slot = question
    index = FilterIndex(
        np.array(triples, dtype=np.int64).reshape(-1, 3), num_entities=12, num_relations=3
    )
    dataset = Dataset(
        name="d", fingerprint="0" * 64, num_entities=12, num_relations=3, num_triples=1,
        has_vocabulary=False, limits=ClientLimits(1, 1, pairs_per_message, 64, 2**24),
    )  # fmt: skip
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    pipeline = KnownPipeline(dataset, array, slot, ("training",))
    requests = pipeline.start()
    with pieces_of(piece_pairs, piece_values):
        for request in requests:  # which grows
            for response in answers(index, request.pairs, slot):
                assert len(response.counts.data) <= piece_pairs
                assert len(response.values.data) <= piece_values
                requests += pipeline.take(response)
    assert not pipeline.unanswered
    column = ("head", "relation", "tail").index(slot)
    assert [values.tolist() for values in pipeline.result] == [
        sorted({triple[column] for triple in triples if without(triple, slot) == pair})
        for pair in pairs
    ]


@pytest.mark.parametrize("counts", [[0] * 2**18, [1] * 2**18, [2**19] * 3, [300] * 2**11], ids=len)
def test_the_largest_messages_fit(counts: list[int]):
    """Ids of four bytes; each message of pairs is as large as it may be."""
    most = max(counts)
    # All heads are one, whose values are those of each pair.
    index = index_of([most], num_entities=max(2**16 + 2, most + 1))
    responses = answers(index, heads(*[0] * len(counts)))
    assert sum(len(each.values.data) for each in responses) == 4 * sum(counts)
    assert all(each.values.width == 4 for each in responses)
    for each in responses:
        assert each.ByteSize() <= min(GRPC_DEFAULT, 8 * PIECE + 100)
        assert len(each.counts.data) // each.counts.width <= PIECE
        assert len(each.values.data) // 4 <= PIECE


NUM_ENTITIES = 300_000
#: Known tails of each head.
TAILS: dict[int, NDArray[np.int64]] = {
    7: np.arange(0, NUM_ENTITIES, 2),
    8: np.arange(3),
    9: np.arange(NUM_ENTITIES - PIECE, NUM_ENTITIES),
    2**17: np.arange(1, NUM_ENTITIES),
}


@pytest.fixture(scope="module")
def hubs() -> Iterator[tuple[ServerProcess, RemoteTriplesFactory]]:
    """A graph of ids of four bytes, with hubs of up to 299,999 tails."""
    triples = np.concatenate(
        [
            np.stack([np.full_like(tails, head), np.zeros_like(tails), tails], axis=1)
            for head, tails in TAILS.items()
        ]
    )
    with (
        server_process("--allow-publish") as server,
        Client(server.target) as client,
    ):
        yield server, client.publish("hubs", triples, num_entities=NUM_ENTITIES, num_relations=1)


def test_hubs_are_joined(hubs: tuple[ServerProcess, RemoteTriplesFactory]):
    _, factory = hubs
    asked = [8, 7, 5, 2**17, 6, 9, 8, 9]
    known = factory.known([(head, 0) for head in asked], "tail", ("training",))
    assert known.values.dtype == np.uint32
    for head, values in zip(asked, known, strict=True):
        np.testing.assert_array_equal(values, TAILS.get(head, []))


def test_a_hub_comes_in_bounded_messages(hubs: tuple[ServerProcess, RemoteTriplesFactory]):
    server, factory = hubs
    configuration = pb.KnownRequest(
        configuration=pb.KnownConfiguration(
            dataset="hubs",
            expected_fingerprint=factory.fingerprint,
            splits=[pb.SPLIT_TRAINING],
            slot=pb.SLOT_TAIL,
        )
    )
    requests = [configuration, pb.KnownRequest(pairs=heads(8, 7, 9))]
    with grpc.insecure_channel(server.target) as channel:
        responses = list(SamplerServiceStub(channel).Known(iter(requests), timeout=TIMEOUT))
    assert described(responses) == [
        (0, [3, PIECE - 3], True),
        (1, [150_000 - PIECE + 3, 2 * PIECE - 150_003], True),
        (2, [150_003 - PIECE], False),
    ]
    assert all(each.ByteSize() < GRPC_DEFAULT for each in responses)


def test_no_lookup_and_no_build_runs_on_the_event_loop(monkeypatch: pytest.MonkeyPatch):
    """A direction of the index of a large graph takes seconds to build."""
    seen: dict[str, set[threading.Thread]] = {}

    def watch(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def watched(self: Any, *arguments: Any) -> Any:
            seen.setdefault(name, set()).add(threading.current_thread())
            return original(self, *arguments)

        monkeypatch.setattr(owner, name, watched)

    for name in ("_build", "find"):
        watch(FilterIndex, name)
    watch(known_messages.KnownAnswer, "encode")
    graph = load("world").parts
    scheduler = Scheduler(1)
    servicer = SamplerServicer(
        Datasets({"world": TriplesFactory.from_parts(graph)}), Mock(), Limits(), scheduler, (0, 1)
    )
    column = ids(*[0] * 2**18, width=1)
    requests: list[pb.KnownRequest | None] = [
        known_configuration(slot=pb.SLOT_RELATION),
        pb.KnownRequest(pairs=pb.Pairs(first=column, second=column)),
        None,
    ]

    async def main() -> int:
        stream = Mock(read=AsyncMock(side_effect=requests))
        async with aclosing(servicer.known(stream)) as answers:
            return len([answer async for answer in answers])

    assert asyncio.run(main()) == 2
    scheduler.close()
    assert set(seen) == {"_build", "find", "encode"}
    for name, threads in seen.items():
        assert threading.current_thread() not in threads, name


def test_parts_of_known_values() -> None:
    """What a user does with them."""
    known = KnownValues(np.array([2, 0, 1]), np.array([4, 6, 5], dtype=np.uint8))
    assert [values.tolist() for values in known] == [[4, 6], [], [5]]
    assert known[-1].tolist() == [5]
    assert known.rows().tolist() == [0, 0, 2]
    assert known.offsets.tolist() == [0, 2, 2, 3]
    for index in (3, -4):
        with pytest.raises(IndexError):
            known[index]
    joined: Any = KnownValues.join([known, known])
    assert [values.tolist() for values in joined] == 2 * [[4, 6], [], [5]]
