"""The HTTP port that scrapers ask, in threads apart from the event loop."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Sequence
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from negserve_server.metrics.pages import Pages, Site

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

logger = logging.getLogger(__name__)

#: An address family and an address, of :func:`socket.getaddrinfo`.
Place = tuple[int, tuple[Any, ...]]

#: Connections that are open at once; for one more, the oldest is closed.
MOST_CONNECTIONS = 8
#: So long may a connection take, from its first byte to its last.
CONNECTION_SECONDS = 10.0
#: At most so many connections a second are accepted: each takes Python's lock for a while.
_MOST_A_SECOND = 50


class ScrapeServer:
    """Answers scrapers at some addresses.

    :param places: where; other processes of this server may answer there, too
    :param registry: what is answered
    """

    def __init__(self, places: Sequence[Place], registry: CollectorRegistry) -> None:
        self._places = places
        self._pages = Pages(registry)

    def start(self, site: Site | None) -> None:
        """Listen, and answer in threads that end with the process.

        :param site: pages for people; None for none
        :raises OSError: if it can't listen at any of the places
        """
        self._pages.site = site
        failures = []
        for family, address in self._places:
            try:
                server = _Server(family, address)
            except OSError as error:  # such as IPv6, on a machine without it
                failures.append(error)
                continue
            server.set_app(self._pages)
            threading.Thread(
                target=server.serve_forever, args=(CONNECTION_SECONDS / 20,), name="metrics",
                daemon=True,
            ).start()  # fmt: skip
        if len(failures) == len(self._places):
            raise failures[0]


class _Server(ThreadingMixIn, WSGIServer):
    """A bounded number of threads, each with a connection of bounded duration."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False
    allow_reuse_port = True

    def __init__(self, family: int, address: tuple[Any, ...]) -> None:
        self.address_family = family
        self._lock = threading.Lock()
        self._open: dict[socket.socket, float] = {}  # the oldest first
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind the address; as WSGIServer does, without looking up the name of the host."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread."""
        with self._lock:
            self._open[request] = time.monotonic()
            if len(self._open) > MOST_CONNECTIONS:
                _end(next(iter(self._open)))
        super().process_request(request, client_address)
        time.sleep(1 / _MOST_A_SECOND)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def service_actions(self) -> None:
        """End connections that take too long."""
        with self._lock:
            limit = time.monotonic() - CONNECTION_SECONDS
            for connection, since in self._open.items():
                if since < limit:
                    _end(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log an error; most often, the client is gone."""
        logger.debug("a connection for metrics failed, from %s", client_address, exc_info=True)


class _Handler(WSGIRequestHandler):
    """One request, not logged."""

    timeout = CONNECTION_SECONDS

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Log at the lowest level: scrapers come all the time."""
        logger.debug(format, *arguments)


def _end(connection: socket.socket) -> None:
    """End a connection, whose thread then closes it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the client did
        return
