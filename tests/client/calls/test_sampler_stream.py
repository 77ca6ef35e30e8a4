"""The server's notice of unknown positives becomes one warning at the user's line."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from negserve import NegserveWarning, UnknownPositivesWarning, aio
from negserve._calls.sampler_stream import Notices
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.graph import TriplesFactory
from negserve_server.triple_columns import TripleColumns
from tests.support import preloaded
from tests.support.graphs import load
from tests.support.server_process import ServerProcess

WORLD = load("world")
TRIPLES = WORLD.mapped_triples
RENUMBERED = np.random.default_rng(7).permutation(WORLD.num_entities)
#: The same triples, with entity ids of a trainer's own.
FOREIGN = np.stack([RENUMBERED[TRIPLES[:, 0]], TRIPLES[:, 1], RENUMBERED[TRIPLES[:, 2]]], 1)


def test_ids_of_another_id_space_are_told_once(world: Any, log: Path):
    sampler = world.open_sampler(num_negs_per_pos=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for begin in range(0, 5000, 250):
            sampler.sample(FOREIGN[begin : begin + 250], begin)
    assert [each.category for each in caught] == [UnknownPositivesWarning]
    assert [each.filename for each in caught] == [__file__]
    assert "of the first 1000 positives are triples of dataset 'world'" in str(caught[0].message)
    assert issubclass(UnknownPositivesWarning, NegserveWarning)
    # Another sampler hears of it, too; the log has it once.
    with pytest.warns(UnknownPositivesWarning):
        world.open_sampler().sample(FOREIGN, 0)
    lines = [line for line in log.read_text().splitlines() if "of the first 1000" in line]
    assert len(lines) == 1
    assert "WARNING" in lines[0]
    assert "'world'" in lines[0]


def test_asyncio_is_warned_too(serving: ServerProcess):
    async def draw() -> None:
        async with aio.Client(serving.target) as client:
            sampler = await (await client.triples_factory("world")).open_sampler()
            for begin in range(0, 3000, 500):
                await sampler.sample(FOREIGN[begin : begin + 500], begin)

    with pytest.warns(UnknownPositivesWarning) as caught:
        asyncio.run(draw())
    assert [each.filename for each in caught] == [__file__]


def test_the_command_prints_it(serving: ServerProcess):
    lines = "".join(f"{h}\t{r}\t{t}\n" for h, r, t in FOREIGN[:1100].tolist())
    done = preloaded.run(
        ["-m", "negserve.cli", "sample", "--target", serving.target, "--ids"],
        input=lines,
        timeout=60,
        check=True,
    )
    assert done.stdout.count("\n") == 1100
    assert done.stderr.count("Warning: ") == 1
    assert "of the first 1000 positives are triples" in done.stderr


KNOWN = {
    "training": TRIPLES,
    "testing, again and again": np.tile(WORLD.splits["testing"], (5, 1)),
    "a fifth is known": np.concatenate([TRIPLES[:250], FOREIGN[:750]]),
    "too few to judge": FOREIGN[:999],
}


@pytest.mark.parametrize("name", KNOWN)
def test_other_positives_are_silent(world: Any, name: str):
    positives = np.random.default_rng(1).permutation(KNOWN[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.open_sampler(num_negs_per_pos=2).sample(positives, 0)


def test_it_comes_once_a_stream_with_the_answer_that_shows_it(serving: ServerProcess):
    def requests() -> Iterator[pb.SampleRequest]:
        yield pb.SampleRequest(
            configuration=pb.SampleConfiguration(
                dataset="world",
                sampler=pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=1),
            )
        )
        for begin in range(0, 3000, 600):
            columns = FOREIGN[begin : begin + 600].astype("<u4").T
            heads, relations, tails = (pb.Ids(data=c.tobytes(), width=4) for c in columns)
            triples = pb.Triples(heads=heads, relations=relations, tails=tails)
            yield pb.SampleRequest(positives=pb.Positives(position=begin, triples=triples))

    with grpc.insecure_channel(serving.target) as channel:
        answers = list(SamplerServiceStub(channel).Sample(requests(), timeout=30))
    assert [len(answer.notices) for answer in answers] == [0, 0, 1, 0, 0, 0]
    assert answers[2].notices[0].kind == pb.Notice.KIND_UNKNOWN_POSITIVES


def test_notices_of_a_newer_server_are_shown_without_control_characters():
    notices = Notices()
    said = [pb.Notice(kind=77, text="mind \x1b[31mthis\n" + 5000 * "x")]  # type: ignore[arg-type]
    with pytest.warns(NegserveWarning) as caught:
        notices.tell("host:1", said * 3)
    assert len(caught) == 1
    text = str(caught[0].message)
    assert text.startswith(r"host:1: mind \u001b[31mthis\u000axxx")
    assert len(text) < 1100


def test_kinds_of_notices_are_bounded():
    said = [pb.Notice(kind=kind, text="x") for kind in range(1000)]  # type: ignore[arg-type]
    with pytest.warns(NegserveWarning) as caught:
        Notices().tell("host:1", said)
    assert len(caught) == 16


@pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 5408])
def test_sorted_triples_are_found_as_by_the_index(size: int):
    rows = TRIPLES[:size]
    wanted = np.concatenate([TRIPLES[::7], FOREIGN[::7], TRIPLES[:5, [2, 1, 0]]])
    expected = (
        TriplesFactory({"training": rows}, num_entities=9999, num_relations=99).contains(
            wanted, ("training",)
        )
        if size
        else np.zeros(len(wanted), dtype=bool)
    )
    columns = TripleColumns.of(rows, 9999, 99)
    np.testing.assert_array_equal(columns.are_among(wanted), expected)
