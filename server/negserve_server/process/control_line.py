"""A line between two processes that carries JSON messages, in order."""

from __future__ import annotations

import json
import socket
from typing import Any

_BLOCK_BYTES = 1 << 16


class ControlLine:
    """One end of a line. It never waits: what can't be sent yet is kept until :meth:`flush`.

    :ivar is_over: whether the other end is closed
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._end = end
        self._unsent = bytearray()
        self._received = b""
        self.is_over = False

    @classmethod
    def pair(cls) -> tuple[ControlLine, ControlLine]:
        """Make both ends of a line."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    def fileno(self) -> int:
        """Give the descriptor, to wait for messages, or for room for them."""
        return self._end.fileno()

    @property
    def has_unsent(self) -> bool:
        """Whether messages wait for room."""
        return bool(self._unsent)

    def send(self, message: Any) -> None:
        """Send a message, now or as soon as there is room."""
        self._unsent += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send what there is room for."""
        try:
            while self._unsent:
                num_sent = self._end.send(self._unsent)
                del self._unsent[:num_sent]
        except BlockingIOError:
            pass
        except OSError:
            self.is_over = True
            self._unsent.clear()

    def receive(self) -> list[Any]:
        """Give the messages that have arrived."""
        pieces = [self._received]
        try:
            while data := self._end.recv(_BLOCK_BYTES):
                pieces.append(data)
            self.is_over = True
        except BlockingIOError:
            pass
        except OSError:
            self.is_over = True
        *lines, self._received = b"".join(pieces).split(b"\n")
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        """Close this end."""
        self._end.close()
