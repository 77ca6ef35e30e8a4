"""Messages that can't be parsed are told as what they are, not as a fault of gRPC or as nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf.message import DecodeError

from negserve._protocol.answers import invalid, said_by
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub


@dataclass(frozen=True, slots=True)
class Unparsable:
    """Stands for bytes that are no message of the answer's type.

    :ivar num_bytes: how many there are
    """

    num_bytes: int


class _Channel:
    """A channel as the generated stub sees it: its parsers never raise.

    gRPC takes an exception of a parser for INTERNAL, which is final; with asyncio it gives None.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        make: Callable[..., Any] = getattr(self._channel, kind)

        def with_parser(*method: Any, response_deserializer: Any, **options: Any) -> Any:
            return make(
                *method, response_deserializer=_never_raising(response_deserializer), **options
            )

        return with_parser


def _never_raising(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parsed(data: bytes) -> Any:
        try:
            return parse(data)
        except DecodeError:
            return Unparsable(len(data))

    return parsed


def open_stub(channel: Any) -> SamplerServiceStub:
    """Give the methods over a channel; bytes that are no message come as :class:`Unparsable`."""
    wrapped: Any = _Channel(channel)
    return cast("SamplerServiceStub", SamplerServiceStub(wrapped))


def parsed(message: Any, target: str, method: str) -> Any:
    """Give what a replica answered.

    :raises InvalidAnswerError: if it can't be parsed
    """
    if isinstance(message, Unparsable):
        with said_by(target, method):
            raise invalid("message", f"{message.num_bytes} bytes", "a message of that method")
    return message
