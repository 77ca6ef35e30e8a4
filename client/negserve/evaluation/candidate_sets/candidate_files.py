"""Materialised evaluation sets: the candidates in a file, checked against their manifest."""

from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError, LocalStorageError
from negserve.evaluation.candidate_sets.candidate_table import CandidateTable
from negserve.evaluation.candidate_sets.evaluation_set import EvaluationSet, Report
from negserve.evaluation.evaluated_graph import num_ids_of
from negserve.terminal.extras import needing
from negserve.types.config import SLOTS, Slot
from negserve.types.triples import narrowest_dtype
from negserve.types.triples_factory import TriplesFactory

#: Name of the manifest in the metadata of a Parquet file, and of the array in an ``.npz``.
_MANIFEST = "negserve.manifest"
_POSITIVE_COLUMNS = ("head", "relation", "tail")
#: What numpy and zipfile raise for a file that is cut off or altered, besides OSError.
_DAMAGES = (
    KeyError,
    ValueError,
    EOFError,
    TypeError,
    MemoryError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)
#: Largest size of an id space: the digest takes ids as uint32.
_MOST_IDS = 2**32


def write_candidates(
    path: str | Path,
    evaluation_set: EvaluationSet,
    graph: TriplesFactory,
    *,
    split: str | None = None,
    triples: ArrayLike | None = None,
    on_batch: Report | None = None,
) -> CandidateTable:
    """Draw an evaluation set and write it to a file, which appears when it is complete.

    ``.npz`` has the arrays ``positives`` (int64, shape (m, 3)), ``SIDE_candidates`` (shape (m, k))
    and ``SIDE_mask`` (bool, shape (m, k)) for each side, and ``manifest`` (UTF-8, uint8). In
    Parquet a query is a row, first all of one side: columns ``side``, ``head``, ``relation``,
    ``tail``, ``candidates`` and ``mask``; the manifest is the metadata ``negserve.manifest``.

    :param path: of the file, ending in ``.npz`` or ``.parquet``; a file there is replaced
    :param graph: as for :meth:`EvaluationSet.batches`, as are ``split`` and ``triples``
    :param on_batch: called now and then with the queries done, and all queries
    :return: what was written
    :raises InvalidRequestError: for another ending
    :raises MissingLibraryError: for Parquet without polars
    :raises LocalStorageError: if the file can't be written; before anything is drawn, if its
        folder is not there
    :raises NegserveError: as :meth:`EvaluationSet.batches` does
    """
    path = Path(path)
    _check_ending(path)
    check_folder(path)
    table = _drawn(evaluation_set, graph, split, triples, on_batch)
    with written_aside(path) as aside:
        if path.suffix == ".npz":
            _write_npz(aside, evaluation_set, table)
        else:
            _write_parquet(aside, evaluation_set, table)
    return table


def read_candidates(path: str | Path) -> tuple[EvaluationSet, CandidateTable]:
    """Read a file of :func:`write_candidates`, and check it.

    :return: the set, and its candidates
    :raises ManifestMismatchError: if the candidates are not those that the file's manifest states
    :raises InvalidRequestError: for a file that is no materialised evaluation set
    :raises MissingLibraryError: for Parquet without polars
    :raises OSError: if the file can't be read
    """
    path = Path(path)
    _check_ending(path)
    evaluation_set, table = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    _check_shapes(path, evaluation_set, table)
    evaluation_set.compare(table.digest(), table.num_saturated())
    return evaluation_set, table


def _check_ending(path: Path) -> None:
    if path.suffix not in {".npz", ".parquet"}:
        raise InvalidRequestError(f"{path} ends in {path.suffix!r}; give .npz or .parquet")
    if path.suffix == ".parquet":
        with needing("an evaluation set as Parquet", "negserve[server]"):
            import polars  # noqa: F401


def _drawn(
    evaluation_set: EvaluationSet,
    graph: TriplesFactory,
    split: str | None,
    triples: ArrayLike | None,
    on_batch: Report | None,
) -> CandidateTable:
    rows = evaluation_set.rows(graph, split=split, triples=triples)
    shape = (len(rows), evaluation_set.sampler.num_negs_per_pos)
    candidates: dict[Slot, NDArray[np.unsignedinteger]] = {}
    masks: dict[Slot, NDArray[np.bool_]] = {}
    for side in evaluation_set.sides:
        candidates[side] = np.empty(shape, dtype=narrowest_dtype(num_ids_of(graph, side)))
        masks[side] = np.empty(shape, dtype=np.bool_)
    done = 0
    for batch in evaluation_set.batches(graph, triples=rows):
        at = slice(batch.row, batch.row + len(batch))
        candidates[batch.side][at] = batch.candidates
        masks[batch.side][at] = batch.mask
        done += len(batch)
        if on_batch is not None:
            on_batch(done, evaluation_set.num_queries)
    return CandidateTable(rows, candidates, masks)


