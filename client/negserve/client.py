"""The client: a server's datasets."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from negserve.connection import Connection
from negserve.triples_factory import RemoteTriplesFactory
from negserve.v1 import sampler_pb2 as pb

DEFAULT_TARGET = "127.0.0.1:7733"


class Client:
    """Connects to a server, on first use and once per process.

    Thread-safe. Pickled, or carried over a fork, as its configuration: each process has a
    connection of its own.

    :param target: ``HOST:PORT`` or ``unix:PATH``; several for replicas of the same data, of
        which the next one takes over when one is lost
    :param timeout: seconds that a call, or a stream's next message, may take before another
        replica is asked, or the same one again
    :param patience: seconds after which a call, or a stream without progress, gives up, counted
        from its first failure, over all replicas; none of them takes more than its share. None
        for ``timeout`` times the number of replicas
    :raises InvalidRequestError: if there is no address, or a time is not positive
    """

    def __init__(
        self,
        target: str | Sequence[str] = DEFAULT_TARGET,
        *,
        timeout: float = 30.0,
        patience: float | None = None,
    ) -> None:
        self._connection = Connection(target, timeout, patience)

    @property
    def targets(self) -> tuple[str, ...]:
        """The replicas."""
        return self._connection.targets

    @property
    def target(self) -> str:
        """The replica in use."""
        return self._connection.target

    def __repr__(self) -> str:
        return repr(self._connection)

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
        """Close the connection; calls under way, and all later ones, end with an error."""
        self._connection.close()

    def list_datasets(self) -> list[str]:
        """Name the datasets that the server holds.

        :raises NegserveError: typed by what the server said
        """
        answer = self._connection.call("ListDatasets", pb.ListDatasetsRequest())
        return [dataset.name for dataset in answer.datasets]

    def triples_factory(self, name: str) -> RemoteTriplesFactory:
        """Give a dataset, for the samplers of :mod:`negserve.sampling`.

        :raises UnknownDatasetError: if the server does not hold it
        :raises NegserveError: typed by what the server said
        """
        return RemoteTriplesFactory(self._connection, name)
