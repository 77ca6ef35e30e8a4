"""A name server that knows one name, for programs that resolve names by themselves."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

_HEADER = struct.Struct(">6H")
_A = 1
#: An answer of the server itself, in which recursion was asked for and is available; RFC 1035.
_ANSWER = 0x8180
_NAME_OF_QUESTION = b"\xc0\x0c"
_SECONDS = 1


class NameServer:
    """Answers every question for an address (A) with the same addresses.

    :ivar hosts: these addresses, IPv4; may be replaced
    :ivar address: where it is asked, ``127.0.0.1:PORT``
    """

    def __init__(self, hosts: Sequence[str]) -> None:
        self.hosts = tuple(hosts)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waking:
            waking.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        (number, *_) = _HEADER.unpack_from(query)
        end = query.index(b"\0", _HEADER.size) + 5  # the name, type and class
        is_address = struct.unpack_from(">H", query, end - 4) == (_A,)
        hosts = self.hosts if is_address else ()
        records = [
            _NAME_OF_QUESTION + struct.pack(">HHIH", _A, 1, _SECONDS, 4) + socket.inet_aton(host)
            for host in hosts
        ]
        header = _HEADER.pack(number, _ANSWER, 1, len(hosts), 0, 0)
        return header + query[_HEADER.size : end] + b"".join(records)


@contextmanager
def name_server(*hosts: str) -> Iterator[NameServer]:
    """Run a name server until the block ends."""
    running = NameServer(hosts)
    try:
        yield running
    finally:
        running.close()
