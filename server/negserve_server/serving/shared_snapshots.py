"""Graphs as snapshots, whatever they are read from, so that several processes map the same."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from negserve_server.errors import WorkerFailed
from negserve_server.graph import TriplesFactory
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.manifest import is_snapshot
from negserve_server.graph.snapshot.snapshot_cache import SnapshotCache
from negserve_server.graph.snapshot.snapshot_writer import write_snapshot
from negserve_server.process.family import Family, Tell, how_it_ended
from negserve_server.process.progress import show_progress
from negserve_server.reading_options import how_made


@contextmanager
def shared_snapshots(
    paths: Mapping[str, Path | None], cache: SnapshotCache | None, options: ReadOptions
) -> Iterator[dict[str, Path]]:
    """Make snapshots of the graphs that are none, and give the path of each for this block.

    Files are read by another process, since polars, which reads them, starts threads, and a process
    with threads must not fork. What is mapped in the block stays mapped after it, also where the
    snapshot is temporary and so removed.

    :param paths: a path by name; None for the embedded graph
    :param cache: where the snapshots of files are kept; None for a temporary folder
    :param options: how files are read
    :raises WorkerFailed: with the reason, if there is no graph, or no room for its snapshot
    """
    try:
        temporary = tempfile.TemporaryDirectory(
            prefix="negserve-", dir=None if cache is None else cache.folder
        )
    except OSError as error:
        raise WorkerFailed(
            f"there is no folder for the snapshots that workers share: {error}; give --cache-dir "
            f"with one that the server may write to"
        ) from error
    with temporary as folder, closing(Family()) as family:
        snapshots = {}
        for number, (name, path) in enumerate(paths.items()):
            if path is not None and is_snapshot(path):
                snapshots[name] = path
                continue
            place = Path(folder, str(number))
            child = family.fork(partial(_write, name, path, place, cache, options))
            try:
                code = child.wait()
            except BaseException:  # such as the exit after SIGTERM: nothing may be written any more
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                raise
            if code:
                raise WorkerFailed(
                    child.failure or f"the process that read dataset {name} {how_it_ended(code)}"
                )
            snapshots[name] = Path(child.told[0])
        yield snapshots


def _write(
    name: str,
    path: Path | None,
    place: Path,
    cache: SnapshotCache | None,
    options: ReadOptions,
    tell: Tell,
) -> None:
    """Write the snapshot of one graph, and tell where it is."""
    with show_progress(f"reading dataset {name}") as work:
        if path is not None and cache is not None:
            place = cache.place_of(path, options)
            cache.get(
                path,
                options,
                partial(_parts, path, options),
                made=how_made(path, options),
                progress=work.advance,
            )
            if not is_snapshot(place):
                raise WorkerFailed(
                    f"dataset {name}: its snapshot, which workers share, can't be written to "
                    f"{cache.folder}; free space there, or give another --cache-dir"
                )
        else:
            made = {} if path is None else how_made(path, options)
            write_snapshot(_parts(path, options), place, made=made, progress=work.advance)
    tell(str(place))


def _parts(path: Path | None, options: ReadOptions) -> GraphParts:
    if path is None:
        return TriplesFactory.world().parts
    return TriplesFactory.from_path(path, options).parts
