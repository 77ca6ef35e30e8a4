"""A client that counts the bytes of its messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from negserve._sync.client import Client
from negserve._sync.transport import SyncTransport
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub


class _CountingTransport(SyncTransport):
    """A transport that counts.

    :ivar sent: bytes of the messages that were sent, without gRPC's frames
    :ivar received: likewise
    :ivar arrivals: when messages were received, by ``time.perf_counter``
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.sent = 0
        self.received = 0
        self.arrivals: list[float] = []

    def _connect(self, target: str) -> Any:
        opened = super()._connect(target)
        counting = _CountingChannel(opened.channel, self)
        stub = cast("SamplerServiceStub", SamplerServiceStub(cast("Any", counting)))
        return opened._replace(stub=stub)

    def count_received(self, message: bytes) -> bytes:
        """Count a message, and leave it as bytes, as transports expect it."""
        self.received += len(message)
        self.arrivals.append(time.perf_counter())
        return message


class _CountingChannel:
    """A channel, as the generated stub sees it."""

    def __init__(self, channel: Any, transport: _CountingTransport) -> None:
        self._channel = channel
        self._transport = transport

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        make: Callable[..., Any] = getattr(self._channel, kind)
        transport = self._transport

        def counting(
            *method: Any,
            request_serializer: Callable[[Any], bytes],
            response_deserializer: object,
            **options: Any,
        ) -> Any:
            del response_deserializer

            def serialize(request: Any) -> bytes:
                message = request_serializer(request)
                transport.sent += len(message)
                return message

            return make(
                *method,
                request_serializer=serialize,
                response_deserializer=transport.count_received,
                **options,
            )

        return counting


class CountingClient(Client):
    """A client that counts the bytes of its messages. Parameters as of :class:`negserve.Client`."""

    _transport_class: type[SyncTransport] = _CountingTransport

    @property
    def sent(self) -> int:
        """Bytes of the messages that were sent, without gRPC's frames."""
        return cast("_CountingTransport", self._transport).sent

    @property
    def arrivals(self) -> list[float]:
        """When messages were received, by ``time.perf_counter``."""
        return cast("_CountingTransport", self._transport).arrivals

    @property
    def received(self) -> int:
        """Bytes of the messages that were received, without gRPC's frames."""
        return cast("_CountingTransport", self._transport).received
