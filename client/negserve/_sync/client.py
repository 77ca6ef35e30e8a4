"""The client: a server's datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, overload

from negserve._calls.client import BaseClient
from negserve._calls.opening import check_compute, open_local
from negserve._calls.publish import Restoration, check_columns, confirmed, publish
from negserve._graph.mapped_graph import MappedGraph
from negserve._local.triples_factory import LocalTriplesFactory
from negserve._sync.interrupts import released, run_sync
from negserve._sync.transport import SyncTransport
from negserve._sync.triples_factory import RemoteTriplesFactory
from negserve.types.answers.publish_progress import PublishProgress
from negserve.types.answers.server_info import ServerInfo


class Client(BaseClient[SyncTransport, RemoteTriplesFactory]):
    """Connects to a server on first use, once per process.

    Thread-safe. Pickled as its configuration. After a fork, each process has its own connection.

    :param target: ``HOST:PORT`` or ``unix:PATH``; several, or a host name with several addresses,
        for replicas of the same data. The streams of ranks are spread over them, and others take
        over when one is lost
    :param timeout: seconds that a call, or a stream's next message, may take before another
        replica is asked, or the same one again
    :param patience: seconds after which a call, or a stream without progress, gives up, counted
        from its first failure, over all replicas; none of them takes more than its share. None
        for ``timeout`` times the number of replicas
    :param spread: False lets every stream begin at the first target that was not lost, in the
        order given: the nearest replica first, say
    :raises InvalidRequestError: if there is no address, one is malformed (a URL, a port out of
        range, ...), or a time is not positive
    """

    _transport_class = SyncTransport
    _dataset_class = RemoteTriplesFactory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all channels; calls under way, and all later ones, raise an error."""
        run_sync(self._transport.close)

    def server_info(self) -> ServerInfo:
        """Return the version, algorithm versions and limits of the server in use.

        :raises NegserveError: as the server's status says
        """
        return run_sync(self._ask_server_info)

    def list_datasets(self) -> list[str]:
        """Return the names of the server's datasets.

        :raises NegserveError: as the server's status says
        """
        return run_sync(self._read_datasets)

    @overload
    def triples_factory(
        self, name: str, *, compute: Literal["server"] = "server"
    ) -> RemoteTriplesFactory: ...

    @overload
    def triples_factory(
        self, name: str, *, compute: Literal["client"], cache_dir: str | Path | None = None
    ) -> LocalTriplesFactory: ...

    def triples_factory(
        self,
        name: str,
        *,
        compute: Literal["server", "client"] = "server",
        cache_dir: str | Path | None = None,
    ) -> RemoteTriplesFactory | LocalTriplesFactory:
        """Return a dataset, for the samplers of :mod:`negserve.sampling`.

        :param compute: who computes: ``server``, over RPC; or ``client``, this process, with equal
            bytes, on the snapshot of the dataset: that of the server itself if it is on this
            machine, else a copy, which is downloaded once
        :param cache_dir: with ``compute="client"``, folder of the copies; None for
            ``negserve/snapshots`` in the folder of the user's caches (``XDG_CACHE_HOME``)
        :raises UnknownDatasetError: if the server does not hold it
        :raises NotAllowedError: with ``compute="client"``, if the server runs without
            ``--allow-pull``, or has no snapshot of the dataset
        :raises LocalStorageError: if the copy can't be written
        :raises MissingLibraryError: with ``compute="client"``, without the extra ``server``
        :raises NegserveError: as the server's status says
        """
        check_compute(compute, cache_dir)
        if compute == "server":
            return run_sync(self._ask_dataset, name)
        dataset = run_sync(self._describe, name).dataset
        return run_sync(open_local, self._transport, dataset, cache_dir)

    def pull(
        self,
        name: str,
        directory: str | Path,
        *,
        on_bytes: Callable[[int, int], object] | None = None,
    ) -> Path:
        """Download the snapshot of a dataset to a folder; nothing if it is there already.

        What has arrived when this ends early is kept beside the folder, and continued by the next
        call, from any server with the same snapshot. All files are checked against the checksums
        of the snapshot before the folder is there. ``negserve_server.graph.TriplesFactory
        .from_snapshot`` opens it, and ``negserve-server serve --dataset NAME=DIR`` serves it.

        :param directory: the folder; nothing may be there, or the same snapshot
        :param on_bytes: called now and then with the bytes that have arrived, and all bytes
        :return: the absolute path of the folder
        :raises UnknownDatasetError: if the server does not hold the dataset
        :raises NotAllowedError: if it runs without ``--allow-pull``, or has no snapshot of it
        :raises LocalStorageError: if the folder can't be written, or something else is there
        :raises NegserveError: as the server's status says
        """

        def report(arrived: int, total: int) -> None:
            if on_bytes is not None:
                with released():
                    on_bytes(arrived, total)

        return run_sync(self._pull, name, directory, report)

    def publish(
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

        Any number of processes may publish the same graph at once: it is uploaded and built once.
        With several targets, each replica gets it; those that can't be reached, or whose answers
        can't be true, are logged and left out, unless that is all of them.

        :param name: what the dataset shall be called: 1 to 100 of A-Z, a-z, 0-9, period, underscore
            and hyphen, the first a letter or a digit
        :param factory: integer ids of training triples, shape (n, 3), columns head, relation, tail:
            an array, a tensor or a list; or a triples factory, which has them as
            ``mapped_triples``, PyKEEN's or that of negserve's server; or TorchKGE's
            ``KnowledgeGraph``, or PyTorch Geometric's ``Data`` with ``edge_type``; or a mapping
            from ``training``, ``validation`` and ``testing`` to any of these; or what has all
            splits: a PyKEEN ``Dataset``, the server's factory, ``Data`` with masks of its edges.
            Labels and type constraints that it has are published, too
        :param num_entities: size of the entity id space; None for that of ``factory``, which for
            bare arrays is the largest id plus one
        :param num_relations: likewise for relations
        :param type_constraints: the entities that relations allow, for kind ``typed``: a mapping
            from ``head`` and ``tail`` to pairs of relation and entity, shape (m, 2); None for those
            of ``factory``. They are part of the fingerprint
        :param entity_to_id: label of each entity, with its id; None for those of ``factory``.
            Labels are no part of the fingerprint: a server keeps those that come first
        :param relation_to_id: likewise for relations; labelled are all ids, or none
        :param on_progress: called now and then, from this thread
        :return: the dataset; its fingerprint is that of ``factory``. It holds ``factory``, so that
            a replica that has lost the graph, by a restart or for want of room, gets it again when
            it is asked for it, within the client's patience
        :raises FingerprintMismatchError: if the server has another graph of that name
        :raises NotAllowedError: if the server has none, and runs without ``--allow-publish``
        :raises LimitExceededError: if the server has no room for the graph
        :raises InvalidRequestError: if ``factory`` is none of these forms or holds no triples, for
            ids outside the id space, and for labels that do not fit it
        :raises SwappedColumnsWarning: where Python is told to raise it, for an array whose middle
            column does not look like relations
        :raises NegserveError: as the server's status says
        """
        options = {
            "num_entities": num_entities,
            "num_relations": num_relations,
            "type_constraints": type_constraints,
            "entity_to_id": entity_to_id,
            "relation_to_id": relation_to_id,
        }

        def report(progress: PublishProgress) -> None:
            if on_progress is not None:
                with released():
                    on_progress(progress)

        graph = MappedGraph.of(factory, **options)
        check_columns(graph)
        run_sync(publish, self._transport, name, graph, report)
        restoration = Restoration(name, graph.fingerprint, factory, options)
        return confirmed(self.triples_factory(name), graph, restoration)
