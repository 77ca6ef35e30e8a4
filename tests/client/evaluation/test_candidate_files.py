"""Files of pinned candidates: what they hold, and what becomes of altered ones."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from negserve import InvalidRequestError, LocalStorageError, ManifestMismatchError
from negserve.evaluation import EvaluationSet, read_candidates, write_candidates
from tests.client.evaluation.test_evaluation_set import UNIFORM
from tests.support.graphs import load


@pytest.fixture(scope="module")
def pinned() -> EvaluationSet:
    return EvaluationSet.create(load("world"), UNIFORM, split="testing")


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_files_hold_the_set(tmp_path: Path, pinned: EvaluationSet, ending: str):
    path = tmp_path / f"set.{ending}"
    seen: list[int] = []
    written = write_candidates(
        path, pinned, load("world"), on_batch=lambda done, total: seen.append(done)
    )
    assert seen[-1] == pinned.num_queries
    read, table = read_candidates(path)
    assert read == pinned
    assert np.array_equal(table.positives, written.positives)
    for side in pinned.sides:
        assert np.array_equal(table.candidates[side], written.candidates[side])
        assert np.array_equal(table.masks[side], written.masks[side])
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_an_empty_set_has_a_file(tmp_path: Path, ending: str):
    graph = load("world")
    made = EvaluationSet.create(graph, UNIFORM, triples=np.empty((0, 3), dtype=np.int64))
    write_candidates(
        tmp_path / f"set.{ending}", made, graph, triples=np.empty((0, 3), dtype=np.int64)
    )
    assert read_candidates(tmp_path / f"set.{ending}")[0] == made


@pytest.mark.parametrize("name", ["positives", "head_candidates", "tail_mask"])
def test_an_altered_file_is_refused(tmp_path: Path, pinned: EvaluationSet, name: str):
    path = tmp_path / "set.npz"
    write_candidates(path, pinned, load("world"))
    with np.load(path) as arrays:
        altered = dict(arrays)
    altered[name][-1, -1] ^= True
    np.savez(path, **altered)
    with pytest.raises(ManifestMismatchError, match=pinned.digest):
        read_candidates(path)
    altered[name] = altered[name][:-1]
    np.savez(path, **altered)
    with pytest.raises(InvalidRequestError, match=name):
        read_candidates(path)


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """Replace columns of a Parquet file, and keep its manifest."""
    metadata = pl.read_parquet_metadata(path)
    frame = pl.read_parquet(path)
    kept = {"negserve.manifest": metadata["negserve.manifest"]}
    frame.with_columns(**change).write_parquet(path, metadata=kept)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("candidates", pl.col("candidates").arr.reverse()),
        ("mask", pl.col("mask").arr.eval(~pl.element())),
        ("tail", pl.col("tail").reverse().over("side")),
    ],
)
def test_an_altered_parquet_file_is_refused(
    tmp_path: Path, pinned: EvaluationSet, column: str, change: pl.Expr
):
    path = tmp_path / "set.parquet"
    write_candidates(path, pinned, load("world"))
    rewrite(path, {column: change})
    with pytest.raises(ManifestMismatchError, match=pinned.digest):
        read_candidates(path)


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("candidates", pl.col("candidates").arr.to_list()),
        ("candidates", pl.lit(None, dtype=pl.Array(pl.UInt32, 20))),
        ("mask", pl.lit(True)),
        ("tail", pl.col("tail").cast(pl.Float64)),
        ("tail", pl.col("tail").cast(pl.String)),
        ("tail", pl.when(pl.col("side") == "head").then("tail").otherwise(0)),
        ("side", pl.lit("head")),
        ("side", pl.lit("relation")),
        ("side", pl.int_range(pl.len())),
    ],
    ids=str,
)
def test_a_parquet_file_of_other_columns_is_refused(
    tmp_path: Path, pinned: EvaluationSet, column: str, change: pl.Expr
):
    path = tmp_path / "set.parquet"
    write_candidates(path, pinned, load("world"))
    rewrite(path, {column: change})
    with pytest.raises(InvalidRequestError, match="no materialised evaluation set"):
        read_candidates(path)


def test_rows_besides_those_of_the_set_are_refused(tmp_path: Path, pinned: EvaluationSet):
    path = tmp_path / "set.parquet"
    write_candidates(path, pinned, load("world"))
    frame = pl.read_parquet(path)
    more = pl.concat([frame, frame[:1].with_columns(side=pl.lit("relation"))])
    more.write_parquet(path, metadata={"negserve.manifest": pinned.to_json()})
    with pytest.raises(InvalidRequestError, match="601 rows, not 600"):
        read_candidates(path)


@pytest.mark.parametrize("name", ["positives", "head_candidates"])
def test_ids_that_the_digest_can_not_tell_are_refused(
    tmp_path: Path, pinned: EvaluationSet, name: str
):
    """It takes 32 bits of each."""
    path = tmp_path / "set.npz"
    write_candidates(path, pinned, load("world"))
    with np.load(path) as arrays:
        altered = dict(arrays)
    wide = np.int64 if name == "positives" else np.uint64
    altered[name] = altered[name].astype(wide)
    altered[name][0, 0] += wide(2**32)
    np.savez(path, **altered)
    with pytest.raises(InvalidRequestError, match=f"{name} has an id"):
        read_candidates(path)


def test_another_digest_or_number_in_the_manifest_of_a_file_is_refused(
    tmp_path: Path, pinned: EvaluationSet
):
    path = tmp_path / "set.npz"
    write_candidates(path, pinned, load("world"))
    with np.load(path) as arrays:
        saved = dict(arrays)
    manifest = json.loads(pinned.to_json())
    sampler = manifest["sampler"]
    for change, error in (
        ({"digest": "0" * 64}, ManifestMismatchError),
        ({"num_saturated": {"head": 1, "tail": 0}}, ManifestMismatchError),
        ({"num_triples": 299}, InvalidRequestError),
        ({"sampler": {**sampler, "num_negs_per_pos": 21}}, InvalidRequestError),
        ({"sampler": {**sampler, "corruption_scheme": ["tail"]}}, InvalidRequestError),
        ({"version": 2}, InvalidRequestError),
    ):
        text = json.dumps({**manifest, **change}).encode()
        np.savez(path, **{**saved, "manifest": np.frombuffer(text, dtype=np.uint8)})
        with pytest.raises(error):
            read_candidates(path)


def test_a_damaged_npz_is_refused_or_whole(tmp_path: Path, pinned: EvaluationSet):
    path = tmp_path / "set.npz"
    write_candidates(path, pinned, load("world"))
    whole, random_ = path.read_bytes(), random.Random(0)
    for number in range(200):
        damaged = bytearray(whole)
        if number % 3 == 0:
            del damaged[random_.randrange(len(damaged)) :]
        else:
            damaged[random_.randrange(len(damaged))] = random_.randrange(256)
        path.write_bytes(damaged)
        with suppress(InvalidRequestError, ManifestMismatchError):
            assert read_candidates(path)[0].digest == pinned.digest


def test_a_parquet_file_that_is_cut_off_is_refused(tmp_path: Path, pinned: EvaluationSet):
    path = tmp_path / "set.parquet"
    write_candidates(path, pinned, load("world"))
    whole = path.read_bytes()
    for length in range(0, len(whole), len(whole) // 20):
        path.write_bytes(whole[:length])
        with pytest.raises(InvalidRequestError, match="no materialised evaluation set"):
            read_candidates(path)


@pytest.mark.parametrize("ending", ["npz", "parquet"])
def test_what_is_no_file_of_a_set_is_refused(tmp_path: Path, ending: str):
    path = tmp_path / f"set.{ending}"
    path.write_bytes(b"nothing")
    with pytest.raises(InvalidRequestError, match="no materialised evaluation set"):
        read_candidates(path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_file_is_there_when_it_is_complete(
    tmp_path: Path,
    pinned: EvaluationSet,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
):
    path = tmp_path / "set.npz"
    path.write_bytes(b"an older one")

    def fail(file: Any, **arrays: Any) -> None:
        file.write(b"the first half")
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", fail)
        with pytest.raises(error):
            write_candidates(path, pinned, load("world"))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"an older one"


def test_a_file_that_can_not_be_written_is_told(tmp_path: Path, pinned: EvaluationSet):
    with pytest.raises(LocalStorageError, match="nowhere"):
        write_candidates(tmp_path / "nowhere" / "set.npz", pinned, load("world"))
    with pytest.raises(InvalidRequestError, match=r"'\.csv'"):
        write_candidates(tmp_path / "set.csv", pinned, load("world"))
