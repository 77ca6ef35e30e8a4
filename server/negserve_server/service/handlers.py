"""From the service's descriptor to gRPC handlers that parse, admit and refuse."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import Message

from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.admission.server_stream import ServerStream
from negserve_server.admission.status import refuse
from negserve_server.service.publish_relay import PublishRelay
from negserve_server.service.servicer import SamplerServicer

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]
_Context = grpc.aio.ServicerContext[Any, Any]

if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]  # subscriptable for type checkers only


def make_handler(
    servicer: SamplerServicer, admission: AdmissionControl, relay: PublishRelay | None = None
) -> grpc.GenericRpcHandler:
    """Make the handlers of all methods of the service.

    :param relay: passes calls of ``Publish`` on; None to answer them here

    Messages are parsed here, not by grpc, which would answer bytes that are no message with
    UNKNOWN and no reason.
    """
    handlers = {
        "Sample": many_requests(servicer.sample, pb.SampleRequest, admission),
        "SampleEpoch": many_requests(servicer.sample_epoch, pb.SampleEpochRequest, admission),
        "Contains": many_requests(servicer.contains, pb.ContainsRequest, admission),
        "Known": many_requests(servicer.known, pb.KnownRequest, admission),
        "GetServer": one_request(servicer.get_server, pb.GetServerRequest, admission),
        "ListDatasets": one_request(servicer.list_datasets, pb.ListDatasetsRequest, admission),
        "GetDataset": one_request(servicer.get_dataset, pb.GetDatasetRequest, admission),
        "GetRelationStatistics": one_request(
            servicer.get_relation_statistics, pb.GetRelationStatisticsRequest, admission
        ),
        "GetVocabulary": one_request(servicer.get_vocabulary, pb.GetVocabularyRequest, admission),
        "GetSnapshot": one_request(
            servicer.get_snapshot, pb.GetSnapshotRequest, admission, is_short=False
        ),
        "Publish": many_requests((relay or servicer).publish, pb.PublishRequest, admission),
    }
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def one_request(
    method: Callable[[Any], Any],
    message_class: type[Message],
    admission: AdmissionControl,
    *,
    is_short: bool = True,
) -> _Handler:
    """Make the handler of a method that takes one request.

    To grpc it is one that takes many: it would wait for ever for the request of a client that ends
    its requests without one, and never tell.

    :param method: gives the answer, or an awaitable of it, or an iterator of several
    :param is_short: as of :meth:`AdmissionControl.admit`
    """

    async def begin(stream: ServerStream[Any]) -> AsyncGenerator[Message | bytes, None]:
        answers: Any = method(await stream.read_only())
        if hasattr(answers, "__aiter__"):
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        else:
            yield await answers if inspect.isawaitable(answers) else answers

    return many_requests(begin, message_class, admission, is_short=is_short)


def many_requests(
    method: Callable[[ServerStream[Any]], Any],
    message_class: type[Message],
    admission: AdmissionControl,
    *,
    is_short: bool = False,
    is_watch: bool = False,
) -> _Handler:
    """Make the handler of a method that reads its requests itself.

    :param method: gives an iterator of the answers
    :param is_short: as of :meth:`AdmissionControl.admit`
    :param is_watch: as of :meth:`AdmissionControl.admit`
    """

    async def handle(_: object, context: _Context) -> None:
        stream = ServerStream[Any](context, message_class)
        try:
            with admission.admit(stream, is_short=is_short, is_watch=is_watch):
                async with aclosing(method(stream)) as answers:
                    async for answer in answers:
                        await stream.write(answer)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and stream.is_cancelled:
                raise
            # What else was cancelled, something that several wait for, say, is a fault of ours.
            stream.discard()
            with admission.closing(stream, is_short=is_short):
                await refuse(context, error)
        finally:
            stream.close()

    return grpc.stream_stream_rpc_method_handler(handle, response_serializer=_serialize)


def _serialize(message: Message | bytes) -> bytes:
    return message if isinstance(message, bytes) else message.SerializeToString()