def check_folder(path: Path) -> None:
    """Check that the folder of a file to write is there.

    :raises LocalStorageError: if not
    """
    if not path.parent.is_dir():
        raise LocalStorageError(f"{path} can't be written: there is no folder {path.parent}")


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Give a file beside a path, which takes its place after the block, and is removed if it fails.

    :raises LocalStorageError: if it can't be written
    """
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            aside = Path(file.name)
        try:
            yield aside
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise LocalStorageError(f"{path} can't be written: {error}") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _write_npz(path: Path, evaluation_set: EvaluationSet, table: CandidateTable) -> None:
    arrays: dict[str, NDArray[np.generic]] = {
        "manifest": np.frombuffer(evaluation_set.to_json().encode(), dtype=np.uint8),
        "positives": table.positives.astype("<i8"),
    }
    for side in evaluation_set.sides:
        values = table.candidates[side]
        arrays[f"{side}_candidates"] = values.astype(values.dtype.newbyteorder("<"))
        arrays[f"{side}_mask"] = table.masks[side]
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _read_npz(path: Path) -> tuple[EvaluationSet, CandidateTable]:
    try:
        # numpy does not close a file of its own that is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            evaluation_set = EvaluationSet.from_json(arrays["manifest"].tobytes())
            return evaluation_set, CandidateTable(
                arrays["positives"],
                {side: arrays[f"{side}_candidates"] for side in evaluation_set.sides},
                {side: arrays[f"{side}_mask"] for side in evaluation_set.sides},
            )
    except InvalidRequestError:
        raise
    except _DAMAGES as error:
        raise _no_set(path, error) from error


def _write_parquet(path: Path, evaluation_set: EvaluationSet, table: CandidateTable) -> None:
    import polars as pl

    k = evaluation_set.sampler.num_negs_per_pos
    frames = []
    for side in evaluation_set.sides:
        columns = {
            name: pl.Series(name, table.positives[:, column])
            for column, name in enumerate(_POSITIVE_COLUMNS)
        }
        values = table.candidates[side].astype(np.uint32)
        columns["candidates"] = pl.Series("candidates", values, dtype=pl.Array(pl.UInt32, k))
        columns["mask"] = pl.Series("mask", table.masks[side], dtype=pl.Array(pl.Boolean, k))
        frames.append(pl.DataFrame(columns).select(pl.lit(side).alias("side"), pl.all()))
    pl.concat(frames).write_parquet(path, metadata={_MANIFEST: evaluation_set.to_json()})


def _read_parquet(path: Path) -> tuple[EvaluationSet, CandidateTable]:
    import polars as pl

    try:
        manifest = pl.read_parquet_metadata(path)[_MANIFEST]
        evaluation_set = EvaluationSet.from_json(manifest)
        frame = pl.read_parquet(path, hive_partitioning=False, glob=False)
        candidates: dict[Slot, NDArray[np.unsignedinteger]] = {}
        masks: dict[Slot, NDArray[np.bool_]] = {}
        positives: list[NDArray[np.int64]] = []
        for side in evaluation_set.sides:
            rows = frame.filter(pl.col("side") == side)
            candidates[side] = _values(rows["candidates"].to_numpy())
            masks[side] = rows["mask"].to_numpy()
            positives.append(rows.select(_POSITIVE_COLUMNS).to_numpy())
    except InvalidRequestError:
        raise
    # A panic is what polars raises for some files that are altered; it is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, *_DAMAGES) as error:
        raise _no_set(path, error) from error
    if len(frame) != evaluation_set.num_queries:
        raise _no_set(path, f"it has {len(frame)} rows, not {evaluation_set.num_queries}")
    if any(not np.array_equal(positives[0], each) for each in positives):
        raise _no_set(path, "its sides have different triples")
    return evaluation_set, CandidateTable(positives[0], candidates, masks)


def _values(values: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    largest = int(values.max()) if values.size else 0
    return values.astype(narrowest_dtype(largest + 1))


def _check_shapes(path: Path, evaluation_set: EvaluationSet, table: CandidateTable) -> None:
    m, k = evaluation_set.num_triples, evaluation_set.sampler.num_negs_per_pos
    expected: dict[str, tuple[NDArray[Any], tuple[int, int], str]] = {
        "positives": (table.positives, (m, 3), "i")
    }
    for side in SLOTS:
        if side in table.candidates:
            expected[f"{side}_candidates"] = table.candidates[side], (m, k), "u"
            expected[f"{side}_mask"] = table.masks[side], (m, k), "b"
    for name, (array, shape, kind) in expected.items():
        if array.shape != shape or array.dtype.kind != kind:
            raise _no_set(path, f"{name} is {array.dtype} {array.shape}, not {shape}")
        if kind != "b" and array.size and not 0 <= array.min() <= array.max() < _MOST_IDS:
            raise _no_set(path, f"{name} has an id that is not from 0 to {_MOST_IDS - 1}")


def _no_set(path: Path, why: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"{path} is no materialised evaluation set: {why}; write it again with "
        f"negserve evaluation-set export"
    )
