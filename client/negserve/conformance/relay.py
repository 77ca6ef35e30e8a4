"""A server that forwards calls to another one and disturbs some of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from negserve._protocol.messages import decode_ids
from negserve.conformance.golden import METHODS, SERVICE
from negserve.v1 import sampler_pb2 as pb

#: Known values of a message that the relay sends.
_MOST_VALUES = 7
_DETAILS_KEY = "grpc-status-details-bin"


class Disturbance:
    """Disturbs one call: the first one of a method.

    :param method: name of the method
    :param num_answers: number of answers to forward before
    :param end: status and reason with which the call then ends; an empty reason imitates a proxy.
        None to forward all answers
    :param change: changes the answer after those
    """

    def __init__(
        self,
        method: str,
        num_answers: int,
        *,
        end: tuple[grpc.StatusCode, str] | None = None,
        change: Callable[[Any], Any] | None = None,
    ) -> None:
        self.method = method
        self.num_answers = num_answers
        self.end = end
        self.change = change
        self.has_struck = False


class Relay:
    """Listens on a free port of this machine until the block ends.

    :param channel: channel to the server
    :ivar target: the relay's address, for clients
    :ivar disturbance: applied to the next matching call; None for none
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self.disturbance: Disturbance | None = None
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16),
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
        )
        handlers: dict[str, Any] = {
            name: grpc.stream_stream_rpc_method_handler(self._handler(name)) for name in METHODS
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),)
        )
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> Relay:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()

    def _handler(self, method: str) -> Any:
        path = f"/{SERVICE.full_name}/{method}"

        def handle(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            disturbance = self._begin(method)
            answers = self._channel.stream_stream(path)(requests)
            context.add_callback(answers.cancel)
            num_passed = 0
            try:
                for answer in self._divided(method, answers):
                    if disturbance is not None and num_passed == disturbance.num_answers:
                        if disturbance.end is not None:
                            _end(context, *disturbance.end)
                            return
                        assert disturbance.change is not None
                        answer_class = type(_PARSERS[method]())
                        yield disturbance.change(
                            answer_class.FromString(answer)
                        ).SerializeToString()
                    else:
                        yield answer
                    num_passed += 1
            except grpc.RpcError as error:
                _pass_on(context, error)

        return handle

    def _begin(self, method: str) -> Disturbance | None:
        with self._lock:
            found = self.disturbance
            if found is None or found.method != method or found.has_struck:
                return None
            found.has_struck = True
            return found

    def _divided(self, method: str, answers: Iterator[bytes]) -> Iterator[bytes]:
        """Send each batch of an epoch in a message of its own, and few known values in one.

        Servers group both as they like.
        """
        for answer in answers:
            if method == "Known":
                for part in _parts_of(pb.KnownResponse.FromString(answer)):
                    yield part.SerializeToString()
                continue
            if method != "SampleEpoch":
                yield answer
                continue
            message = pb.SampleEpochResponse.FromString(answer)
            if not message.HasField("batches"):
                yield answer
            for batch in message.batches.batches:
                batches = pb.EpochBatches(batches=[batch])
                yield pb.SampleEpochResponse(batches=batches).SerializeToString()


def _parts_of(answer: pb.KnownResponse) -> Iterator[pb.KnownResponse]:
    """Divide known values: a pair a message, and at most so many values."""
    counts, width, at = decode_ids(answer.counts).tolist(), answer.values.width, 0
    if not counts:
        yield answer
    for i, count in enumerate(counts):
        for begin in range(0, max(count, 1), _MOST_VALUES):
            size = min(count - begin, _MOST_VALUES)
            has_more = begin + size < count or (answer.is_continued and i == len(counts) - 1)
            data = answer.values.data[at : at + size * width]
            at += size * width
            yield pb.KnownResponse(
                first_pair=answer.first_pair + i,
                counts=pb.Ids(data=bytes([size]), width=1),
                values=pb.Ids(data=data, width=width),
                is_continued=has_more,
            )


_PARSERS: dict[str, Callable[[], Any]] = {
    "Sample": pb.SampleResponse,
    "SampleEpoch": pb.SampleEpochResponse,
    "GetDataset": pb.GetDatasetResponse,
    "Known": pb.KnownResponse,
}


def _end(context: grpc.ServicerContext, code: grpc.StatusCode, reason: str) -> None:
    """End a call, with a reason as servers do, or without one as proxies do."""
    context.set_code(code)
    context.set_details(f"disturbance: {reason or 'upstream is gone'}")
    if not reason:
        return
    info, retry = any_pb2.Any(), any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(domain="negserve.dev", reason=reason))
    retry.Pack(error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration()))
    status = status_pb2.Status(code=code.value[0], details=[info, retry])
    context.set_trailing_metadata(((_DETAILS_KEY, status.SerializeToString()),))


def _pass_on(context: grpc.ServicerContext, error: Any) -> None:
    context.set_code(error.code())
    context.set_details(error.details() or "")
    trailers = tuple(
        (key, value) for key, value in error.trailing_metadata() or () if key == _DETAILS_KEY
    )
    context.set_trailing_metadata(trailers)
