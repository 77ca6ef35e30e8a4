"""The triples factory against PyKEEN's, its fingerprint, and its refusals."""

from __future__ import annotations

import gzip
import hashlib
import logging
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from negserve.errors import InvalidRequestError
from negserve_server.errors import IdOutOfRange
from negserve_server.graph import TriplesFactory, Vocabulary
from negserve_server.graph import world as world_package
from tests.support.graphs import GRAPHS, graph_path, load

WORLD_FINGERPRINT = "1f82a745f032d6dd21fc90d1ee4e500e50e4ee9c637ab38fbfa6b1ec6820d0c4"
SMALL_FINGERPRINT = "d0d2b61e004866aa561a4cc1a4438b9df68b6d5f4b5fc85b07a95a9efe0de581"
STEMS = {"training": "train", "validation": "valid", "testing": "test"}

TRAINING = [(0, 0, 1), (1, 0, 2), (2, 1, 0), (3, 1, 2)]
VALIDATION = [(0, 0, 2)]
TESTING = [(1, 1, 3), (0, 0, 1)]


def folder_of(name: str) -> Path:
    """Folder of a graph's files; skips the test if it is missing."""
    if name == "world":
        return Path(next(iter(world_package.__path__)))
    return graph_path(name)


def file_of(name: str, split: str) -> Path:
    """File of a split."""
    (path,) = folder_of(name).glob(f"{STEMS[split]}.txt*")
    return path


def small(**splits: Any) -> TriplesFactory:
    """A graph of four entities and two relations."""
    splits.setdefault("training", TRAINING)
    return TriplesFactory(splits, num_entities=4, num_relations=2)


@pytest.mark.parametrize("name", GRAPHS)
def test_ids_and_triples_equal_pykeens(name: str) -> None:
    pykeen_triples = pytest.importorskip("pykeen.triples")
    own = load(name)
    theirs = pykeen_triples.TriplesFactory.from_path(file_of(name, "training"))
    assert own.entity_to_id == theirs.entity_to_id
    assert own.relation_to_id == theirs.relation_to_id
    assert (own.num_entities, own.num_relations) == (theirs.num_entities, theirs.num_relations)
    assert own.num_triples == theirs.num_triples
    assert own.mapped_triples.dtype == np.int64
    assert np.array_equal(own.mapped_triples, theirs.mapped_triples.numpy())
    for split in ("validation", "testing"):
        other = pykeen_triples.TriplesFactory.from_path(
            file_of(name, split),
            entity_to_id=theirs.entity_to_id,
            relation_to_id=theirs.relation_to_id,
        )
        assert np.array_equal(own.splits[split], other.mapped_triples.numpy())


@pytest.mark.parametrize("name", GRAPHS)
def test_every_triple_of_the_files_is_there_or_counted_as_unseen(name: str) -> None:
    own = load(name)
    for (split, triples), num_unseen in zip(
        own.splits.items(), own.num_unseen.values(), strict=True
    ):
        data = file_of(name, split).read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
        lines = {tuple(line.split("\t")) for line in text.split("\n") if line}
        assert len(lines) == len(triples) + num_unseen


def test_labels_unseen_in_training_are_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="negserve_server"):
        factory = TriplesFactory.from_path(graph_path("fb15k-237"))
    assert factory.num_unseen == {"training": 0, "validation": 9, "testing": 28}
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "9 of 17535 triples have a label that does not occur in training" in messages[0]
    assert str(file_of("fb15k-237", "validation")) in messages[0]
    assert "28 of 20466 triples" in messages[1]


@pytest.mark.parametrize("line", ["x\tr\tb", "a\tx\tb", "a\tr\tx"])
def test_one_unseen_label_leaves_the_triple_out(tmp_path: Path, line: str) -> None:
    (tmp_path / "train.txt").write_text("a\tr\tb\nb\ts\ta\n")
    (tmp_path / "valid.txt").write_text(f"a\ts\tb\n{line}\n")
    factory = TriplesFactory.from_path(tmp_path)
    assert factory.splits["validation"].tolist() == [[0, 1, 1]]
    assert factory.num_unseen == {"training": 0, "validation": 1}
    assert "x" not in {**factory.entity_to_id, **factory.relation_to_id}


