"""From the service's descriptor to gRPC handlers that parse, admit and refuse."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import grpc
from google.protobuf.message import Message

from negserve.v1 import sampler_pb2 as pb
from negserve_server.service.refusal import refuse
from negserve_server.service.servicer import SamplerServicer
from negserve_server.service.stream import ServerStream, parse
from negserve_server.service.streams import OpenStreams

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]
_Context = grpc.aio.ServicerContext[Any, Any]


def make_handler(servicer: SamplerServicer, streams: OpenStreams) -> grpc.GenericRpcHandler:
    """Make the handlers of all methods of the service.

    Messages are parsed here, not by grpc, which would answer bytes that are no message with
    UNKNOWN and no reason.
    """
    handlers = {
        "Sample": _stream_stream(servicer.sample, pb.SampleRequest, streams),
        "SampleEpoch": _admitted_unary_stream(
            servicer.sample_epoch, pb.SampleEpochRequest, streams
        ),
        "Contains": _stream_stream(servicer.contains, pb.ContainsRequest, streams),
        "GetServer": _unary_unary(servicer.get_server, pb.GetServerRequest),
        "ListDatasets": _unary_stream(servicer.list_datasets, pb.ListDatasetsRequest),
        "GetDataset": _unary_unary(servicer.get_dataset, pb.GetDatasetRequest),
        "GetRelationStatistics": _unary_stream(
            servicer.get_relation_statistics, pb.GetRelationStatisticsRequest
        ),
        "GetVocabulary": _unary_stream(servicer.get_vocabulary, pb.GetVocabularyRequest),
        "Publish": _stream_stream(servicer.publish, pb.PublishRequest, streams),
    }
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def _unary_unary(method: Any, message_class: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
    async def handle(data: bytes, context: _Context) -> Message:
        try:
            answer: Message = method(parse(message_class, data))
        except Exception as error:
            await refuse(context, error)
        return answer

    return grpc.unary_unary_rpc_method_handler(handle, response_serializer=_serialize)


def _unary_stream(method: Any, message_class: type[Message]) -> grpc.RpcMethodHandler[Any, Any]:
    async def handle(data: bytes, context: _Context) -> None:
        try:
            async for answer in method(parse(message_class, data)):
                await context.write(answer)
        except Exception as error:
            await refuse(context, error)

    return grpc.unary_stream_rpc_method_handler(handle, response_serializer=_serialize)


def _admitted_unary_stream(
    method: Any, message_class: type[Message], streams: OpenStreams
) -> grpc.RpcMethodHandler[Any, Any]:
    async def handle(data: bytes, context: _Context) -> None:
        stream = ServerStream(context, message_class)
        await _answer(stream, streams, context, lambda: method(parse(message_class, data)))

    return grpc.unary_stream_rpc_method_handler(handle, response_serializer=_serialize)


def _stream_stream(
    method: Any, message_class: type[Message], streams: OpenStreams
) -> grpc.RpcMethodHandler[Any, Any]:
    async def handle(_: object, context: _Context) -> None:
        stream = ServerStream(context, message_class)
        await _answer(stream, streams, context, lambda: method(stream))

    return grpc.stream_stream_rpc_method_handler(handle, response_serializer=_serialize)


async def _answer(
    stream: ServerStream[Any],
    streams: OpenStreams,
    context: _Context,
    begin: Callable[[], AsyncGenerator[Message, None]],
) -> None:
    """Hold a place for a stream, and write all its answers."""
    try:
        with streams.admit(stream):
            async with aclosing(begin()) as answers:
                async for answer in answers:
                    await stream.write(answer)
    except Exception as error:
        await refuse(context, error)
