"""The folder in which published graphs survive a restart."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from negserve.types.checks.text import shortened
from negserve_server.errors import MalformedSnapshot
from negserve_server.graph.snapshot.manifest import is_snapshot
from negserve_server.graph.snapshot.snapshot_reader import verify_snapshot
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.graph.snapshot.unfinished_folder import flush_folder
from negserve_server.graph.triples_factory import TriplesFactory
from negserve_server.publishing.upload import LEGAL_NAME

logger = logging.getLogger(__name__)

#: Names of datasets begin with a letter or a digit, so these are never theirs.
_LOCK = ".lock"
_UNFINISHED = ".unfinished-"


class PublishFolder:
    """Keeps graphs as snapshots, each in a folder of its name, for one server at a time.

    A snapshot is written aside, flushed, and moved into place by one rename; a graph that is
    dropped is moved aside before it is removed. So a folder with the name of a graph is whole.
    What a killed server left aside is removed.

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
        self.remove_leftovers()

    def close(self) -> None:
        """Unlock the folder for another server."""
        os.close(self._lock)

    def remove_leftovers(self) -> None:
        """Remove what a killed process left aside; nobody may be writing."""
        for left in self.path.glob(f"{_UNFINISHED}*"):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with suppress(OSError):
                    left.unlink()
            if os.path.lexists(left):
                logger.warning("can't remove an unfinished graph: %s", shortened(left))

    def load(self) -> dict[str, TriplesFactory]:
        """Map all graphs, by name, in the order of their names, and compare their checksums.

        One that is incomplete or altered is logged, with array and reason, and left out. Everything
        but snapshots with the name of a graph is ignored: file systems put files there.
        """
        graphs = {}
        for place in sorted(self.path.iterdir()):
            if place.name == _LOCK:
                continue
            if not LEGAL_NAME.fullmatch(place.name) or not _may_be_snapshot(place):
                logger.warning("%s is ignored: not a published graph", shortened(place))
                continue
            try:
                graph = TriplesFactory.from_snapshot(place)  # which compares sizes
                verify_snapshot(place, lambda _what, _done, _total: None)
                graphs[place.name] = graph
            except MalformedSnapshot as error:
                logger.error(
                    "published dataset %s is not served: %s. Publish it again, which replaces it, "
                    "or remove the folder",
                    place.name,
                    error,
                )
        return graphs

    def save(self, name: str, factory: TriplesFactory) -> TriplesFactory:
        """Save a graph, and map it. Once this returns, the graph survives a crash.

        :param name: a legal name of a dataset; a snapshot that has it, altered say, is replaced
        :return: the graph, in the memory of its files
        :raises OSError: if it can't be written, or something else has the name; then nothing is
            left
        """
        if not LEGAL_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a legal name of a dataset")
        place = self.path / name
        if os.path.lexists(place) and not _may_be_snapshot(place):
            raise FileExistsError(errno.EEXIST, "something else has the name of the graph there")
        parts = replace(
            factory.parts,
            split_fingerprints=factory.split_fingerprints,
            type_constraints_fingerprint=factory.type_constraints_fingerprint,
        )
        with self._aside() as aside:
            write_snapshot(parts, aside / "graph", made=_how_made())
            if os.path.lexists(place):
                place.rename(aside / "replaced")
            (aside / "graph").rename(place)
            try:
                flush_folder(self.path)
                return TriplesFactory.from_snapshot(place)
            except BaseException:
                place.rename(aside / "graph")
                raise

    def remove(self, name: str) -> None:
        """Keep a graph no longer. Who has it mapped can read it on.

        :raises OSError: if its folder can't be removed
        """
        place = self.path / name
        if os.path.lexists(place):
            with self._aside() as aside:
                place.rename(aside / "removed")

    def forget(self, name: str) -> None:
        """Keep a graph no longer; log it if its folder can't be removed."""
        try:
            self.remove(name)
        except OSError as error:
            logger.warning(
                "dataset %s is served again after a restart, its folder can't be removed: %s",
                name,
                error,
            )

    def note_use(self, name: str) -> None:
        """Leave word for other workers that a graph is in use."""
        with suppress(OSError):
            os.utime(self.path / name)

    def unused_seconds(self, name: str) -> float:
        """Seconds since a worker left word that a graph is in use; 0 for less than a second."""
        try:
            seconds = time.time() - (self.path / name).stat().st_mtime
        except OSError:
            return 0.0
        return seconds if seconds > 1.0 else 0.0

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """Make a folder that is removed with all that is in it then."""
        path = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=self.path))
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _may_be_snapshot(path: Path) -> bool:
    """Tell whether a folder is a snapshot, also one that can't be read."""
    try:
        return path.is_dir() and is_snapshot(path)
    except OSError:  # to be said when it is read
        return True


def _how_made() -> dict[str, str]:
    return {
        "by": f"negserve {version('negserve')}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "from": "a client that published it",
    }
