"""A client that costs the machine little: prepared HTTP/2 frames over plain sockets.

gRPC in Python takes some 250 microseconds of a processor for a message, about as much as the server
that is measured. This one takes a tenth: it sends the same bytes again and again, counts answers by
their lengths, and reads nothing else. Run as ``python -m benchmarks.measured.light_client TARGET
BATCH K CONNECTIONS``; it prints the number of answers whenever it reads a line.
"""

from __future__ import annotations

import selectors
import socket
import struct
import sys

from benchmarks.fairness import sample_requests
from negserve import SamplerConfig

#: Requests that a connection sends ahead of answers, as the client in Python does.
_AHEAD = 4
_LARGEST = 2**31 - 1
#: Received bytes after which the server may send as many more.
_RENEWED = 2**28
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8


def _frame(kind: int, payload: bytes, flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Encode a header field without compression; both texts are shorter than 127 bytes."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _message(data: bytes) -> bytes:
    """Encode a message of gRPC as frames."""
    body = b"\0" + struct.pack(">I", len(data)) + data
    return b"".join(
        _frame(_DATA, body[i : i + 16384], stream=1) for i in range(0, len(body), 16384)
    )


class Connection:
    """One stream of ``Sample`` on a connection of its own.

    :ivar count: answers so far, that to the configuration included
    """

    def __init__(self, target: str, batch: int, k: int) -> None:
        config = SamplerConfig(kind="bernoulli", num_negs_per_pos=k, filter_splits=("training",))
        first, request = sample_requests(config, batch)
        self._request = _message(request)
        self._size = len(request) + 5
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        settings = struct.pack(">HIHI", 4, _LARGEST, 5, 2**24 - 1)  # stream window, frame size
        headers = b"".join(
            _literal(*pair)
            for pair in (
                (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"localhost"),
                (b":path", b"/negserve.v1.SamplerService/Sample"),
                (b"content-type", b"application/grpc"), (b"te", b"trailers"),
            )
        )  # fmt: skip
        self.socket.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + _frame(_SETTINGS, settings)
            + _frame(_WINDOW, struct.pack(">I", _LARGEST - 65535))
            + _frame(_HEADERS, headers, 4, 1)
            + _message(first)
        )
        self._windows = {0: 65535 - len(first) - 5, 1: 65535 - len(first) - 5}
        self._initial = 65535
        self._waiting = _AHEAD
        self._rest = b""
        self._prefix = b""
        self._left = 0
        self._unacknowledged = 0
        self.count = 0

    def read(self) -> None:
        """Read what has arrived, count answers, and send as many requests."""
        data = self._rest + self.socket.recv(1 << 20)
        at, size, replies = 0, len(data), b""
        while size - at >= 9:
            length = int.from_bytes(data[at : at + 3])
            if size - at < 9 + length:
                break
            kind, flags, stream = data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9])
            begin, at = at + 9, at + 9 + length
            if kind == _DATA:
                self._count(data, begin, at)
                self._unacknowledged += length
            elif kind == _PING and not flags:
                replies += _frame(_PING, data[begin:at], 1)
            elif kind == _SETTINGS and not flags:
                for place in range(begin, at, 6):
                    name, value = struct.unpack_from(">HI", data, place)
                    if name == 4:
                        self._windows[1] += value - self._initial
                        self._initial = value
                replies += _frame(_SETTINGS, b"", 1)
            elif kind == _WINDOW:
                self._windows[stream] += int.from_bytes(data[begin:at])
            elif kind in (_RST, _GOAWAY):
                raise ConnectionError(f"the server ends the stream: {data[begin:at]!r}")
        self._rest = data[at:]
        if self._unacknowledged > _RENEWED:
            more = struct.pack(">I", self._unacknowledged)
            replies += _frame(_WINDOW, more) + _frame(_WINDOW, more, stream=1)
            self._unacknowledged = 0
        while self._waiting and min(self._windows.values()) >= self._size and self.count:
            self._waiting -= 1
            replies += self._request
            self._windows = {name: left - self._size for name, left in self._windows.items()}
        if replies:
            self.socket.sendall(replies)

    def _count(self, data: bytes, at: int, end: int) -> None:
        """Count the messages that end in a part of their bytes."""
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
            else:
                taken = min(5 - len(self._prefix), end - at)
                self._prefix += data[at : at + taken]
                at += taken
                if len(self._prefix) < 5:
                    return
                self._left = int.from_bytes(self._prefix[1:])
                self._prefix = b""
            if not self._left:
                self.count += 1
                self._waiting += self.count > 1


def main(target: str, batch: int, k: int, number: int) -> None:
    """Keep connections busy until the end of standard input."""
    connections = [Connection(target, batch, k) for _ in range(number)]
    with selectors.DefaultSelector() as selector:
        for each in connections:
            selector.register(each.socket, selectors.EVENT_READ, each)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.data is not None:
                    key.data.read()
                elif not sys.stdin.readline():
                    return
                else:
                    print(sum(each.count for each in connections), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
