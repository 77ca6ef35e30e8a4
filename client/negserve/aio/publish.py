"""Publishing a graph over asyncio."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from negserve.aio.connection import Connection
from negserve.budget import Budget
from negserve.errors import ServiceError, StalledError, UnavailableError
from negserve.mapped_graph import MappedGraph
from negserve.publish import PublishDialogue, PublishProgress, tell_lost


async def publish(
    connection: Connection,
    name: str,
    graph: MappedGraph,
    on_progress: Callable[[PublishProgress], object] | None = None,
) -> None:
    """Publish a graph on all replicas of a connection.

    :raises NegserveError: typed by what the server said
    """
    if len(connection.targets) == 1:
        await _publish_on_one(connection, PublishDialogue(name, graph), on_progress)
        return
    lost: list[ServiceError] = []
    for target in connection.targets:
        replica = Connection(target, connection.timeout, connection.patience)
        try:
            await _publish_on_one(replica, PublishDialogue(name, graph), on_progress)
        except (UnavailableError, StalledError) as error:
            lost.append(error)
        finally:
            await replica.close()
    tell_lost(name, lost, len(connection.targets))


async def _publish_on_one(
    connection: Connection,
    dialogue: PublishDialogue,
    on_progress: Callable[[PublishProgress], object] | None,
) -> None:
    async def converse(budget: Budget) -> None:
        call = connection.open("Publish")
        call.send(dialogue.announcement())
        async with aclosing(call.messages(budget)) as responses:
            async for response in responses:
                to_send, progress = dialogue.hear(response)
                call.send_all(to_send)
                if dialogue.is_getting_on:
                    budget.note_progress()
                if progress is not None and on_progress is not None:
                    on_progress(progress)
        if not dialogue.is_published:
            raise connection.ended(call.target, "before the graph was published")

    await connection.persist(converse)
