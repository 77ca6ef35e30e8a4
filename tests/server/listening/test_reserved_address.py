"""A reserved address is one server's, before any of its processes listens, and while they do."""

from __future__ import annotations

import socket

import pytest

from negserve_server.errors import UnusableAddress
from negserve_server.listening.listen_address import parse_listen_address
from negserve_server.listening.reserved_address import ReservedAddress


def listening(port: int) -> socket.socket:
    """Listen as a worker does."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
@pytest.mark.parametrize("has_workers", [False, True])
def test_only_workers_share_it(host: str, has_workers: bool):
    with ReservedAddress(parse_listen_address(f"{host}:0")) as reserved:
        address = reserved.address
        assert address.text == f"{host}:{address.port}"
        workers = [listening(address.port) for _ in range(2 * has_workers)]
        for another_server in (ReservedAddress, lambda one: one.check()):
            with pytest.raises(UnusableAddress, match=f"another process has port {address.port}"):
                another_server(parse_listen_address(address.text))
        for worker in workers:
            worker.close()
    ReservedAddress(parse_listen_address(address.text)).close()


def test_a_unix_socket_is_refused():
    with pytest.raises(UnusableAddress, match="only one process can listen on a unix socket"):
        ReservedAddress(parse_listen_address("unix:/run/negserve.sock"))
