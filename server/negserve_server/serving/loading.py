"""The graphs that a server has from its start: those of its operator, and published ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from negserve_server.errors import MalformedFile
from negserve_server.graph import TriplesFactory
from negserve_server.graph.graph_parts import GraphParts
from negserve_server.graph.readers import ReadOptions
from negserve_server.graph.snapshot.manifest import is_snapshot
from negserve_server.graph.snapshot.snapshot_cache import SnapshotCache
from negserve_server.process.progress import show_progress
from negserve_server.publishing.publish_folder import PublishFolder
from negserve_server.reading_options import how_made

logger = logging.getLogger(__name__)


def load_datasets(
    paths: Mapping[str, Path | None],
    cache: SnapshotCache | None = None,
    options: ReadOptions = ReadOptions(),  # noqa: B008
) -> dict[str, TriplesFactory]:
    """Load all datasets.

    :param paths: a path by name; None for the embedded graph
    :param cache: where snapshots of graphs are left that were read from files; None for nowhere
    :param options: how files are read
    :raises MalformedFile: naming file, line and reason
    """
    datasets = {}
    for name, path in paths.items():
        begin = time.monotonic()
        with show_progress(f"loading dataset {name}") as work:
            if path is None:
                factory = TriplesFactory.world()
            elif is_snapshot(path):
                factory = TriplesFactory.from_snapshot(path)
            elif cache is None:
                factory = TriplesFactory.from_path(path, options)
            else:
                parts = cache.get(
                    path,
                    options,
                    partial(_read, path, options),
                    made=how_made(path, options),
                    progress=work.advance,
                )
                factory = TriplesFactory.from_parts(parts)
        datasets[name] = factory
        logger.info("dataset %s: %s, %.1f s", name, factory.summary, time.monotonic() - begin)
    return datasets


def _read(path: Path, options: ReadOptions) -> GraphParts:
    return TriplesFactory.from_path(path, options).parts


def load_published(
    folder: PublishFolder, datasets: Mapping[str, TriplesFactory]
) -> dict[str, TriplesFactory]:
    """Load the graphs that clients published before.

    :param datasets: those of the operator, which take precedence over equal published graphs
    :raises MalformedFile: for another graph than the operator's dataset of that name
    """
    published = {}
    for name, factory in folder.load().items():
        given = datasets.get(name)
        if given is None:
            logger.info("published before: %s: %s", name, factory.summary)
            published[name] = factory
        elif given.fingerprint != factory.fingerprint:
            raise MalformedFile(
                folder.path / name,
                None,
                f"{name!r} was published with fingerprint {factory.fingerprint}, the dataset given "
                f"by that name has {given.fingerprint}; rename the dataset, or remove the folder",
            )
    return published


def check_read(datasets: Mapping[str, Path | None]) -> None:
    """Say which datasets the options about files do not concern.

    :raises ValueError: if they concern none
    """
    made = [name for name, path in datasets.items() if path is None or is_snapshot(path)]
    if len(made) == len(datasets):
        raise ValueError(
            f"options about reading files, but no --dataset is read from files: "
            f"{', '.join(made) or 'there is none'}; a snapshot is as it was built, so leave them "
            f"out, or give them to negserve-server build"
        )
    if made:
        logger.warning(
            "the options about reading files do not concern %s, made before", ", ".join(made)
        )
