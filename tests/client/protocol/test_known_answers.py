"""Known values that can't be true are detected, however their answer is divided."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from negserve import Client, InvalidAnswerError, KnownValues, ServiceError
from negserve._protocol.known_pipeline import KnownPipeline
from negserve.types.dataset import Dataset, Limits
from negserve.v1 import sampler_pb2 as pb
from tests.client.protocol.test_answers import (
    MOST,
    Question,
    asked,
    awaited,
    garbage,
    of_factory,
)
from tests.support.children.lying_server import Lie, LyingServer, change, lying_server, setting
from tests.support.graphs import load
from tests.support.server_process import ServerProcess

WORLD = load("world")
SECONDS = 60
#: A pair with 162 known heads, two without any, and it again.
MANY = WORLD.relation_to_id["member_of"], WORLD.entity_to_id["United Nations"]
NONE = WORLD.relation_to_id["has_capital"], WORLD.entity_to_id["United Nations"]
PAIRS = np.array([MANY, NONE, NONE, MANY])
NUM_VALUES = 162


def plain(known: KnownValues) -> Any:
    return known.counts.tolist(), known.values.tolist()


async def _plain(known: Any) -> Any:
    return plain(await known)


KNOWN = of_factory(
    lambda found: plain(found.known(PAIRS, "head", ("training",))),
    lambda found: _plain(found.known(PAIRS, "head", ("training",))),
)


def values_of(message: Any) -> Any:
    return np.frombuffer(message.values.data, "<u2").copy()


def with_values(edit: Callable[[Any], object]) -> Lie:
    """Edit the values, an array."""

    def lie(message: Any) -> None:
        values = values_of(message)
        edited = edit(values)
        message.values.data = (values if edited is None else edited).astype("<u2").tobytes()

    return change(lie)


def put(index: int, value: Callable[[Any], int]) -> Lie:
    def edit(values: Any) -> None:
        values[index] = value(values)

    return with_values(edit)


def piece(first: int, counts: list[int], values: Any, *, is_continued: bool) -> pb.KnownResponse:
    return pb.KnownResponse(
        first_pair=first,
        counts=pb.Ids(data=np.array(counts, "<u1").tobytes(), width=1),
        values=pb.Ids(data=np.asarray(values, "<u2").tobytes(), width=2),
        is_continued=is_continued,
    )


def divided(*, at: int, then: Callable[[Any, pb.KnownResponse], object]) -> Lie:
    """Divide the first pair behind a value, and edit the second part."""

    def lie(messages: Iterator[Any]) -> Iterator[Any]:
        for message in messages:
            values = values_of(message)
            yield piece(0, [at], values[:at], is_continued=True)
            counts = [NUM_VALUES - at, 0, 0, NUM_VALUES]
            rest = piece(0, counts, values[at:], is_continued=False)
            then(values, rest)
            yield rest

    return lie


def one_by_one(messages: Iterator[Any]) -> Iterator[Any]:
    """Give each value, and each pair without any, in a message."""
    for message in messages:
        values = values_of(message)
        for pair, begin in ((0, 0), (3, NUM_VALUES)):
            for i in range(NUM_VALUES):
                value = values[begin + i : begin + i + 1]
                yield piece(pair, [1], value, is_continued=i < NUM_VALUES - 1)
            if pair == 0:
                yield piece(1, [0], [], is_continued=False)
                yield piece(2, [0], [], is_continued=False)


def only_the_first_part(messages: Iterator[Any]) -> Iterator[Any]:
    for message in messages:
        yield piece(0, [100], values_of(message)[:100], is_continued=True)
        return


def nothing_for_ever(messages: Iterator[Any]) -> Iterator[Any]:
    for _ in messages:
        while True:
            yield pb.KnownResponse()


def _no_values(_: Any, rest: pb.KnownResponse) -> None:
    rest.CopyFrom(piece(0, [0], [], is_continued=True))


def _begins_lower(values: Any, rest: pb.KnownResponse) -> None:
    edited = values_of(rest)
    edited[0] = values[49]
    rest.values.data = edited.tobytes()


#: How the server lies, and the field that the error names.
LIES: dict[str, tuple[Lie, str]] = {
    "another first pair": (setting("first_pair", 1), "first_pair"),
    "a first pair beyond all": (setting("first_pair", MOST), "first_pair"),
    "more pairs": (
        change(lambda m: setattr(m.counts, "data", m.counts.data + b"\0")), "counts, number"),
    "fewer pairs than values": (
        change(lambda m: setattr(m.counts, "data", m.counts.data[:-1])), "values.data, bytes"),
    "more values than ids": (
        change(lambda m: m.counts.CopyFrom(
            pb.Ids(data=np.array([MOST, 0, 0, 1], "<u4").tobytes(), width=4))), "counts"),
    "a value more": (
        change(lambda m: setattr(m.counts, "data", b"\xa3\0\0\xa2")), "values.data, bytes"),
    "a value fewer": (
        change(lambda m: setattr(m.counts, "data", b"\xa1\0\0\xa2")), "values.data, bytes"),
    "no values": (change(lambda m: m.ClearField("values")), "values.data, bytes"),
    "counts of no width": (setting("counts.width", 3), "counts.width"),
    "values of no width": (setting("values.width", 3), "values.width"),
    "half as many values, of twice the width": (setting("values.width", 4), "values.data, bytes"),
    "values in another order": (
        with_values(lambda values: values[::-1]), "values[1]"),
    "a value twice": (put(7, lambda values: values[6]), "values[7]"),
    "a value twice in a later pair": (
        put(NUM_VALUES + 5, lambda values: values[NUM_VALUES + 4]), f"values[{NUM_VALUES + 5}]"),
    "the values of pairs moved by one": (
        change(lambda m: setattr(m.counts, "data", b"\xa3\0\0\xa1")), f"values[{NUM_VALUES}]"),
    "an id outside the id space": (put(-1, lambda _: WORLD.num_entities), "values"),
    "a continued pair with smaller values": (divided(at=50, then=_begins_lower), "values[0]"),
    "a continued pair without values": (divided(at=50, then=_no_values), "counts[0]"),
    "a continued pair that is left out": (
        divided(at=50, then=lambda _, rest: setattr(rest, "first_pair", 1)), "first_pair"),
    "a continued pair of no pairs": (
        change(lambda m: (m.Clear(), setattr(m, "is_continued", True))), "counts, number"),
    "no pairs, for ever": (nothing_for_ever, "counts, number"),
    "bytes that are no message": (garbage, "message"),
}  # fmt: skip


@pytest.fixture(scope="module")
def liar(server: ServerProcess) -> Iterator[LyingServer]:
    with lying_server(server.target) as running:
        yield running


@pytest.fixture(scope="module")
def honest(client: Client) -> Any:
    found = KNOWN.asked(client)
    assert found[0] == [NUM_VALUES, 0, 0, NUM_VALUES]
    return found


both_clients = pytest.mark.parametrize("ask", [asked, awaited], ids=["blocking", "asyncio"])
Ask = Callable[[Question, list[str]], Any]


@both_clients
@pytest.mark.parametrize("name", LIES)
def test_false_values_are_told_and_another_replica_is_asked(
    liar: LyingServer, server: ServerProcess, honest: Any, name: str, ask: Ask
):
    lie, field = LIES[name]
    liar.lies = {"Known": lie}
    with pytest.raises(InvalidAnswerError) as caught:
        ask(KNOWN, [liar.target])
    assert caught.value.target == liar.target
    assert (caught.value.metadata["rpc"], caught.value.metadata["field"]) == ("Known", field)
    assert ask(KNOWN, [liar.target, server.target]) == honest


@both_clients
@pytest.mark.parametrize(
    "lie", [one_by_one, divided(at=1, then=lambda *_: None), divided(at=161, then=lambda *_: None)]
)
def test_an_answer_may_be_divided_anywhere(liar: LyingServer, honest: Any, lie: Lie, ask: Ask):
    liar.lies = {"Known": lie}
    assert ask(KNOWN, [liar.target]) == honest


def test_the_same_part_again_and_again_ends_patience(liar: LyingServer):
    """It is no progress; otherwise the client would ask for ever."""
    liar.lies = {"Known": only_the_first_part}
    liar.num_calls.clear()
    with Client(liar.target, timeout=SECONDS, patience=1) as client:
        factory = client.triples_factory("world")
        begin = time.monotonic()
        with pytest.raises(ServiceError, match=r"given up after \d+ tries"):
            factory.known(PAIRS, "head", ("training",))
        assert time.monotonic() - begin < SECONDS / 2
    assert liar.num_calls["Known"] > 2


def test_only_new_parts_are_progress():
    dataset = Dataset(
        name="d", fingerprint="0" * 64, num_entities=300, num_relations=2, num_triples=9,
        has_vocabulary=False, limits=Limits(1, 1, 9, 9, 999),
    )  # fmt: skip
    pipeline = KnownPipeline(dataset, [(0, 0), (1, 0)], "tail", ("training",))
    parts = [
        piece(0, [2], [1, 2], is_continued=True),
        piece(0, [1, 1], [5, 0], is_continued=True),
        piece(1, [2], [7, 299], is_continued=False),
    ]
    told = []
    for num_parts in (1, 2, 1, 3):  # of one stream after another
        pipeline.start()
        for part in parts[:num_parts]:
            pipeline.take(part)
            told.append(pipeline.has_advanced)
    assert told == [True, False, True, False, False, False, True]
    assert [values.tolist() for values in pipeline.result] == [[1, 2, 5], [0, 7, 299]]
