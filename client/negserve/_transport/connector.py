"""Connections to replicas: names, and the processes of a server, are looked up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import grpc

from negserve._protocol.descriptions import read_server_info, server_request
from negserve._transport.names import addresses_of
from negserve._transport.replicas import Replicas
from negserve._transport.statuses import closed, ended, from_rpc_error
from negserve._transport.worker_pool import WorkerPool
from negserve.errors import NegserveError

_T = TypeVar("_T")

#: Most seconds that a stream waits for the look-up of a name.
_LOOK_SECONDS = 5.0


class Connector(ABC):
    """Connections to replicas; which of them a call takes is not known here.

    Whatever waits is a coroutine, as in :class:`negserve._transport.transport.ServerCall`.

    :param target: as of :class:`negserve._transport.transport.Transport`
    :param spread: likewise
    :ivar replicas: addresses of the replicas
    :ivar is_closed: whether it was closed
    """

    def __init__(self, target: str | Sequence[str], *, spread: bool = True) -> None:
        self.replicas = Replicas(target, spread=spread)
        self.is_closed = False

    @abstractmethod
    def _pool(self, target: str) -> WorkerPool[Any]:
        """Return the connections of this process or event loop to a replica.

        :raises ClosedError: after :meth:`close`
        """

    @abstractmethod
    def _connect(self, target: str) -> Any:
        """Open another connection to a replica."""

    @abstractmethod
    async def _disconnect(self, channel: Any) -> None:
        """Close a connection that no call uses."""

    @abstractmethod
    def _drop(self, target: str) -> None:
        """Open another connection for the next call on a replica; calls under way go on."""

    @abstractmethod
    async def pause(self, seconds: float) -> None:
        """Wait; less if the client is closed meanwhile."""

    @abstractmethod
    async def work(self, function: Callable[..., _T], *arguments: object) -> _T:
        """Call a function that reads or writes files, where that holds up nothing else."""

    @abstractmethod
    async def close(self) -> None:
        """Close all channels; calls under way, and all later ones, raise an error."""

    @abstractmethod
    async def ask(
        self,
        method: str,
        request: object,
        seconds: float,
        decode: Callable[[Any], _T],
        channel: Any = None,
    ) -> _T:
        """Call a unary method once.

        :param method: its name
        :param seconds: that the answer may take
        :param decode: checks and decodes the answer
        :param channel: over which it goes; None for one to the replica in use
        :raises NegserveError: as the server's status says
        """

    @abstractmethod
    async def _resolve(self, host: str, port: int, seconds: float) -> Sequence[tuple[Any, ...]]:
        """Ask the system's resolver for the addresses of a name, without holding others up.

        :return: as of :func:`socket.getaddrinfo`; empty if there is no answer in time
        """

    async def _look_up(self) -> None:
        """Look all names up again. One without an answer keeps its addresses."""
        replicas = self.replicas
        replicas.begin_look()
        before, found = replicas.members, {}
        for name, address in replicas.names.items():
            answers = await self._resolve(address.host, address.port, _LOOK_SECONDS)
            if answers:
                found[name] = addresses_of(answers)
        replicas.note(found)
        for gone in set(before) - set(replicas.members):
            self._drop(gone)

    async def _reach_another(self, pool: WorkerPool[Any], seconds: float) -> None:
        """Ask a server how many processes it has, or look for one that was not reached yet.

        :param seconds: that the answer may take
        """
        is_first = pool.num_workers is None
        channel = pool.first if is_first else self._connect(pool.first.target)
        is_kept = is_first
        try:
            request = server_request()
            info = await self.ask("GetServer", request, seconds, read_server_info, channel)
            is_kept = pool.add(channel, info)
        except NegserveError:  # the stream itself will say what is wrong
            pool.give_up()
        finally:
            if not is_kept:
                await self._disconnect(channel)

    def error_of(self, error: grpc.RpcError, target: str) -> NegserveError:
        """Make the typed error for a call that gRPC ended."""
        # The client itself cancels calls only when it is closed.
        return closed(target) if self.is_closed else from_rpc_error(error, target)

    def cut_off(self, target: str, how: str) -> NegserveError:
        """Make the error for a call whose channel is gone."""
        return closed(target) if self.is_closed else ended(target, how)