def test_nothing_is_logged_where_all_labels_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    factory = TriplesFactory.world()
    assert factory.num_unseen == {"training": 0, "validation": 0, "testing": 0}
    assert not caplog.records


def test_labels_are_numbered_in_order_of_their_code_points(tmp_path: Path) -> None:
    names = ["Z", "a", "é", "z", "\uffff", "🙂", "A", "10", "9"]
    (tmp_path / "train.txt").write_text("".join(f"{name}\tr\tZ\n" for name in names), "utf-8")
    factory = TriplesFactory.from_path(tmp_path)
    assert factory.entity_to_id == {name: i for i, name in enumerate(sorted(names))}


def test_a_single_file_is_the_training_split(tmp_path: Path) -> None:
    path = tmp_path / "graph.tsv"
    path.write_text("b\tr\ta\na\tr\tb\nb\tr\ta\n")
    factory = TriplesFactory.from_path(str(path))
    assert list(factory.splits) == ["training"]
    assert factory.mapped_triples.tolist() == [[0, 0, 1], [1, 0, 0]]
    assert factory.num_triples == 2


def test_a_graph_from_arrays_takes_the_id_space_from_all_splits() -> None:
    factory = TriplesFactory({"training": TRAINING, "testing": [(0, 4, 9)]})
    assert (factory.num_entities, factory.num_relations) == (10, 5)
    assert factory.entity_to_id == factory.relation_to_id == {}
    assert factory.relation_statistics.num_triples.tolist() == [2, 2, 0, 0, 0]


def test_a_graph_from_arrays_is_sorted_unique_and_its_own() -> None:
    rows = np.array([(3, 1, 2), (0, 0, 1), (3, 1, 2), (0, 0, 0)])
    factory = small(training=rows)
    rows[:] = 0
    assert factory.mapped_triples.tolist() == [[0, 0, 0], [0, 0, 1], [3, 1, 2]]
    with pytest.raises(ValueError, match="read-only"):
        factory.mapped_triples[0, 0] = 1


def test_labels_may_be_given_with_arrays() -> None:
    factory = TriplesFactory(
        {"training": TRAINING},
        entities=Vocabulary.from_mapping({"d": 3, "c": 2, "a": 0, "b": 1}),
        relations=Vocabulary(pl.Series(["likes", "knows"])),
    )
    assert factory.entity_to_id == {"a": 0, "b": 1, "c": 2, "d": 3}
    assert factory.relation_to_id == {"likes": 0, "knows": 1}


def test_fingerprint_of_world_is_pinned() -> None:
    assert load("world").fingerprint == WORLD_FINGERPRINT


def fingerprint_by_hand(
    splits: dict[str, set[tuple[int, int, int]]], num_entities: int, num_relations: int
) -> str:
    """The fingerprint as its documentation defines it, without numpy."""
    graph = b"negserve graph 1\n"
    for name, triples in splits.items():
        split = b"negserve split 1\n"
        split += struct.pack("<QQQ", num_entities, num_relations, len(triples))
        split += b"".join(struct.pack("<III", *triple) for triple in sorted(triples))
        graph += f"{name} {hashlib.sha256(split).hexdigest()}\n".encode()
    return hashlib.sha256(graph).hexdigest()


def test_fingerprint_is_the_documented_hash() -> None:
    factory = small(testing=TESTING, validation=VALIDATION)
    by_hand = fingerprint_by_hand(
        {"training": set(TRAINING), "validation": set(VALIDATION), "testing": set(TESTING)}, 4, 2
    )
    assert factory.fingerprint == by_hand
    last = 2**32 - 1
    huge = TriplesFactory({"training": [(last, 0, 0), (0, 0, last)]})
    assert huge.fingerprint == fingerprint_by_hand(
        {"training": {(last, 0, 0), (0, 0, last)}}, 2**32, 1
    )


