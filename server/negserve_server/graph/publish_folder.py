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

from negserve_server.errors import MalformedFile, shortened
from negserve_server.graph.triples_factory import TriplesFactory
from negserve_server.graph.upload import LEGAL_NAME
from negserve_server.sampling import SPLITS

logger = logging.getLogger(__name__)

_VERSION = 1
_ENDING = ".npz"
#: Names of datasets begin with a letter or a digit, so these are never theirs.
_LOCK = ".lock"
_UNFINISHED = ".unfinished-"


class PublishFolder:
    """Keeps graphs as files, whole or not at all, for one server at a time.

    A file ``NAME.npz`` holds ``version``, ``num_entities``, ``num_relations``, ``fingerprint``
    and per split its triples, uint32, shape (n, 3). It is written beside its place and moved
    there when it is on the disk; what a killed server left unfinished is removed.

    :param path: the folder, made if it is not there
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
                f"{path}: another server keeps its graphs there; give each a folder of its own"
            ) from error
        for left in path.glob(f"{_UNFINISHED}*"):
            try:
                left.unlink()
            except OSError as error:
                logger.warning("what an upload left behind stays there: %s", error)

    def close(self) -> None:
        """Leave the folder to another server."""
        os.close(self._lock)

    def load(self) -> dict[str, TriplesFactory]:
        """Load all graphs, by name, in the order of their names.

        Files that are not named like a graph, and what is no file, are left alone: file systems
        put such there, and opening a named pipe waits for ever.

        :raises MalformedFile: for a file that holds no graph, or another than it says
        """
        graphs = {}
        for file in sorted(self.path.iterdir()):
            name = file.name.removesuffix(_ENDING)
            if name != file.name and LEGAL_NAME.fullmatch(name) and file.is_file():
                graphs[name] = _load(file)
            elif file.name != _LOCK:
                logger.warning("%s is left alone: it is no published graph", shortened(file))
        return graphs

    def save(self, name: str, factory: TriplesFactory) -> None:
        """Keep a graph; once this returns it survives a crash.

        :param name: a legal name of a dataset
        :raises OSError: if it can't be written; then nothing is left of it
        """
        if not LEGAL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no legal name of a dataset")
        finished = self.path / f"{name}{_ENDING}"
        handle, unfinished = tempfile.mkstemp(prefix=_UNFINISHED, dir=self.path)
        arrays: dict[str, Any] = {
            "version": np.uint32(_VERSION),
            "num_entities": np.uint64(factory.num_entities),
            "num_relations": np.uint64(factory.num_relations),
            "fingerprint": np.array(factory.fingerprint),
            **{split: triples.astype("<u4") for split, triples in factory.splits.items()},
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


def _load(file: Path) -> TriplesFactory:
    try:
        with (
            open(file, "rb", opener=_without_waiting) as opened,
            np.load(opened, allow_pickle=False) as stored,
        ):
            if int(stored["version"]) != _VERSION:
                raise ValueError(f"its version is {stored['version']}, not {_VERSION}")
            fingerprint = str(stored["fingerprint"])
            factory = TriplesFactory(
                {split: stored[split] for split in SPLITS if split in stored.files},
                num_entities=int(stored["num_entities"]),
                num_relations=int(stored["num_relations"]),
            )
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise MalformedFile(
            file, None, f"this is no published graph ({error}); remove it and publish it again"
        ) from error
    if factory.fingerprint != fingerprint:
        raise MalformedFile(
            file,
            None,
            f"the triples have fingerprint {factory.fingerprint}, the file says {fingerprint}; "
            f"remove it and publish it again",
        )
    return factory
