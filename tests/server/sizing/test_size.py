"""``negserve-server size``, as an operator calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from negserve_server.cli import main
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot

TRAINING = ("--ranks", "64", "--batch", "1024", "-k", "64")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["size", *arguments])


def answer(*arguments: str) -> dict[str, Any]:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.output))


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("size") / "world"
    write_snapshot(TriplesFactory.world().parts, path, made={})
    return path


def test_a_snapshot_tells_its_size(snapshot: Path):
    found = answer("--dataset", str(snapshot), *TRAINING)
    factory = TriplesFactory.world()
    assert found["graph"]["num_triples"] == 6008
    assert found["graph"]["num_entities"] == factory.num_entities
    assert found["graph"]["resident_bytes"] >= sum(
        path.stat().st_size for path in snapshot.glob("*.npy")
    )
    assert found["fleet"]["replicas"] == found["fleet"]["needed"] + 1


def test_more_ranks_a_larger_k_and_a_faster_pace_need_more(snapshot: Path):
    few = answer("--dataset", str(snapshot), *TRAINING)["fleet"]
    for more in (["--ranks", "6400"], ["-k", "6400"], ["--steps-per-second", "1000"]):
        many = answer("--dataset", str(snapshot), *TRAINING, *more)["fleet"]
        assert many["processors"] > 10 * few["processors"]
        assert many["needed"] > few["needed"]


def test_a_graph_that_is_not_there_yet_is_given_by_numbers():
    found = answer("--triples", "338000000", "--entities", "86000000", *TRAINING)
    assert 8e9 < found["fleet"]["resident_bytes"] < 14e9


def test_the_answer_is_told_in_words(snapshot: Path):
    text = run("--dataset", str(snapshot), *TRAINING).output
    for word in (
        "replicas",
        "--workers",
        "GB" if "GB" in text else "MB",
        "bound by",
        "measured on",
    ):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--triples", "5"), "give --dataset, or --triples and --entities"),
        (("--dataset", "{tmp}", "--triples", "5"), "leave out --triples"),
        (("--dataset", "{tmp}"), "is no snapshot; make one: negserve-server build"),
        (("--dataset", "{tmp}/missing"), "does not exist"),
        (("--triples", "0", "--entities", "5"), "x>=1"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], said: str):
    done = run(*(each.format(tmp=tmp_path) for each in arguments), *TRAINING)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
