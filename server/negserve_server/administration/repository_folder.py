"""The folder of a repository: which snapshots are there, and whether one is another than before."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from negserve_server.errors import MalformedFile, MalformedSnapshot
from negserve_server.graph import TriplesFactory
from negserve_server.graph.snapshot import manifest
from negserve_server.graph.snapshot.manifest import is_snapshot
from negserve_server.publishing.upload import LEGAL_NAME

logger = logging.getLogger(__name__)

#: What identifies the files of a snapshot as long as nobody writes to them.
Identity = tuple[str, int, int, int, int]

#: Of folders that ``negserve-server build`` is writing.
_UNFINISHED = ".tmp-"


class RepositoryFolder:
    """A folder in which each folder that is a snapshot is a dataset of that name. Only read.

    A link to a snapshot counts as one, so that a dataset can be replaced in one step. Names that
    begin with a period are left alone, and so are the unfinished folders of a build.

    :param path: the folder
    :raises MalformedFile: if it is not a folder that can be read
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names()

    def names(self) -> list[str]:
        """Names of the datasets that are there, sorted; whether they can be used is not checked.

        :raises MalformedFile: if the folder can't be read
        """
        found = []
        try:
            with os.scandir(self.path) as entries:
                for entry in entries:
                    if entry.name.startswith(".") or _UNFINISHED in entry.name:
                        continue
                    if not self._has_snapshot(entry.name):
                        logger.info("%s is no snapshot, and no dataset", entry.path)
                    elif not LEGAL_NAME.fullmatch(entry.name):
                        logger.warning(
                            "%s is not served: a name has 1 to 100 of A-Z, a-z, 0-9, '.', '_' and "
                            "'-', the first a letter or a digit",
                            entry.path,
                        )
                    else:
                        found.append(entry.name)
        except OSError as error:
            raise MalformedFile(
                self.path,
                None,
                f"the repository can't be read: {error.strerror}; give a folder that the server's "
                f"user may read",
            ) from error
        return sorted(found)

    def _has_snapshot(self, name: str) -> bool:
        try:
            return is_snapshot(self.path / name)
        except OSError:  # it is one, perhaps, but can't be read: to be said when it is loaded
            return True

    def identity(self, name: str) -> Identity:
        """Tell one snapshot of a name from a later one, without reading it.

        :raises MalformedSnapshot: if there is none, or it can't be read
        """
        return identity_of(self.path / name)

    def open(self, name: str) -> tuple[TriplesFactory, Identity]:
        """Open a snapshot.

        :raises MalformedSnapshot: if it can't be used, or is replaced meanwhile: its arrays might
            be those of two graphs
        """
        before = self.identity(name)
        return open_as(self.path / name, before), before


def identity_of(path: Path) -> Identity:
    """Identify a snapshot as it is now.

    :raises MalformedSnapshot: if there is none, or it can't be read
    """
    try:
        folder = path.resolve(strict=True)
        found = (folder / manifest.FILE).stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise MalformedSnapshot(
            path, None, f"can't be read ({error}); build the snapshot again"
        ) from error
    return str(folder), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def open_as(path: Path, identity: Identity) -> TriplesFactory:
    """Open a snapshot that is known.

    :raises MalformedSnapshot: if it can't be used, or is another one, perhaps since a moment ago:
        its arrays might be those of two graphs
    """
    factory = TriplesFactory.from_snapshot(identity[0])
    if identity_of(path) != identity:
        raise MalformedSnapshot(path, None, "was replaced while it was opened; load it again")
    return factory
