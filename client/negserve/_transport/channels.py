"""Channels: their options, and stubs whose calls answer with bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from google.protobuf.message_factory import GetMessageClass

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub

#: Bytes of a stream that gRPC takes ahead of its reader, who may wait for a message besides. A
#: stream gets at most so many in a round trip: over 50 ms, 20 MB a second.
AHEAD_BYTES = 1024 * 1024

CHANNEL_OPTIONS = (
    # The client retries for as long as patience lasts; retries of gRPC would hide the errors.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # A new channel has to be a new connection: the one before may be cut without noticing.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # By default gRPC takes ahead of the reader, of each stream, as much as the whole connection can
    # have under way. A client of many streams would hold gigabytes.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", AHEAD_BYTES),
)


def options_to(name: str | None) -> tuple[tuple[str, str | int], ...]:
    """Return the options of a channel to a server.

    :param name: the target whose look-up gave the server's address; None if gRPC has the target
    """
    if name is None:
        return CHANNEL_OPTIONS
    # The name is in the server's certificate. A proxy gets names, and those were not looked up.
    return (*CHANNEL_OPTIONS, ("grpc.default_authority", name), ("grpc.enable_http_proxy", 0))


#: Parsers of the answers, by method.
PARSERS: Mapping[str, Callable[[bytes], Any]] = {
    method.name: GetMessageClass(method.output_type).FromString
    for method in pb.DESCRIPTOR.services_by_name["SamplerService"].methods
}


class _BytesChannel:
    """A channel, as the generated stub sees it, that leaves answers as bytes.

    For gRPC, an exception of a parser is INTERNAL, which would be final; with asyncio it is None.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        make: Callable[..., Any] = getattr(self._channel, kind)

        def without_parser(*method: Any, response_deserializer: object, **options: Any) -> Any:
            del response_deserializer
            return make(*method, response_deserializer=None, **options)

        return without_parser


def open_stub(channel: Any) -> SamplerServiceStub:
    """Make a stub over a channel; its calls return bytes, for :data:`PARSERS`."""
    return cast("SamplerServiceStub", SamplerServiceStub(cast("Any", _BytesChannel(channel))))
