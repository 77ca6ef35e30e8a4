"""The repository of a running server: its datasets are loaded, replaced and unloaded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, TypeVar

from negserve.errors import NegserveError
from negserve.types.checks.text import listed, printable, shortened
from negserve_server.administration.dataset_change import DatasetChange
from negserve_server.administration.listed_version import ListedVersion, list_versions
from negserve_server.administration.repository_folder import Identity, RepositoryFolder
from negserve_server.errors import MalformedFile, NegserveServerError, Refusal
from negserve_server.graph import TriplesFactory
from negserve_server.logs.audit import audit
from negserve_server.publishing.datasets import Datasets, Origin, unknown_dataset

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: What a snapshot that can't be used, or a graph that has no room, raises.
_FAILURES = (NegserveServerError, NegserveError, OSError, MemoryError, ValueError)
_MOST_OF_A_PROBLEM = 1000


class Repository:
    """Makes the snapshots of a folder datasets, also while they are in use.

    Changes are made one after the other, from the event loop; graphs are opened in another thread.
    A change that has begun is completed, whoever has left. What can't be used changes nothing.

    :param folder: where the snapshots are; None for a server without a repository
    :param datasets: the graphs that are served
    :param executor: one thread that opens graphs
    :param prepare: called in that thread with each graph, before it is served
    :param announce: called when a dataset came, went or was replaced
    :param withdraw: called with the name of a published graph that is to be dropped
    :param leave: called with the name of a dataset that was unloaded, and whether the streams that
        use it end now; gives their number
    """

    def __init__(
        self,
        folder: RepositoryFolder | None,
        datasets: Datasets,
        *,
        executor: Executor,
        prepare: Callable[[TriplesFactory], None],
        announce: Callable[[], None],
        withdraw: Callable[[str], None],
        leave: Callable[[str, bool], int],
    ) -> None:
        self._folder = folder
        self._datasets = datasets
        self._executor = executor
        self._prepare = prepare
        self._announce = announce
        self._withdraw = withdraw
        self._leave = leave
        self._identities: dict[str, Identity] = {}
        self._lock = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()

    async def load(self, name: str) -> DatasetChange:
        """Load a dataset, or replace it by what is in the repository now.

        :raises Refusal: with ``SNAPSHOT_UNUSABLE``; the version before is served as before. With
            ``DATASET_FIXED`` for a name that is not of the repository
        :raises InvalidInput: with ``UNKNOWN_DATASET`` if the repository has no such folder
        """
        folder = self._required_folder(name)
        names = await self._in_thread(folder.names)
        if name not in names:
            self._check_origin(name, self._datasets.origin(name))
            raise unknown_dataset(name, names, f"the repository has {listed(names) or 'none'}")
        change = await self._completed(self._load(folder, name))
        if change.action == "failed":
            self._check_origin(name, self._datasets.origin(name))
            raise Refusal(
                str(change), reason="SNAPSHOT_UNUSABLE", value=name, complaint=change.problem
            )
        return change

    async def unload(
        self, name: str, origin: Origin | None = None, *, end_streams: bool = False
    ) -> DatasetChange:
        """Stop to serve a dataset of the repository, or a published one.

        :param origin: where it must come from; None for either
        :param end_streams: whether the streams that use it end now
        :raises Refusal: with ``DATASET_FIXED`` for one given at the start, or of another origin
        :raises InvalidInput: with ``UNKNOWN_DATASET``
        """
        return await self._completed(self._unload(name, origin, end_streams))

    async def versions(self) -> list[ListedVersion]:
        """Give the versions in memory: current ones first."""
        return list_versions(self._datasets)

    def identity(self, name: str) -> Identity:
        """Identify the snapshot of a dataset of the repository that is served."""
        return self._identities[name]

    async def reload(self) -> list[DatasetChange]:
        """Make the datasets those of the repository; say what was done to each, by name.

        :raises MalformedFile: if the folder can't be read; then all stays as it was
        """
        folder = self._folder
        return [] if folder is None else await self._completed(self._reload(folder))

    async def _reload(self, folder: RepositoryFolder) -> list[DatasetChange]:
        async with self._lock:
            names = await self._in_thread(folder.names)
            changes = []
            for name in sorted({*names, *self._identities}):
                if name in names:
                    changes.append(await self._take(folder, name))
                elif self._datasets.origin(name) == "repository":
                    changes.append(self._drop(name))
            return changes

    async def _load(self, folder: RepositoryFolder, name: str) -> DatasetChange:
        async with self._lock:
            return await self._take(folder, name)

    async def _unload(self, name: str, expected: Origin | None, end_streams: bool) -> DatasetChange:
        async with self._lock:
            origin = self._datasets.origin(name)
            if origin is None:
                raise unknown_dataset(
                    name, self._datasets, f"this server has {listed(self._datasets) or 'none'}"
                )
            if origin == "command line":
                self._check_origin(name, origin)
            if expected not in (None, origin):
                raise _of_another_origin(name, origin, expected)
            change = self._drop(name)
            return replace(change, num_streams=self._leave(name, end_streams))

    async def _take(self, folder: RepositoryFolder, name: str) -> DatasetChange:
        """Serve what is in the repository by a name; leave what is served if that can't be used."""
        begin = time.monotonic()
        try:
            self._check_origin(name, self._datasets.origin(name))
            if name in self._datasets:
                identity = await self._in_thread(folder.identity, name)
                if identity == self._identities[name]:
                    fingerprint = self._datasets[name].fingerprint
                    return DatasetChange(
                        name=name,
                        action="unchanged",
                        fingerprint=fingerprint,
                        previous_fingerprint=fingerprint,
                    )
            factory, identity = await self._in_thread(self._open, folder, name)
            # A client may have published a graph of that name meanwhile.
            self._check_origin(name, self._datasets.origin(name))
        except _FAILURES as error:
            return self._failed(name, error)
        before = self._datasets.get(name)
        if before is None:
            self._datasets.add(name, factory, "repository")
        else:
            self._datasets.replace(name, factory)
        self._identities[name] = identity
        self._announce()
        change = DatasetChange(
            name=name,
            action="loaded" if before is None else "replaced",
            fingerprint=factory.fingerprint,
            previous_fingerprint="" if before is None else before.fingerprint,
        )
        logger.info("%s, %.1f s; %s", change, time.monotonic() - begin, factory.summary)
        return change

    def _open(self, folder: RepositoryFolder, name: str) -> tuple[TriplesFactory, Identity]:
        factory, identity = folder.open(name)
        self._prepare(factory)
        return factory, identity

    def _drop(self, name: str) -> DatasetChange:
        fingerprint = self._datasets[name].fingerprint
        if self._datasets.origin(name) == "published":
            self._withdraw(name)
        else:
            self._datasets.remove(name)
            del self._identities[name]
            self._announce()
        change = DatasetChange(name=name, action="unloaded", previous_fingerprint=fingerprint)
        logger.info("%s", change)
        return change

    def _failed(self, name: str, error: BaseException) -> DatasetChange:
        served = self._datasets.get(name)
        fingerprint = "" if served is None else served.fingerprint
        problem = str(error) or type(error).__name__
        change = DatasetChange(
            name=name,
            action="failed",
            fingerprint=fingerprint,
            previous_fingerprint=fingerprint,
            problem=shortened(printable(problem), _MOST_OF_A_PROBLEM),
        )
        logger.error("%s", change)
        return change

    def _required_folder(self, name: str) -> RepositoryFolder:
        if self._folder is None:
            raise Refusal(
                "this server has no repository to load from; its operator starts it with "
                "--repository DIR",
                reason="DATASET_FIXED",
                value=name,
                expected="a server with --repository",
            )
        return self._folder

    def _check_origin(self, name: str, origin: Origin | None) -> None:
        """Refuse a name that the repository may not change.

        :raises Refusal: with ``DATASET_FIXED``
        """
        if origin not in (None, "repository"):
            how = "the operator gave at the start" if origin == "command line" else (
                "a client has published"
            )  # fmt: skip
            remedy = "use another name" if origin == "command line" else (
                "unload that, or use another name"
            )  # fmt: skip
            raise Refusal(
                f"the name {name!r} is that of a dataset that {how}; {remedy}",
                reason="DATASET_FIXED",
                value=name,
                expected="a name of the repository",
            )

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, function, *arguments)

    async def _completed(self, change: Coroutine[Any, Any, _T]) -> _T:
        """Wait for a change, which goes on if the caller leaves."""
        task = asyncio.create_task(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        return await asyncio.shield(task)


def _of_another_origin(name: str, origin: Origin, expected: Origin | None) -> Refusal:
    is_published = origin == "published"
    what = "is one that a client has published" if is_published else "is of the repository"
    remedy = "remove it" if is_published else "unload it"
    return Refusal(
        f"dataset {name!r} {what}; {remedy} (negserve-server admin {remedy.partition(' ')[0]})",
        reason="DATASET_FIXED",
        value=name,
        expected=f"a dataset of the origin {expected}",
    )


def log_unreadable(error: MalformedFile) -> None:
    """Say in the log that a repository can't be read."""
    text = "SIGHUP: the datasets of the repository stay as they were: %s"
    audit("sighup", text, error, level=logging.ERROR)
