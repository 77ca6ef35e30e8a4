"""gRPC's wake-ups: one turn of the loop reads all of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import grpc

from negserve_server.listening.event_loop import ServerLoop


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=ServerLoop) as runner:
        runner.run(main())


def test_wake_ups_are_read_in_one_turn():
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(b"1" * 200)
            read: list[bytes] = []
            loop = asyncio.get_running_loop()
            loop.add_reader(ours, lambda: read.append(ours.recv(1)))
            while not read:
                await asyncio.sleep(0)
            theirs.sendall(b"2")
            while read[-1] != b"2":
                await asyncio.sleep(0)
            loop.remove_reader(ours)
            assert read == [b"1", b"2"]

    _run(main)


def test_grpc_reads_its_events_with_a_reader_of_a_socket():
    readers: list[object] = []

    class Recording(ServerLoop):
        def add_reader(self, fd: Any, callback: Any, *args: Any) -> Any:
            readers.append(fd)
            return super().add_reader(fd, callback, *args)

    async def main() -> None:
        server = grpc.aio.server()
        await server.start()
        await server.stop(None)

    with asyncio.Runner(loop_factory=Recording) as runner:
        runner.run(main())
    assert [type(each) for each in readers] == [socket.socket]
