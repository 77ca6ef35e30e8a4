"""Files of type constraints: where they are found, what is read, how a bad line is reported."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from negserve_server.cli import main
from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory, TypeConstraints
from tests.support.graphs import graph_path

Pair = tuple[int, int]

TRAINING = "a\tr\tb\nb\ts\tc\nc\tr\ta\n"
CONSTRAINTS = "r\thead\ta\nr\thead\tc\ns\ttail\tb\ns\ttail\tc\n"
ENDINGS = ("txt", "tsv", "txt.gz", "tsv.gz")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of entities a, b, c and relations r, s, without constraints."""
    (tmp_path / "train.txt").write_text(TRAINING)
    return tmp_path


def read(folder: Path, text: str | bytes) -> TypeConstraints:
    """Write a file of constraints into a dataset's folder and load it."""
    data = text.encode() if isinstance(text, str) else text
    (folder / "type_constraints.tsv").write_bytes(data)
    found = TriplesFactory.from_path(folder).type_constraints
    assert found is not None
    return found


def pairs_of(constraints: TypeConstraints | None) -> tuple[list[list[int]], list[list[int]]]:
    """Heads and tails as lists."""
    assert constraints is not None
    return constraints.heads.tolist(), constraints.tails.tolist()


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_in_the_folder_is_found(folder: Path, ending: str) -> None:
    assert TriplesFactory.from_path(folder).type_constraints is None
    data = CONSTRAINTS.encode()
    path = folder / f"type_constraints.{ending}"
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    found = TriplesFactory.from_path(folder).type_constraints
    assert pairs_of(found) == ([[0, 0], [0, 2]], [[1, 1], [1, 2]])
    assert found is not None
    assert found.num_unseen == 0


def test_two_files_are_both_named(folder: Path) -> None:
    for ending in ENDINGS[:2]:
        (folder / f"type_constraints.{ending}").write_text(CONSTRAINTS)
    with pytest.raises(MalformedFile, match="keep one of them") as caught:
        TriplesFactory.from_path(folder)
    assert "type_constraints.txt and type_constraints.tsv" in caught.value.why


def test_a_named_file_takes_the_place_of_the_folders(folder: Path) -> None:
    read(folder, CONSTRAINTS)
    other = folder / "other"
    other.write_text("r\ttail\tb\n")
    for path in (folder, folder / "train.txt"):
        for given_ in (other, str(other)):
            found = TriplesFactory.from_path(path, type_constraints=given_).type_constraints
            assert pairs_of(found) == ([], [[0, 1]])


def test_a_single_file_has_no_constraints_beside_it(folder: Path) -> None:
    read(folder, CONSTRAINTS)
    assert TriplesFactory.from_path(folder / "train.txt").type_constraints is None


def test_the_files_of_benchmarks_are_not_taken_by_themselves(folder: Path) -> None:
    (folder / "type_constrain.tsv").write_text(CONSTRAINTS)
    assert TriplesFactory.from_path(folder).type_constraints is None


def test_a_named_file_that_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(MalformedFile, match=r"nowhere: can't be read"):
        TriplesFactory.from_path(folder, type_constraints=folder / "nowhere")


@pytest.mark.parametrize(
    "text",
    [
        "r\thead\ta\tc\ns\ttail\tb\tc\n",
        "s\ttail\tc\tb\nr\thead\tc\ta",
        "s\ttail\tc\nr\thead\tc\ns\ttail\tb\nr\thead\ta\n",
        "r\thead\ta\tc\ta\nr\thead\ta\ns\ttail\tb\ns\ttail\tc\tb\n",
        "r\thead\ta\r\n\r\nr\thead\tc\r\ns\ttail\tb\tc\r\n",
        "\ufeff\nr\thead\ta\tc\n\ns\ttail\tb\tc\n\n",
    ],
    ids=["many a line", "other order", "mixed lines", "repetitions", "CRLF", "blank lines"],
)
def test_the_same_constraints_are_read_however_they_are_written(folder: Path, text: str) -> None:
    assert pairs_of(read(folder, text)) == pairs_of(read(folder, CONSTRAINTS))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from("rs"),
            st.sampled_from(["head", "tail"]),
            st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
        ),
        min_size=1,
    )
)
def test_any_lines_give_their_pairs(folder: Path, lines: list[tuple[str, str, list[str]]]) -> None:
    expected: dict[str, set[Pair]] = {"head": set(), "tail": set()}
    for relation, slot, entities in lines:
        expected[slot] |= {("rs".index(relation), "abc".index(entity)) for entity in entities}
    text = "".join(
        "\t".join([relation, slot, *entities]) + "\n" for relation, slot, entities in lines
    )
    assert pairs_of(read(folder, text)) == tuple(
        [list(pair) for pair in sorted(expected[slot])] for slot in ("head", "tail")
    )