def test_fingerprint_of_a_graph_without_type_constraints_is_pinned() -> None:
    factory = small(validation=VALIDATION, testing=TESTING)
    assert factory.fingerprint == SMALL_FINGERPRINT


def test_fingerprint_is_the_same_for_permuted_and_repeated_rows() -> None:
    rows: NDArray[np.int64] = load("world").mapped_triples
    order = np.random.default_rng(0).permutation(len(rows))
    assert (
        TriplesFactory({"training": np.concatenate([rows[order], rows[:9]])}).fingerprint
        == TriplesFactory({"training": rows}).fingerprint
    )
    assert small().fingerprint == small(training=TRAINING[::-1]).fingerprint
    assert (
        TriplesFactory({"testing": TESTING, "training": TRAINING}).fingerprint
        == TriplesFactory({"training": TRAINING, "testing": TESTING}).fingerprint
    )


def test_fingerprint_does_not_depend_on_labels(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\tr\tb\nb\tr\ta\n")
    labelled = TriplesFactory.from_path(tmp_path)
    assert labelled.fingerprint == TriplesFactory({"training": [(0, 0, 1), (1, 0, 0)]}).fingerprint


def test_fingerprint_differs_for_every_change_of_the_graph() -> None:
    graphs = [
        small(),
        small(training=[*TRAINING[:-1], (3, 1, 1)]),
        small(training=TRAINING[:-1]),
        small(training=[*TRAINING, (3, 1, 3)]),
        TriplesFactory({"training": TRAINING}, num_entities=5, num_relations=2),
        TriplesFactory({"training": TRAINING}, num_entities=4, num_relations=3),
        small(validation=VALIDATION),
        small(testing=VALIDATION),
        small(training=TRAINING + VALIDATION),
        small(validation=np.empty((0, 3), dtype=np.int64)),
        small(training=TRAINING[:-1], validation=TRAINING[-1:]),
        small(training=TRAINING[:-1], testing=TRAINING[-1:]),
    ]
    assert len({graph.fingerprint for graph in graphs}) == len(graphs)
    assert all(len(bytes.fromhex(graph.fingerprint)) == 32 for graph in graphs)


@pytest.mark.parametrize(
    ("splits", "options", "message"),
    [
        ({"training": np.empty((0, 3), dtype=np.int64)}, {}, "the training split is empty"),
        ({}, {}, "give training"),
        ({"testing": TRAINING}, {}, "give training"),
        ({"training": TRAINING, "train": TRAINING}, {}, "train"),
        ({"training": TRAINING}, {"num_entities": 2**32 + 1}, "at most 2\\^32"),
        ({"training": TRAINING}, {"num_relations": 2**32 + 1}, "at most 2\\^32"),
        (
            {"training": TRAINING},
            {"entities": Vocabulary(pl.Series(["a", "b", "c"]))},
            "3 labels for 4 entities",
        ),
        (
            {"training": TRAINING},
            {"relations": Vocabulary(pl.Series(["r", "s", "t"]))},
            "3 labels for 2 relations",
        ),
    ],
)
def test_an_object_that_is_no_graph_is_refused(
    splits: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        TriplesFactory(splits, **options)


@pytest.mark.parametrize(
    ("split", "bad", "slot", "limit"),
    [
        ("training", (4, 0, 0), "head", "4"),
        ("training", (0, 2, 0), "relation", "2"),
        ("training", (0, 0, -1), "tail", "4"),
        ("validation", (-1, 0, 0), "head", "4"),
        ("testing", (0, 0, 2**40), "tail", "4"),
    ],
)
def test_an_id_out_of_range_is_named(
    split: str, bad: tuple[int, int, int], slot: str, limit: str
) -> None:
    with pytest.raises(IdOutOfRange) as caught:
        small(**{split: [TRAINING[0], bad]})
    value = bad[("head", "relation", "tail").index(slot)]
    assert caught.value.metadata == {
        "row": "1",
        "slot": slot,
        "value": str(value),
        "limit": limit,
    }


@pytest.mark.parametrize(
    "rows",
    [[0, 0, 1], [(0, 0)], [(0, 0, 1, 2)], [[(0, 0, 1)]], [(0.0, 0.0, 1.0)], [("a", "r", "b")]],
)
def test_arrays_that_are_no_triples_are_refused(rows: Any) -> None:
    for refused in (
        lambda: small(training=rows),
        lambda: small(testing=rows),
        lambda: small().contains(rows, ("training",)),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            refused()
        assert caught.value.reason == "SHAPE_MISMATCH"


def test_ids_of_labels_must_be_without_gaps() -> None:
    for mapping in ({"a": 0, "b": 2}, {"a": 1}, {"a": 0, "b": 0}, {"a": -1, "b": 0}):
        with pytest.raises(ValueError, match="each once"):
            Vocabulary.from_mapping(mapping)


def test_filter_covers_exactly_the_chosen_splits() -> None:
    factory = small(validation=VALIDATION, testing=TESTING)
    by_split = {"training": TRAINING, "validation": VALIDATION, "testing": TESTING}
    all_rows = np.array(sorted({*TRAINING, *VALIDATION, *TESTING}))
    for chosen in (
        ("training",),
        ("validation",),
        ("testing", "training"),
        ("validation", "testing"),
        ("testing", "validation", "training"),
    ):
        known = {triple for split in chosen for triple in by_split[split]}
        expected = [tuple(row) in known for row in all_rows.tolist()]
        assert len(factory.filter_index(chosen)) == len(known)
        assert factory.contains(all_rows, chosen).tolist() == expected
        assert factory.filter_index(chosen).contains(all_rows).tolist() == expected


def test_an_index_is_built_once_whatever_the_order_of_splits() -> None:
    factory = small(validation=VALIDATION)
    first = factory.filter_index(("training", "validation"))
    assert factory.filter_index(["validation", "training"]) is first
    assert factory.filter_index(("training",)) is not first


def test_samplers_that_differ_in_k_and_seed_share_what_is_costly() -> None:
    factory = small()
    first = factory.open_sampler(filter_splits=("training",), num_negs_per_pos=1)
    second = factory.open_sampler(filter_splits=("training",), num_negs_per_pos=9, seed=5)
    assert second.tables is first.tables
    assert factory.open_sampler().tables is not first.tables


@pytest.mark.parametrize("splits", [(), ("testing",), ("training", "testing"), ("train",)])
def test_a_split_that_the_graph_lacks_is_refused(splits: tuple[str, ...]) -> None:
    factory = small(validation=VALIDATION)
    for refused in (
        lambda: factory.filter_index(splits),
        lambda: factory.contains(TRAINING, splits),
    ):
        with pytest.raises(InvalidRequestError, match="this graph has training, validation") as e:
            refused()
        assert e.value.metadata["field"] == "splits"
        assert e.value.metadata["value"] == str(splits)


def test_contains_refuses_ids_out_of_range() -> None:
    with pytest.raises(IdOutOfRange) as caught:
        small().contains([(0, 0, 0), (0, 2, 0)], ("training",))
    assert caught.value.metadata["value"] == "2"


def test_splits_can_not_be_exchanged() -> None:
    factory = TriplesFactory({"training": [[0, 0, 1]]})
    with pytest.raises(TypeError):
        factory.splits["training"] = np.empty((0, 3))  # type: ignore[index]


def test_a_size_of_zero_is_not_taken_as_unknown() -> None:
    with pytest.raises(ValueError, match="out of range"):
        TriplesFactory({"training": [[0, 0, 1]]}, num_entities=0)


def test_a_huge_unsigned_id_is_shown_as_given() -> None:
    with pytest.raises(ValueError, match=str(2**63)):
        TriplesFactory({"training": np.array([[0, 0, 2**63]], dtype=np.uint64)})


def test_threads_that_open_equal_samplers_share_what_is_costly() -> None:
    graph = TriplesFactory({"training": [(0, 0, 1), (1, 0, 2)]})
    with ThreadPoolExecutor(8) as pool:
        samplers = list(pool.map(lambda k: graph.open_sampler(num_negs_per_pos=k), range(1, 33)))
    assert len({id(sampler.tables) for sampler in samplers}) == 1
