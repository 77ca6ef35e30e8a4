"""The datasets of several workers: their supervisor changes its own, and they do the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from negserve.errors import InvalidRequestError
from negserve_server.administration.dataset_change import DatasetChange
from negserve_server.administration.listed_version import (
    ListedVersion,
    list_versions,
    merge_versions,
)
from negserve_server.administration.repository import Repository, log_unreadable
from negserve_server.administration.repository_folder import (
    Identity,
    RepositoryFolder,
    identity_of,
    open_as,
)
from negserve_server.errors import MalformedFile, Refusal
from negserve_server.graph import TriplesFactory
from negserve_server.logs.audit import audit
from negserve_server.process.orders import Order
from negserve_server.publishing.datasets import Datasets, Origin
from negserve_server.publishing.publish_folder import PublishFolder

_T = TypeVar("_T")

#: Of a dataset that is not of the command line: name, origin, number of its version, snapshot.
State = list[tuple[str, str, int, Identity]]


class SharedDatasets:
    """Changes the datasets of a supervisor, and says what its workers have to make of theirs.

    It maps each graph itself. So a worker that is forked later has all of them, also those whose
    snapshot has gone from the disk. It works in one thread, as a process with more can't fork.

    :param datasets: those of the supervisor, which its workers begin with
    :param repository_folder: where the snapshots are; None for a server without a repository
    :param publish_folder: where published graphs are kept; None where none can be
    :param prepare: called with each graph, before it is served
    """

    def __init__(
        self,
        datasets: Datasets,
        repository_folder: RepositoryFolder | None,
        publish_folder: PublishFolder | None,
        prepare: Callable[[TriplesFactory], None],
    ) -> None:
        self._datasets = datasets
        self._has_repository = repository_folder is not None
        self._folder = publish_folder
        self._prepare = prepare
        self._repository = Repository(
            repository_folder,
            datasets,
            executor=_AtOnce(),
            prepare=prepare,
            announce=lambda: None,
            withdraw=self._withdraw,
            leave=lambda *_: 0,  # workers have the streams
        )
        self._published: dict[str, Identity] = {
            name: identity_of(publish_folder.path / name)
            for name in datasets
            if publish_folder is not None and datasets.origin(name) == "published"
        }

    def load_repository(self) -> None:
        """Load the datasets of the repository, before there are workers.

        :raises MalformedFile: if the folder can't be read
        """
        self._run(self._repository.reload())

    def handle(self, request: Any) -> Order:
        """Do what a worker asks for; say what all are told about it."""
        what, name, *rest = request
        if what == "versions":
            return Order({"list": True}, _merged)
        if what == "unload":
            return self._unload(name, *rest)
        try:
            answer: Any = {"changes": list(map(asdict, self._change(what, name)))}
        except (Refusal, InvalidRequestError) as error:
            answer = _error(error)
        except MalformedFile as error:
            metadata = {"value": error.path, "complaint": error.why}
            answer = {"error": [str(error), "SNAPSHOT_UNUSABLE", metadata]}
        return Order({"state": self._state()}, lambda _: answer)

    def _unload(self, name: str, origin: Origin | None, end_streams: bool) -> Order:
        """Drop a dataset; workers count their streams that use it, and end them if told."""
        try:
            change = self._run(self._repository.unload(name, origin))
        except (Refusal, InvalidRequestError) as error:
            answer = _error(error)
            return Order({"state": self._state()}, lambda _: answer)
        message = {"state": self._state(), "unloaded": name, "end_streams": end_streams}
        return Order(
            message,
            lambda counts: {"changes": [asdict(replace(change, num_streams=sum(counts)))]},
        )

    def reload(self) -> Order | None:
        """Load the repository again, for SIGHUP."""
        if not self._has_repository:
            return None
        try:
            changes = self._run(self._repository.reload())
        except MalformedFile as error:
            log_unreadable(error)
            return None
        return Order({"state": self._state()}, lambda _: log_changes(changes))

    def _change(self, what: str, name: str) -> list[DatasetChange]:
        if what == "load":
            return [self._run(self._repository.load(name))]
        if what == "reload":
            return self._run(self._repository.reload())
        if what == "publish":
            self._publish(name)
        elif self._datasets.origin(name) == "published":
            self._withdraw(name)
        return []

    def _publish(self, name: str) -> None:
        """Serve a graph that a worker has put into the folder of published graphs.

        :raises Refusal: with ``DATASET_FIXED`` if the operator has loaded one of that name
        """
        if self._folder is None or name in self._datasets:
            raise Refusal(
                f"the operator has loaded a dataset {name!r} meanwhile; use another name",
                reason="DATASET_FIXED",
                value=name,
                expected="a name of no dataset",
            )
        identity = identity_of(self._folder.path / name)
        factory = open_as(self._folder.path / name, identity)
        self._prepare(factory)
        self._datasets.add(name, factory, "published")
        self._published[name] = identity

    def _withdraw(self, name: str) -> None:
        self._datasets.remove(name)
        del self._published[name]
        if self._folder is not None:
            self._folder.forget(name)

    def _state(self) -> State:
        state: State = []
        for version, is_current in self._datasets.versions():
            if is_current and version.origin != "command line":
                name = version.name
                identity = (
                    self._published[name]
                    if version.origin == "published"
                    else self._repository.identity(name)
                )
                state.append((name, version.origin, version.serial, identity))
        return state

    @staticmethod
    def _run(change: Coroutine[Any, Any, _T]) -> _T:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(change)
        finally:
            loop.close()


class FollowedDatasets:
    """The datasets of one worker, which asks its supervisor for changes, and follows them.

    :param datasets: those of the worker
    :param ask: asks the supervisor, and gives its answer once all workers have followed
    :param prepare: called in a thread with each graph, before it is served
    :param announce: called when datasets have changed
    :param leave: as of :class:`.Repository`
    """

    def __init__(
        self,
        datasets: Datasets,
        ask: Callable[[Any], Coroutine[Any, Any, Any]],
        *,
        prepare: Callable[[TriplesFactory], None],
        announce: Callable[[], None],
        leave: Callable[[str, bool], int],
    ) -> None:
        self._datasets = datasets
        self._leave = leave
        self._ask = ask
        self._prepare = prepare
        self._announce = announce

    async def load(self, name: str) -> DatasetChange:
        """Load a dataset in all workers; as :meth:`.Repository.load`."""
        return (await self._changed("load", name))[0]

    async def unload(
        self, name: str, origin: Origin | None = None, *, end_streams: bool = False
    ) -> DatasetChange:
        """Stop to serve a dataset in all workers; as :meth:`.Repository.unload`."""
        return (await self._changed("unload", name, origin, end_streams))[0]

    async def reload(self) -> list[DatasetChange]:
        """Make the datasets of all workers those of the repository."""
        return await self._changed("reload", "")

    async def publish(self, name: str) -> None:
        """Serve in all workers a graph that is in the folder of published graphs.

        :raises Refusal: if it can't be
        """
        await self._changed("publish", name)

    async def withdraw(self, name: str) -> None:
        """Drop a published graph in all workers."""
        await self._changed("withdraw", name)

    async def versions(self) -> list[ListedVersion]:
        """Give the versions in memory of all workers."""
        found = await self._ask(("versions", ""))
        return [ListedVersion(**each) for each in found["versions"]]

    async def _changed(self, what: str, name: str, *rest: object) -> list[DatasetChange]:
        answer = await self._ask((what, name, *rest))
        if "error" in answer:
            message, reason, metadata = answer["error"]
            error = Refusal(message, reason=reason)
            error.metadata = metadata
            raise error
        return [DatasetChange(**each) for each in answer["changes"]]

    async def follow(self, message: Any) -> Any:
        """Do what all workers do; give what the supervisor is answered.

        :raises MalformedSnapshot: if a snapshot is another one by now
        """
        if "list" in message:
            return [asdict(each) for each in list_versions(self._datasets)]
        wanted = {name: rest for name, *rest in message["state"]}
        for name in list(self._datasets):
            if self._datasets.origin(name) != "command line" and name not in wanted:
                self._datasets.remove(name)
        for name, (origin, serial, identity) in wanted.items():
            if self._datasets.serial(name) == serial:
                continue
            factory = await asyncio.to_thread(self._open, tuple(identity))
            if name in self._datasets:
                self._datasets.replace(name, factory, origin, serial)
            else:
                self._datasets.add(name, factory, origin, serial)
        self._announce()
        if "unloaded" in message:
            return self._leave(message["unloaded"], message["end_streams"])
        return None

    def _open(self, identity: Identity) -> TriplesFactory:
        factory = open_as(Path(identity[0]), identity)
        self._prepare(factory)
        return factory


class _AtOnce(Executor):
    """Runs what it is given in the caller's thread."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> Future[_T]:
        future: Future[_T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def _error(error: Refusal | InvalidRequestError) -> Any:
    return {"error": [str(error), error.reason, error.metadata]}


def log_changes(changes: list[DatasetChange]) -> None:
    """Say in the log what SIGHUP has done to the datasets of the repository."""
    counts = Counter(change.action for change in changes)
    found = ", ".join(f"{count} {action}" for action, count in sorted(counts.items()))
    audit(
        "sighup",
        "SIGHUP: datasets of the repository: %s",
        found or "none",
        changes={change.name: change.action for change in changes},
    )


def _merged(lists: list[Any]) -> Any:
    merged = merge_versions([ListedVersion(**each) for each in one] for one in lists)
    return {"versions": list(map(asdict, merged))}
