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
from negserve_server.admission.access_line import AccessLine
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.admission.server_stream import ServerStream
from negserve_server.admission.status import outcome_of, refuse
from negserve_server.logs.call import CALL, LoggedCall
from negserve_server.metrics.call_meter import NO_CALLS
from negserve_server.service.publish_relay import PublishRelay
from negserve_server.service.servicer import SamplerServicer

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]
#: Of calls whose client is gone.
_CANCELLED = grpc.StatusCode.CANCELLED.name
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
        "Sample": many_requests("Sample", servicer.sample, pb.SampleRequest, admission),
        "SampleEpoch": many_requests(
            "SampleEpoch", servicer.sample_epoch, pb.SampleEpochRequest, admission
        ),
        "Contains": many_requests("Contains", servicer.contains, pb.ContainsRequest, admission),
        "Known": many_requests("Known", servicer.known, pb.KnownRequest, admission),
        "GetServer": one_request("GetServer", servicer.get_server, pb.GetServerRequest, admission),
        "ListDatasets": one_request(
            "ListDatasets", servicer.list_datasets, pb.ListDatasetsRequest, admission
        ),
        "GetDataset": one_request(
            "GetDataset", servicer.get_dataset, pb.GetDatasetRequest, admission
        ),
        "GetRelationStatistics": one_request(
            "GetRelationStatistics",
            servicer.get_relation_statistics,
            pb.GetRelationStatisticsRequest,
            admission,
        ),
        "GetVocabulary": one_request(
            "GetVocabulary", servicer.get_vocabulary, pb.GetVocabularyRequest, admission
        ),
        "GetSnapshot": one_request(
            "GetSnapshot", servicer.get_snapshot, pb.GetSnapshotRequest, admission, is_short=False
        ),
        "Publish": many_requests(
            "Publish",
            (relay or servicer).publish,
            pb.PublishRequest,
            admission,
            is_counted=relay is None,
        ),
    }
    return grpc.method_handlers_generic_handler(SERVICE.full_name, handlers)


def one_request(
    rpc: str,
    method: Callable[[Any], Any],
    message_class: type[Message],
    admission: AdmissionControl,
    *,
    is_short: bool = True,
    outlives_drain: bool = False,
    is_logged: bool = True,
) -> _Handler:
    """Make the handler of a method that takes one request.

    To grpc it is one that takes many: it would wait for ever for the request of a client that ends
    its requests without one, and never tell.

    :param rpc: name of the method, in metrics
    :param method: gives the answer, or an awaitable of it, or an iterator of several
    :param is_short: as of :meth:`AdmissionControl.admit`
    :param outlives_drain: as of :meth:`AdmissionControl.admit`
    :param is_logged: as of :func:`many_requests`
    """

    async def begin(stream: ServerStream[Any]) -> AsyncGenerator[Message | bytes, None]:
        answers: Any = method(await stream.read_only())
        if hasattr(answers, "__aiter__"):
            async with aclosing(answers):
                async for answer in answers:
                    yield answer
        else:
            yield await answers if inspect.isawaitable(answers) else answers

    return many_requests(
        rpc,
        begin,
        message_class,
        admission,
        is_short=is_short,
        outlives_drain=outlives_drain,
        is_logged=is_logged,
    )


def many_requests(
    rpc: str,
    method: Callable[[ServerStream[Any]], Any],
    message_class: type[Message],
    admission: AdmissionControl,
    *,
    is_short: bool = False,
    is_watch: bool = False,
    is_counted: bool = True,
    outlives_drain: bool = False,
    is_logged: bool = True,
) -> _Handler:
    """Make the handler of a method that reads its requests itself.

    :param rpc: name of the method, in metrics
    :param method: gives an iterator of the answers
    :param is_short: as of :meth:`AdmissionControl.admit`
    :param is_watch: as of :meth:`AdmissionControl.admit`
    :param is_counted: whether metrics and access log have these calls: those that are passed on to
        another process are counted there
    :param outlives_drain: as of :meth:`AdmissionControl.admit`
    :param is_logged: whether the access log has them, if they are counted
    """
    meter = admission.metrics.calls(rpc) if is_counted else NO_CALLS
    has_line = admission.has_access_log and is_counted and is_logged

    async def handle(_: object, context: _Context) -> None:
        call_meter = AccessLine(meter) if has_line else meter
        stream = ServerStream[Any](context, message_class, call_meter, rpc if is_counted else "")
        CALL.set(LoggedCall(stream.id, rpc, stream.connection, stream.caller.name))
        try:
            with admission.admit(
                stream, is_short=is_short, is_watch=is_watch, outlives_drain=outlives_drain
            ):
                async with aclosing(method(stream)) as answers:
                    async for answer in answers:
                        await stream.write(answer)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and stream.is_cancelled:
                call_meter.ended(_CANCELLED)
                raise
            # What else was cancelled, something that several wait for, say, is a fault of ours.
            stream.discard()
            with admission.closing(stream, is_short=is_short):
                try:
                    await refuse(context, error)
                except grpc.aio.AbortError:
                    call_meter.ended(*outcome_of(error))
                    raise
                except asyncio.CancelledError:
                    call_meter.ended(_CANCELLED)
                    raise
        else:
            call_meter.ended(grpc.StatusCode.OK.name)
        finally:
            stream.close()

    return grpc.stream_stream_rpc_method_handler(handle)
