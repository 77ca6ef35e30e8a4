"""The folder in which published graphs survive a restart."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from negserve.types.checks.text import shortened
from negserve.types.config import SPLITS
from negserve_server.errors import MalformedFile
from negserve_server.graph.triples_factory import TriplesFactory
from negserve_server.graph.type_constraints import TypeConstraints
from negserve_server.graph.vocabulary import Vocabulary
from negserve_server.publishing.upload import LEGAL_NAME

logger = logging.getLogger(__name__)

_VERSION = 2
#: Version 1 has no type constraints and no labels.
_READABLE = (1, 2)
_LABELS = ("entity_labels", "relation_labels")
_ENDING = ".npz"
#: Names of datasets begin with a letter or a digit, so these are never theirs.
_LOCK = ".lock"
_UNFINISHED = ".unfinished-"


class PublishFolder:
    """Saves graphs to files, atomically, for one server at a time.

    A file ``NAME.npz`` holds ``version``, ``num_entities``, ``num_relations``, ``fingerprint``
    and per split its triples, uint32, shape (n, 3); of a graph with type constraints ``head_types``
    and ``tail_types``, pairs of relation and entity, uint32, shape (m, 2); of one with labels
    ``entity_labels`` and ``relation_labels``, UTF-8 separated by NUL, uint8. It is written to a
    temporary file, flushed and renamed. Temporary files of a killed server are removed.

    :param path: the folder, created if it is missing
    :raises OSError: if it can't be used, or another server uses it
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise OSError(
                f"{path}: another server uses this folder; give each server its own"
            ) from error
        for left in path.glob(f"{_UNFINISHED}*"):
            try:
                left.unlink()
            except OSError as error:
                logger.warning("can't remove an unfinished file: %s", error)

    def close(self) -> None:
        """Unlock the folder for another server."""
        os.close(self._lock)

    def load(self) -> dict[str, TriplesFactory]:
        """Load all graphs, by name, in the order of their names.

        Everything but files with the name of a graph is ignored: file systems put files there, and
        opening a named pipe would block.

        :raises MalformedFile: for a file that is not a graph, or not the one that it states
        """
        graphs = {}
        for file in sorted(self.path.iterdir()):
            name = file.name.removesuffix(_ENDING)
            if name != file.name and LEGAL_NAME.fullmatch(name) and file.is_file():
                graphs[name] = _load(file)
            elif file.name != _LOCK:
                logger.warning("%s is ignored: not a published graph", shortened(file))
        return graphs

    def save(self, name: str, factory: TriplesFactory) -> None:
        """Save a graph. Once this returns, the graph survives a crash.

        :param name: a legal name of a dataset
        :raises OSError: if it can't be written; then no file is left
        """
        if not LEGAL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a legal name of a dataset")
        finished = self.path / f"{name}{_ENDING}"
        handle, unfinished = tempfile.mkstemp(prefix=_UNFINISHED, dir=self.path)
        arrays: dict[str, Any] = {
            "version": np.uint32(_VERSION),
            "num_entities": np.uint64(factory.num_entities),
            "num_relations": np.uint64(factory.num_relations),
            "fingerprint": np.array(factory.fingerprint),
            **{split: triples.astype("<u4") for split, triples in factory.splits.items()},
            **_arrays_of_types(factory.type_constraints),
            **_arrays_of_labels(factory),
        }
        try:
            with open(handle, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, finished)
        except BaseException:
            Path(unfinished).unlink(missing_ok=True)
            raise
        try:
            self._flush()
        except OSError:
            finished.unlink(missing_ok=True)
            raise

    def _flush(self) -> None:
        """Write the names of files to the disk."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self, name: str) -> None:
        """Keep a graph no longer.

        :raises OSError: if its file can't be removed
        """
        (self.path / f"{name}{_ENDING}").unlink(missing_ok=True)


def _without_waiting(path: str, flags: int) -> int:
    # If a named pipe has taken the file's place meanwhile.
    return os.open(path, flags | os.O_NONBLOCK)


def _arrays_of_types(constraints: TypeConstraints | None) -> dict[str, Any]:
    if constraints is None:
        return {}
    return {
        "head_types": constraints.heads.astype("<u4"),
        "tail_types": constraints.tails.astype("<u4"),
    }


def _arrays_of_labels(factory: TriplesFactory) -> dict[str, Any]:
    return {
        name: np.frombuffer("\0".join(vocabulary.labels()).encode(), dtype=np.uint8)
        for name, vocabulary in zip(_LABELS, (factory.entities, factory.relations), strict=True)
        if vocabulary is not None
    }


def _vocabulary(stored: Any, name: str) -> Vocabulary | None:
    if not any(each in stored.files for each in _LABELS):
        return None
    labels = stored[name].tobytes().decode().split("\0")
    return Vocabulary.distinct(pl.Series(labels, dtype=pl.String))


def _load(file: Path) -> TriplesFactory:
    try:
        with (
            open(file, "rb", opener=_without_waiting) as opened,
            np.load(opened, allow_pickle=False) as stored,
        ):
            if int(stored["version"]) not in _READABLE:
                raise ValueError(f"its version is {stored['version']}, not {_VERSION}")
            fingerprint = str(stored["fingerprint"])
            factory = TriplesFactory(
                {split: stored[split] for split in SPLITS if split in stored.files},
                num_entities=int(stored["num_entities"]),
                num_relations=int(stored["num_relations"]),
                entities=_vocabulary(stored, _LABELS[0]),
                relations=_vocabulary(stored, _LABELS[1]),
                type_constraints=(
                    TypeConstraints(stored["head_types"], stored["tail_types"])
                    if "head_types" in stored.files
                    else None
                ),
            )
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MalformedFile(
            file, None, f"this is no published graph ({error}); remove it and publish it again"
        ) from error
    if factory.fingerprint != fingerprint:
        raise MalformedFile(
            file,
            None,
            f"the graph has fingerprint {factory.fingerprint}, the file says {fingerprint}; "
            f"remove it and publish it again",
        )
    return factory
