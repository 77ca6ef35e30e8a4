"""A lower bound for streams: grpcio alone, streaming opaque bytes from a separate process.

Run as ``python -m benchmarks.measured.plain_grpc BYTES``: serves one method that streams messages
of that size without end, one that answers each request with such a message, and one that answers
its requests with two of them; and prints its address.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc

METHOD = "/benchmarks.Plain/Stream"
EXCHANGE = "/benchmarks.Plain/Exchange"
OPENING = "/benchmarks.Plain/Opening"


async def serve(num_bytes: int) -> None:
    """Serve until the process ends."""
    message = bytes(num_bytes)

    async def stream(_: bytes, __: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        while True:
            yield message

    async def exchange(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while await context.read() is not grpc.aio.EOF:
            await context.write(message)

    async def opening(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        while await context.read() is not grpc.aio.EOF:
            pass
        for _ in range(2):
            await context.write(message)

    handler = grpc.method_handlers_generic_handler(
        "benchmarks.Plain",
        {
            "Stream": grpc.unary_stream_rpc_method_handler(stream),
            "Exchange": grpc.stream_stream_rpc_method_handler(exchange),
            "Opening": grpc.stream_stream_rpc_method_handler(opening),
        },
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
