"""A replica that changes some answers of an honest server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.support.descriptors import SERVICE

_SECONDS = 60.0

#: What is said in place of an honest server's messages, or of bytes that are none.
Lie = Callable[[Iterator[Any]], Iterator[Message | bytes]]


@dataclass
class LyingServer:
    """A running replica.

    :ivar target: its address
    :ivar lies: what it does to the answers of an RPC; others are passed on
    :ivar num_calls: of each RPC
    """

    target: str
    lies: dict[str, Lie] = field(default_factory=dict)
    num_calls: Counter[str] = field(default_factory=Counter)


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, honest: grpc.Channel, server: LyingServer) -> None:
        self._honest = honest
        self._server = server

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            return self._answer(details.method, requests, context)

        return grpc.stream_stream_rpc_method_handler(answer)

    def _answer(
        self, path: str, requests: Iterator[bytes], context: grpc.ServicerContext
    ) -> Iterator[bytes]:
        rpc = path.rsplit("/", 1)[-1]
        self._server.num_calls[rpc] += 1
        call = self._honest.stream_stream(path)(_until_gone(requests), timeout=_SECONDS)
        context.add_callback(call.cancel)
        try:
            yield from self._changed(rpc, call)
        except grpc.RpcError as error:
            context.abort(error.code(), error.details())

    def _changed(self, rpc: str, answers: Iterator[bytes]) -> Iterator[bytes]:
        lie = self._server.lies.get(rpc)
        if lie is None:
            yield from answers
            return
        message_class = GetMessageClass(SERVICE.methods_by_name[rpc].output_type)
        for message in lie(message_class.FromString(answer) for answer in answers):
            yield message if isinstance(message, bytes) else message.SerializeToString()


def _until_gone(requests: Iterator[bytes]) -> Iterator[bytes]:
    with suppress(grpc.RpcError):  # the client left
        yield from requests


@contextmanager
def lying_server(honest: str) -> Iterator[LyingServer]:
    """Run a replica in this process.

    :param honest: the server that it asks
    """
    with grpc.insecure_channel(honest) as channel:
        server = grpc.server(futures.ThreadPoolExecutor(16))
        lying = LyingServer(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        server.add_generic_rpc_handlers((_Handler(channel, lying),))
        server.start()
        try:
            yield lying
        finally:
            server.stop(None).wait()


def change(edit: Callable[[Any], object], at: int = 0) -> Lie:
    """Edit one message of each stream, by default the first."""

    def lie(messages: Iterator[Any]) -> Iterator[Any]:
        for index, message in enumerate(messages):
            if index == at:
                edit(message)
            yield message

    return lie


def setting(path: str, value: object, at: int = 0) -> Lie:
    """Set a field of one message of each stream; a number in the path is an index."""

    def edit(message: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            message = message[int(name)] if name.isdigit() else getattr(message, name)
        if last.isdigit():
            message[int(last)] = value
        else:
            setattr(message, last, value)

    return change(edit, at)
