"""The event loop of a server, on which gRPC's wake-ups do not pile up."""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import termios
from collections.abc import Callable
from typing import Any, TypeVarTuple, Unpack

_Arguments = TypeVarTuple("_Arguments")


class ServerLoop(asyncio.SelectorEventLoop):
    """An event loop that reads gRPC's wake-ups all at once.

    A thread of gRPC puts each event into a queue and writes a byte to a socket. gRPC's reader takes
    one byte and all events, so bytes pile up while many streams are busy: the loop turns without
    work, and at some 280 bytes the thread blocks, until most of them are read. Meanwhile no event
    arrives, whoever it is for: a request of a quiet stream waited for 20 ms.
    """

    def add_reader(
        self, fd: Any, callback: Callable[[Unpack[_Arguments]], Any], *args: *_Arguments
    ) -> Any:
        """Add a reader as any loop; for a socket, which is gRPC's, one that drops surplus bytes."""
        if not isinstance(fd, socket.socket):
            return super().add_reader(fd, callback, *args)
        waiting = array.array("i", [0])

        def read() -> None:
            fcntl.ioctl(fd, termios.FIONREAD, waiting)
            if waiting[0] > 1:
                fd.recv(waiting[0] - 1)  # gRPC's reader takes the last one
            callback(*args)

        return super().add_reader(fd, read)
