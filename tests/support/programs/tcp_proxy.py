"""A TCP proxy that delays, cuts and silences its connections."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_CHUNK = 64 * 1024


@dataclass
class _Fault:
    """An action to take once some more bytes have passed from the server to the client."""

    num_bytes: int
    silent: bool
    then: Callable[[], object] | None


class _Connection:
    """A pair of sockets, and two threads that copy between them."""

    def __init__(self, proxy: TcpProxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._sockets = (client, server)
        self.is_silent = False
        for source, sink, counts in ((client, server, False), (server, client, True)):
            threading.Thread(target=self._copy, args=(source, sink, counts), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(_CHUNK):
                kept, fault = self._proxy.pass_on(data) if counts else (data, None)
                if not counts:
                    time.sleep(self._proxy.delay_seconds)
                if not self.is_silent:
                    sink.sendall(kept)
                if fault is not None:
                    self._proxy.strike(fault)
        except OSError:
            pass
        if not self.is_silent:  # a silent connection says nothing of an end, either
            self.drop()

    def drop(self) -> None:
        """Close both ends."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # closing alone wakes no thread
            end.close()


class TcpProxy:
    """Forwards connections to a server that can be exchanged, until told to harm them.

    :ivar target: where clients connect to
    :ivar num_connections: how many were accepted
    :ivar num_bytes: how many passed from servers to clients
    :ivar delay_seconds: for which it holds back each piece from the client
    :ivar struck: set when the fault of :meth:`cut_after` or :meth:`silence_after` happened
    """

    def __init__(self, server: str, delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds
        self._lock = threading.RLock()
        self._server = server
        self._fault: _Fault | None = None
        self._is_silent = False
        self._connections: list[_Connection] = []
        self.struck = threading.Event()
        self.num_connections = 0
        self.num_bytes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def lead_to(self, server: str) -> None:
        """Forward new connections to a server, also after :meth:`silence`."""
        with self._lock:
            self._server = server
            self._is_silent = False

    def cut_after(self, num_bytes: int, then: Callable[[], object] | None = None) -> None:
        """Close all connections after some more bytes to clients; later connections are not harmed.

        :param then: called between the last byte and the cut
        """
        self._arm(_Fault(num_bytes, False, then))

    def silence_after(self, num_bytes: int) -> None:
        """Like :meth:`silence`, after some more bytes to clients."""
        self._arm(_Fault(num_bytes, True, None))

    def silence(self) -> None:
        """Forward nothing any more, in either direction, and end nothing: a black hole.

        New connections are accepted and silent too, until :meth:`lead_to`.
        """
        with self._lock:
            self._is_silent = True
            for connection in self._connections:
                connection.is_silent = True

    def cut(self) -> None:
        """Close all connections."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.drop()

    def close(self) -> None:
        """Close all connections and accept no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone wakes no accept
        self._listener.close()
        self.cut()

    def _arm(self, fault: _Fault) -> None:
        with self._lock:
            assert self._fault is None, "the fault before has not happened yet"
            self.struck.clear()
            self._fault = fault

    def pass_on(self, data: bytes) -> tuple[bytes, _Fault | None]:
        """Return the part of the data that still reaches the client, and the action after it."""
        with self._lock:
            self.num_bytes += len(data)
            fault = self._fault
            if fault is None:
                return data, None
            fault.num_bytes -= len(data)
            if fault.num_bytes > 0:
                return data, None
            self._fault = None
            return data[: len(data) + fault.num_bytes], fault

    def strike(self, fault: _Fault) -> None:
        """Perform an action."""
        if fault.then is not None:
            fault.then()
        if fault.silent:
            self.silence()
        else:
            self.cut()
        self.struck.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.num_connections += 1
                host, _, port = self._server.rpartition(":")
                try:
                    server = socket.create_connection((host, int(port)))
                except OSError:
                    client.close()
                    continue
                connection = _Connection(self, client, server)
                connection.is_silent = self._is_silent
                self._connections.append(connection)


@contextmanager
def tcp_proxy(server: str, delay_seconds: float = 0.0) -> Iterator[TcpProxy]:
    """Run a proxy until the block ends.

    :param server: ``HOST:PORT``
    :param delay_seconds: for which it holds back each piece from the client
    """
    proxy = TcpProxy(server, delay_seconds)
    try:
        yield proxy
    finally:
        proxy.close()
