"""``build --base OLD --add FILES``: old ids stay, and the graph is that of all triples at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from negserve import SamplerConfig
from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.grown_graph import grow
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from tests.support import preloaded

OLD = "b\tr\td\nd\tr\tf\nf\ts\tb\n"
#: Two triples are there already, one twice; labels a, c and z are new, and relation q.
NEW = "b\tr\td\na\tr\tb\nz\tq\tc\na\tr\tb\nd\tr\tf\n"


def built(*arguments: str | Path) -> str:
    command = ["-m", "negserve_server.cli", "build", *map(str, arguments)]
    return preloaded.run(command, timeout=120, check=True).stdout


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A snapshot with labels, and validation triples."""
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.tsv").write_text(OLD)
    (folder / "valid.tsv").write_text("b\ts\tf\n")
    out = tmp_path / "old"
    write_snapshot(TriplesFactory.from_path(folder).parts, out, made={})
    return out


def test_old_ids_stay_and_new_labels_follow_sorted(old: Path, tmp_path: Path):
    (tmp_path / "train.tsv").write_text(NEW)
    (tmp_path / "valid.tsv").write_text("z\tr\tb\nunseen\tr\tb\n")
    said = built(
        "--base", old, "--add", tmp_path / "train.tsv", "--add", tmp_path / "valid.tsv",
        "--out", tmp_path / "new", "--index-splits", "training,validation",
    )  # fmt: skip
    assert "training: 2 triples added, 2 were there already" in said
    assert "validation: 1 triples added, 0 were there already" in said
    before, after = (TriplesFactory.from_snapshot(tmp_path / name) for name in ("old", "new"))
    assert after.entities is not None
    assert after.relations is not None
    assert after.entities.labels() == ["b", "d", "f", "a", "c", "z"]
    assert after.relations.labels() == ["r", "s", "q"]
    assert before.entity_to_id.items() <= after.entity_to_id.items()
    assert after.num_unseen == {"training": 0, "validation": 1}

    # Built at once, with the same ids.
    at_once = tmp_path / "at-once"
    at_once.mkdir()
    (at_once / "train.tsv").write_text(OLD + NEW)
    (at_once / "valid.tsv").write_text("b\ts\tf\nz\tr\tb\n")
    for name, vocabulary in (("entities", after.entities), ("relations", after.relations)):
        lines = (f"{number}\t{label}\n" for number, label in enumerate(vocabulary.labels()))
        (at_once / f"{name}.dict").write_text("".join(lines))
    expected = TriplesFactory.from_path(at_once)
    assert after.fingerprint == expected.fingerprint
    sampler = SamplerConfig(num_negs_per_pos=50, filter_splits=("training", "validation"), seed=3)
    positives = expected.mapped_triples
    assert np.array_equal(
        after.sampler(sampler).sample(positives, 0).triples(positives),
        expected.sampler(sampler).sample(positives, 0).triples(positives),
    )


def test_columns_widen_where_the_id_space_grows(tmp_path: Path):
    """From 255 to 300 entities ids take two bytes; splits without new triples, too."""
    few = np.array([[head, 0, head + 1] for head in range(254)])
    base = TriplesFactory({"training": few, "testing": few[:9]}, num_entities=255)
    np.save(tmp_path / "train.npy", np.array([[299, 0, 1], [0, 0, 1]]))
    grown = grow(base.parts, tmp_path / "train.npy", ReadOptions())
    expected = TriplesFactory(
        {"training": np.concatenate([few, [[299, 0, 1]]]), "testing": few[:9]}, num_entities=300
    )
    assert TriplesFactory.from_parts(grown.parts).fingerprint == expected.fingerprint
    assert grown.parts.columns["testing"].heads.dtype == np.uint16
    assert (grown.num_new, grown.num_known) == ({"training": 1}, {"training": 1})


def test_what_does_not_change_is_shared(tmp_path: Path):
    many = TriplesFactory({"training": np.array([[0, 0, 1], [1, 0, 2]]), "testing": [[2, 0, 0]]})
    np.save(tmp_path / "train.npy", np.array([[2, 0, 1]]))
    grown = grow(many.parts, tmp_path / "train.npy", ReadOptions())
    assert grown.parts.columns["testing"] is many.columns["testing"]


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("0\t0\t1\n", ReadOptions(), "give --ids if they are its ids, --labels if they are only"),
        ("7\t0\t1\n", ReadOptions(ids=True), "those of the graph with labels end at 2"),
        ("b \tr\td\n", ReadOptions(), "'b ' differs from 'b' of the graph that grows"),
        ("b\tr\td\n", ReadOptions(fractions=(0.8, 0.1, 0.1)), "leave out --fractions"),
    ],
)
def test_what_could_mean_two_graphs_is_refused(
    old: Path, tmp_path: Path, text: str, options: ReadOptions, said: str
):
    (tmp_path / "train.tsv").write_text(text)
    with pytest.raises(MalformedFile) as caught:
        grow(TriplesFactory.from_snapshot(old).parts, tmp_path / "train.tsv", options)
    assert said in str(caught.value)


def test_ids_of_labels_stay_ids(old: Path, tmp_path: Path):
    (tmp_path / "train.tsv").write_text("0\t1\t1\n")
    grown = grow(
        TriplesFactory.from_snapshot(old).parts, tmp_path / "train.tsv", ReadOptions(ids=True)
    )
    assert (grown.parts.num_entities, grown.num_new) == (3, {"training": 1})


def test_files_of_ids_beside_the_added_ones_are_refused(old: Path, tmp_path: Path):
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "train.tsv").write_text(NEW)
    (folder / "entities.dict").write_text("0\tz\n")
    with pytest.raises(MalformedFile, match="keeps its ids"):
        grow(TriplesFactory.from_snapshot(old).parts, folder, ReadOptions())
