"""Connections to the worker processes of one server, and which of them a stream takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

from negserve.types.answers.server_info import ServerInfo

_Channel = TypeVar("_Channel")

#: New connections for each worker, after which those that were not reached are given up. The kernel
#: chooses among equal processes: of ten tries for each, all miss one of two once in a million.
_TRIES = 10
#: Connections of one client to one server at most.
_MOST_CONNECTIONS = 64


class WorkerPool(Generic[_Channel]):
    """Connections of a process, or an event loop, to a server.

    A connection reaches one of the server's processes, which answers all of its streams. So a
    client with a busy stream opens the next one over a connection to another process. Does no I/O.

    :ivar first: the connection for everything but such streams
    :ivar channels: all connections
    :ivar num_workers: processes of the server; None until it was asked
    """

    def __init__(self, first: _Channel) -> None:
        self.first = first
        self.channels = [first]
        self.num_workers: int | None = None
        self._reached: set[int] = set()
        self._num_tries = 0

    def choose(self, in_use: Iterable[_Channel]) -> _Channel | None:
        """Choose the connection of the next stream; None if another one is worth a try before.

        :param in_use: the connection of each open stream
        """
        counts = Counter(in_use)
        channel = min(self.channels, key=counts.__getitem__)
        return channel if counts[channel] == 0 or not self._may_grow() else None

    def _may_grow(self) -> bool:
        if self.num_workers is None:
            return True
        most = min(self.num_workers, _MOST_CONNECTIONS)
        return len(self._reached) < most and self._num_tries < _TRIES * self.num_workers

    def add(self, channel: _Channel, info: ServerInfo) -> bool:
        """Note which process a connection reaches, and return whether the pool has it now.

        :param channel: the first one, or a new one
        """
        self._num_tries += 1
        self.num_workers = info.num_workers
        if info.worker not in self._reached:
            self._reached.add(info.worker)
            if channel not in self.channels:
                self.channels.append(channel)
        return channel in self.channels

    def give_up(self) -> None:
        """Keep to the connections that there are: the server did not answer."""
        self.num_workers = len(self._reached)