def test_labels_unseen_in_training_are_left_out_counted_and_logged(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = CONSTRAINTS + "r\thead\tx\nx\thead\ta\ns\ttail\ty\ta\tz\nx\ttail\tx\n"
    with caplog.at_level(logging.WARNING, logger="negserve_server"):
        constraints = read(folder, text)
    assert pairs_of(constraints) == ([[0, 0], [0, 2]], [[1, 0], [1, 1], [1, 2]])
    assert constraints.num_unseen == 5
    (record,) = caplog.records
    assert record.getMessage() == (
        f"{folder / 'type_constraints.tsv'}: 5 of 10 type constraints have a label that does not "
        "occur in training; left out, such as 'x'"
    )


def test_nothing_is_logged_where_all_labels_are_seen(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    read(folder, CONSTRAINTS)
    assert not caplog.records


def test_a_slot_that_would_lose_all_its_entities_is_refused(folder: Path) -> None:
    with pytest.raises(MalformedFile, match="no entity that 's' allows as head occurs") as caught:
        read(folder, CONSTRAINTS + "s\thead\tx\ty\n")
    assert caught.value.path == str(folder / "type_constraints.tsv")


def test_constraints_of_other_relations_only_are_refused(folder: Path) -> None:
    with pytest.raises(MalformedFile, match="none of its relations occurs in training"):
        read(folder, "x\thead\ta\ny\ttail\tb\n")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("r\thead", r"2 tab-separated fields; expected 3 or more (relation, slot, entity)"),
        ("r head a", r"1 tab-separated fields; expected 3 or more"),
        ("r\thead\t", "the entity is empty"),
        ("r\thead\ta\t\tc", "the entity is empty"),
        ("r\thead\ta\t", "the entity is empty"),
        ("\thead\ta", "the relation is empty"),
        ("r\t\ta", "the slot is empty"),
        ("r\trelation\ta", "the slot is 'relation'; give head or tail"),
        ("r\tHead\ta\tb", "the slot is 'Head'; give head or tail"),
        ("head\tr\ta", "the slot is 'r'; give head or tail"),
        ("relation\tslot\tentity", "the slot is 'slot'; give head or tail"),
        ("r\thead\tä", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_bad_line_is_named(
    folder: Path, line: str, why: str, pack: Callable[[bytes], bytes]
) -> None:
    bad = line.encode("latin-1") + b"\n"
    path = folder / "type_constraints.tsv"
    for number, data in (
        (1, bad + CONSTRAINTS.encode()),
        (6, CONSTRAINTS.encode() + b"\n" + bad),
        (40_001, CONSTRAINTS.encode() * 10_000 + bad + CONSTRAINTS.encode()),
    ):
        with pytest.raises(MalformedFile) as caught:
            read(folder, pack(data))
        assert caught.value.line == number
        assert why in caught.value.why
        assert str(caught.value) == f"{path}, line {number}: {caught.value.why}"


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_a_file_without_constraints_is_named(folder: Path, data: bytes) -> None:
    with pytest.raises(MalformedFile, match="holds no type constraints"):
        read(folder, data)


@pytest.mark.parametrize("name", ["fb15k-237", "wn18rr"])
def test_the_files_of_benchmarks_are_what_is_seen_in_their_splits(name: str) -> None:
    folder = graph_path(name)
    path = folder / "type_constrain.tsv.gz"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    factory = TriplesFactory.from_path(folder, type_constraints=path)
    constraints = factory.type_constraints
    assert constraints is not None
    seen: dict[str, set[tuple[str, str]]] = {"head": set(), "tail": set()}
    for split in ("train", "valid", "test"):
        text = gzip.decompress((folder / f"{split}.txt.gz").read_bytes()).decode("utf-8")
        for line in text.splitlines():
            head, relation, tail = line.split("\t")
            seen["head"].add((relation, head))
            seen["tail"].add((relation, tail))
    relation_to_id, entity_to_id = factory.relation_to_id, factory.entity_to_id
    num_unseen = 0
    for slot, pairs in (("head", constraints.heads), ("tail", constraints.tails)):
        known = [(r, e) for r, e in seen[slot] if r in relation_to_id and e in entity_to_id]
        expected = sorted([relation_to_id[r], entity_to_id[e]] for r, e in known)
        assert pairs.tolist() == expected
        num_unseen += len(seen[slot]) - len(known)
    assert constraints.num_unseen == num_unseen
    assert constraints.num_constrained_slots == 2 * factory.num_relations


def test_inspect_counts_constrained_slots(folder: Path) -> None:
    def facts() -> dict[str, Any]:
        result = CliRunner().invoke(main, ["inspect", str(folder), "--json"])
        assert result.exit_code == 0, result.output
        found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
        return found

    assert not [name for name in facts() if "constrain" in name]
    read(folder, CONSTRAINTS)
    assert {n: v for n, v in facts().items() if "constrain" in n} == {"num_constrained_slots": 2}
    read(folder, CONSTRAINTS + "r\thead\tx\n")
    assert facts()["num_unseen_constraints"] == 1
    (folder / "type_constraints.tsv").write_text(CONSTRAINTS + "r\tboth\ta\n")
    result = CliRunner().invoke(main, ["inspect", str(folder)])
    assert result.exit_code == 1
    assert "type_constraints.tsv, line 5: the slot is 'both'" in result.output
