"""Reflection: what the service's messages are, for tools that have no proto."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.admission.server_stream import ServerStream
from negserve_server.errors import InvalidInput
from negserve_server.service.admin_servicer import ADMIN_SERVICE
from negserve_server.service.handlers import SERVICE, many_requests
from negserve_server.service.health import HEALTH_SERVICE

#: Names of files and symbols are far shorter.
_MOST_BYTES = 4096


def make_reflection_handler(
    admission: AdmissionControl, *, has_admin: bool = False
) -> grpc.GenericRpcHandler:
    """Make the handler of ``grpc.reflection.v1alpha``.

    :param has_admin: whether the server has the administrators' service
    """
    names = [SERVICE.full_name, HEALTH_SERVICE.full_name, reflection.SERVICE_NAME]
    if has_admin:
        names.append(ADMIN_SERVICE.full_name)
    servicer: Any = reflection.aio.ReflectionServicer(names)

    async def answer(
        stream: ServerStream[reflection_pb2.ServerReflectionRequest],
    ) -> AsyncGenerator[reflection_pb2.ServerReflectionResponse, None]:
        async with aclosing(servicer.ServerReflectionInfo(_requests(stream), None)) as answers:
            async for each in answers:
                yield each

    request_class = reflection_pb2.ServerReflectionRequest
    return grpc.method_handlers_generic_handler(
        reflection.SERVICE_NAME,
        {
            "ServerReflectionInfo": many_requests(
                "ServerReflectionInfo", answer, request_class, admission
            )
        },
    )


async def _requests(
    stream: ServerStream[reflection_pb2.ServerReflectionRequest],
) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    while (request := await stream.read()) is not None:
        if request.ByteSize() > _MOST_BYTES:
            raise InvalidInput(
                f"the request has {request.ByteSize()} bytes, the limit is {_MOST_BYTES}; ask for "
                f"a shorter name",
                reason="LIMIT_EXCEEDED",
                resource="bytes",
                value=request.ByteSize(),
                limit=_MOST_BYTES,
            )
        yield request
