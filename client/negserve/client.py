"""The client: a server's datasets."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from negserve.connection import Connection
from negserve.errors import InvalidRequestError
from negserve.triples_factory import RemoteTriplesFactory
from negserve.v1 import sampler_pb2 as pb

DEFAULT_TARGET = "127.0.0.1:7733"


class Client:
    """Connects to a server, on first use and once per process.

    Thread-safe. Pickled, or carried over a fork, as its configuration: each process has a
    connection of its own.

    :param target: ``HOST:PORT`` or ``unix:PATH``
    :param timeout: seconds that a call, or a stream's next message, may take before it ends
        with :class:`negserve.StalledError`; also how long a lost server is waited for
    """

    def __init__(self, target: str = DEFAULT_TARGET, *, timeout: float = 30.0) -> None:
        if timeout <= 0:
            raise InvalidRequestError(f"timeout={timeout}; give a positive number of seconds")
        self.target = target
        self.timeout = timeout
        self._connection = Connection(target, timeout)

    def __repr__(self) -> str:
        return f"Client({self.target!r}, timeout={self.timeout})"

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
        stub = self._connection.stub()
        answer = self._connection.call(stub.ListDatasets, pb.ListDatasetsRequest())
        return [dataset.name for dataset in answer.datasets]

    def triples_factory(self, name: str) -> RemoteTriplesFactory:
        """Give a dataset, for the samplers of :mod:`negserve.sampling`.

        :raises UnknownDatasetError: if the server does not hold it
        :raises NegserveError: typed by what the server said
        """
        return RemoteTriplesFactory(self._connection, name)
