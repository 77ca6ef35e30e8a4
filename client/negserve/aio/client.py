"""The client: a server's datasets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from negserve._calls.client import BaseClient
from negserve._calls.opening import check_compute, open_local
from negserve._calls.publish import Restoration, check_columns, confirmed, publish
from negserve._graph.mapped_graph import MappedGraph
from negserve._local.triples_factory import LocalTriplesFactory
from negserve.aio.transport import AsyncTransport
from negserve.aio.triples_factory import RemoteTriplesFactory
from negserve.types.answers.publish_progress import PublishProgress
from negserve.types.answers.server_info import ServerInfo


class Client(BaseClient[AsyncTransport, RemoteTriplesFactory]):
    """Connects to a server, on first use and once per event loop, as :class:`negserve.Client`.

    One client may serve loops in several threads; a sampler or a stream belongs to the loop that
    it was made in. Pickled as its configuration. gRPC's asyncio does not survive a fork: in a
    forked process use the client only if the parent has not.

    :param target: as of :class:`negserve.Client`
    :param timeout: as of :class:`negserve.Client`
    :param patience: as of :class:`negserve.Client`
    :param spread: as of :class:`negserve.Client`
    :raises InvalidRequestError: if there is no address, one is malformed, or a time is not positive
    """

    _transport_class = AsyncTransport
    _dataset_class = RemoteTriplesFactory

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all channels; calls under way, and all later ones, raise an error."""
        await self._transport.close()

    async def server_info(self) -> ServerInfo:
        """Return the version, algorithm versions and limits of the server in use.

        :raises NegserveError: as the server's status says
        """
        return await self._ask_server_info()

    async def list_datasets(self) -> list[str]:
        """Return the names of the server's datasets.

        :raises NegserveError: as the server's status says
        """
        return await self._read_datasets()

    @overload
    async def triples_factory(
        self, name: str, *, compute: Literal["server"] = "server"
    ) -> RemoteTriplesFactory: ...

    @overload
    async def triples_factory(
        self, name: str, *, compute: Literal["client"], cache_dir: str | Path | None = None
    ) -> LocalTriplesFactory: ...

    async def triples_factory(
        self,
        name: str,
        *,
        compute: Literal["server", "client"] = "server",
        cache_dir: str | Path | None = None,
    ) -> RemoteTriplesFactory | LocalTriplesFactory:
        """Return a dataset.

        Parameters and errors as of :meth:`negserve.Client.triples_factory`. What computes in this
        process waits for nothing: its methods are no coroutines.
        """
        check_compute(compute, cache_dir)
        if compute == "server":
            return await self._ask_dataset(name)
        dataset = (await self._describe(name)).dataset
        return await open_local(self._transport, dataset, cache_dir)

    async def pull(
        self,
        name: str,
        directory: str | Path,
        *,
        on_bytes: Callable[[int, int], object] | None = None,
    ) -> Path:
        """Download the snapshot of a dataset to a folder; nothing if it is there already.

        Parameters, result and errors as of :meth:`negserve.Client.pull`.
        """
        return await self._pull(name, directory, on_bytes)

    async def publish(
        self,
        name: str,
        factory: Any,
        *,
        num_entities: int | None = None,
        num_relations: int | None = None,
        type_constraints: Any = None,
        entity_to_id: Mapping[str, int] | None = None,
        relation_to_id: Mapping[str, int] | None = None,
        on_progress: Callable[[PublishProgress], object] | None = None,
    ) -> RemoteTriplesFactory:
        """Publish a graph as a dataset of the server, unless it is one already.

        Parameters, result and errors as of :meth:`negserve.Client.publish`.
        """
        options = {
            "num_entities": num_entities,
            "num_relations": num_relations,
            "type_constraints": type_constraints,
            "entity_to_id": entity_to_id,
            "relation_to_id": relation_to_id,
        }
        graph = await asyncio.to_thread(partial(MappedGraph.of, factory, **options))
        check_columns(graph)
        await publish(self._transport, name, graph, on_progress)
        restoration = Restoration(name, graph.fingerprint, factory, options)
        return confirmed(await self.triples_factory(name), graph, restoration)
