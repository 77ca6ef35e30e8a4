"""Publishing a graph on all replicas, and again on those that lose it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from negserve._calls.dataset import RemoteDataset
from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol.publish_dialogue import PublishDialogue
from negserve._transport.statuses import ended
from negserve._transport.transport import RetryBudget, Transport
from negserve.errors import (
    FingerprintMismatchError,
    InvalidAnswerError,
    LimitExceededError,
    ServiceError,
    StalledError,
    StorageFailedError,
    UnavailableError,
)
from negserve.types.answers.publish_progress import PublishProgress
from negserve.types.warning_categories import SwappedColumnsWarning, warn

_Published = TypeVar("_Published", bound=RemoteDataset[Any, Any])

logger = logging.getLogger(__name__)


def check_columns(graph: MappedGraph) -> None:
    """Warn of triples whose columns look swapped.

    :raises SwappedColumnsWarning: where Python is told to raise it
    """
    if graph.doubt is not None:
        warn(
            f"triples may have swapped columns: {graph.doubt}. Columns are head, relation, tail; "
            f"some libraries have head, tail, relation. If these are right, ignore "
            f"negserve.SwappedColumnsWarning",
            SwappedColumnsWarning,
        )


async def publish(
    transport: Transport,
    name: str,
    graph: MappedGraph,
    on_progress: Callable[[PublishProgress], object] | None = None,
) -> None:
    """Publish a graph on all replicas.

    :raises NegserveError: as the server's status says
    """
    await transport.look_up()
    members = transport.replicas.members
    if len(members) == 1:
        await _publish_on_one(transport, PublishDialogue(name, graph), on_progress)
        return
    lost: list[ServiceError] = []
    for target in members:
        replica = transport.only(target)
        try:
            await _publish_on_one(replica, PublishDialogue(name, graph), on_progress)
        except (UnavailableError, StalledError, InvalidAnswerError, StorageFailedError) as error:
            lost.append(error)
        finally:
            await replica.close()
    if len(lost) == len(members):
        raise lost[-1]
    for reason in lost:
        logger.warning("a replica did not get the dataset %s: %s", name, reason)


async def _publish_on_one(
    transport: Transport,
    dialogue: PublishDialogue,
    on_progress: Callable[[PublishProgress], object] | None,
) -> None:
    async def converse(budget: RetryBudget) -> None:
        with await transport.open("Publish") as call:
            call.send_all([dialogue.announcement()])
            while (response := await call.next(budget.limit())) is not None:
                with call.answering():
                    to_send, progress = dialogue.hear(response)
                call.send_all(to_send)
                if dialogue.is_getting_on:
                    budget.note_progress()
                if progress is not None and on_progress is not None:
                    on_progress(progress)
        if not dialogue.is_published:
            raise ended(call.target, "before the graph was published")

    await transport.retry(converse)


@dataclass(frozen=True, slots=True, eq=False)
class Restoration:
    """Publishes a graph again on a replica that has lost it. Picklable, with the graph.

    :ivar name: name of the dataset
    :ivar fingerprint: of the graph
    :ivar graph: a :class:`MappedGraph`, or an argument of :meth:`MappedGraph.of`
    :ivar options: further arguments of :meth:`MappedGraph.of`
    """

    name: str
    fingerprint: str
    graph: Any
    options: Mapping[str, Any]

    async def __call__(self, replica: Transport) -> bool:
        """Publish the graph on a replica; tell whether it has it now.

        :raises FingerprintMismatchError: if the graph has changed, or the name is taken
        """
        graph = self.graph
        if not isinstance(graph, MappedGraph):
            graph = MappedGraph.of(graph, **self.options)
        _check_fingerprint(self.name, graph, self.fingerprint)
        target = replica.replicas.target
        try:
            await _publish_on_one(replica, PublishDialogue(self.name, graph), None)
        except (ServiceError, LimitExceededError) as error:
            logger.warning("%s has lost the dataset %s: %s", target, self.name, error)
            return False
        logger.warning("%s had lost the dataset %s; it was published again", target, self.name)
        return True


def confirmed(published: _Published, graph: MappedGraph, restoration: Restoration) -> _Published:
    """Check that a dataset is the published graph, and let replicas that lose it get it again.

    :raises FingerprintMismatchError: if it is another graph
    """
    _check_fingerprint(published.name, graph, published.fingerprint)
    published.keep_restorable(restoration)
    return published


def _check_fingerprint(name: str, graph: MappedGraph, expected: str) -> None:
    if graph.fingerprint != expected:
        raise FingerprintMismatchError(
            f"dataset {name!r} has fingerprint {expected}, the graph at hand {graph.fingerprint}; "
            f"publish it by another name",
            reason="FINGERPRINT_MISMATCH",
            metadata={"value": graph.fingerprint, "limit": expected},
        )
