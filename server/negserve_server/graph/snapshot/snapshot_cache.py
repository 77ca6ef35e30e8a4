"""Snapshots of graphs that were read from files, so that the next start need not read them."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from negserve_server.errors import MalformedSnapshot
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.readers.sources import find_sources
from negserve_server.graph.snapshot.manifest import VERSION
from negserve_server.graph.snapshot.snapshot_reader import open_snapshot
from negserve_server.graph.snapshot.snapshot_writer import Progress, write_snapshot

logger = logging.getLogger(__name__)


class SnapshotCache:
    """A folder of snapshots, one for each content of files.

    The name of a snapshot is a SHA-256 of all that decides which graph is read: the content of each
    file (not its size and time, which editors and copies may keep), its name and role, the
    options, the release and the format of snapshots. Servers may share the folder. Nothing is
    removed from it but what can't be opened.

    :param folder: the folder, created if it is missing
    :raises OSError: if it can't be created
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def place_of(self, path: Path, options: ReadOptions) -> Path:
        """Say where the snapshot of some files is, or would be; reads the files.

        :raises MalformedFile: if there is no graph
        """
        return self.folder / _key(path, options)

    def get(
        self,
        path: Path,
        options: ReadOptions,
        read: Callable[[], GraphParts],
        *,
        made: Mapping[str, Any],
        progress: Progress,
    ) -> GraphParts:
        """Open the snapshot of some files; read them, and leave one, if there is none.

        A folder that can't be written to is logged: the graph is served all the same.

        :param path: as for :meth:`.TriplesFactory.from_path`
        :param read: reads the files
        :param made: how the snapshot is made, for people
        :raises MalformedFile: if there is no graph
        """
        snapshot = self.place_of(path, options)
        if snapshot.exists():
            try:
                parts = open_snapshot(snapshot)
            except MalformedSnapshot as error:
                logger.warning("%s; it is replaced", error)
                shutil.rmtree(snapshot, ignore_errors=True)
            else:
                logger.info("%s: not read again, mapped from %s", path, snapshot)
                return parts
        parts = read()
        try:
            write_snapshot(parts, snapshot, made=made, progress=progress)
        except FileExistsError:
            pass  # another server was faster
        except OSError as error:
            logger.warning("%s is read again by the next start: no snapshot, as %s", path, error)
            return parts
        logger.info("%s: read, and kept for the next start in %s", path, snapshot)
        return open_snapshot(snapshot)


def _key(path: Path, options: ReadOptions) -> str:
    """Name the snapshot of some files, by their content.

    :raises MalformedFile: if there is no graph
    """
    sources = find_sources(path, options, is_logged=False)
    files = [(split, file) for split, each in sources.splits.items() for file in each]
    files += sources.maps.items()
    if sources.constraints is not None:
        files.append(("type_constraints", sources.constraints))
    others = {each.name: getattr(options, each.name) for each in fields(options)}
    # Files are known by their content, wherever they are.
    given = {name: value for name, value in others.items() if not isinstance(value, Path)}
    contents = []
    for role, file in files:
        with file.open("rb") as opened:
            contents.append((role, file.name, hashlib.file_digest(opened, "sha256").hexdigest()))
    text = json.dumps([VERSION, version("negserve"), given, contents], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
