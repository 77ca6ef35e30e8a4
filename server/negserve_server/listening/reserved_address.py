"""Addresses that several processes share, and that no other server can take meanwhile."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType

from negserve_server.errors import UnusableAddress
from negserve_server.listening.listen_address import ListenAddress, places_of, why_unusable

#: Tries to find a port that is free in all address families of a host.
_MOST_TRIES = 20


class ReservedAddress:
    """A TCP address that the processes of one server listen on, and nobody else.

    The system spreads connections over all sockets that listen at an address with SO_REUSEPORT. It
    would also do so for two servers that know nothing of each other. So a socket that does not
    listen takes the address alone first, and lets others in only afterwards: another server's own
    attempt to take it alone fails as long as this one is open.

    :param address: the address; port 0 takes a free one
    :raises UnusableAddress: if it has no port, or another process has it
    """

    def __init__(self, address: ListenAddress) -> None:
        if address.path:
            raise UnusableAddress(
                address.text,
                "only one process can listen on a unix socket; give HOST:PORT, such as "
                "127.0.0.1:7733, or --workers 1",
            )
        self._sockets = ExitStack()
        port = address.port
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                port = self._take(address)
                break
            except OSError as error:
                self._sockets.close()
                is_accident = address.port == 0 and error.errno == errno.EADDRINUSE
                if not (is_accident and tries_left):
                    raise UnusableAddress(address.text, why_unusable(address, error)) from error
        host, _, _ = address.text.rpartition(":")
        self.address = replace(address, port=port, text=f"{host}:{port}")

    def __enter__(self) -> ReservedAddress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let others take the address."""
        self._sockets.close()

    def _take(self, address: ListenAddress) -> int:
        """Take the port in all families of the host that this machine has; return it."""
        port = address.port
        failures: list[OSError] = []
        places = places_of(address)
        for family, kind, protocol, _, place in places:
            holder = self._sockets.enter_context(socket.socket(family, kind, protocol))
            try:
                if family == socket.AF_INET6:
                    holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                _bind_alone(holder, (place[0], port, *place[2:]))
            except OSError as error:
                if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                    raise
                failures.append(error)
            else:
                port = holder.getsockname()[1]
        if len(failures) == len(places):
            raise failures[0]
        return port


def _bind_alone(holder: socket.socket, place: tuple[object, ...]) -> None:
    """Bind a socket where no other one is bound, then let those with SO_REUSEPORT be, too."""
    try:
        holder.bind(place)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        # Connections that ended a minute ago still have the port: they do not count.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(place)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
