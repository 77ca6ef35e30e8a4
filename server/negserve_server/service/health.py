"""Health: whether the server, its service and each dataset can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from negserve.types.checks.text import MOST_CHARACTERS
from negserve_server.admission.admission_control import AdmissionControl, draining
from negserve_server.admission.server_stream import ServerStream
from negserve_server.errors import InvalidInput
from negserve_server.publishing.datasets import Datasets
from negserve_server.service.handlers import SERVICE, many_requests, one_request

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"]
_STATUS = health_pb2.HealthCheckResponse


class Health:
    """Answers ``grpc.health.v1``. Keeps nothing of what callers ask, but while they watch.

    :param datasets: the graphs, each a service by its name
    :param is_drained: whether the server's operator has taken it out of service
    """

    def __init__(self, datasets: Datasets, is_drained: Callable[[], bool] = lambda: False) -> None:
        self._datasets = datasets
        self._is_drained = is_drained
        self._is_draining = False
        self._changed = asyncio.Event()

    def note_change(self) -> None:
        """Let all who watch look whether theirs has changed."""
        self._changed.set()
        self._changed = asyncio.Event()

    def drain(self) -> None:
        """Say from now on that nothing is served, and end the streams of those who watch."""
        self._is_draining = True
        self.note_change()

    def check(self, request: health_pb2.HealthCheckRequest) -> health_pb2.HealthCheckResponse:
        """Answer ``Check``.

        :raises InvalidInput: with ``UNKNOWN_DATASET`` for another name. It does not name those
            that are served: probes have no token.
        """
        status = self._status(request.service)
        if status == _STATUS.SERVICE_UNKNOWN:
            raise InvalidInput(
                "there is no such service, and no dataset of that name",
                reason="UNKNOWN_DATASET",
                value=request.service,
            )
        return health_pb2.HealthCheckResponse(status=status)

    async def watch(
        self, stream: ServerStream[health_pb2.HealthCheckRequest]
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse, None]:
        """Answer ``Watch``."""
        request = await stream.read()
        if request is None:
            return
        name = request.service
        if len(name) > MOST_CHARACTERS and name not in self._datasets:
            raise InvalidInput(
                f"service has {len(name)} characters, the limit is {MOST_CHARACTERS}",
                reason="LIMIT_EXCEEDED",
                resource="characters",
                value=len(name),
                limit=MOST_CHARACTERS,
            )
        del request
        told: int | None = None
        while True:
            changed = self._changed
            status = self._status(name)
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status  # by now it may be another one
            elif self._is_draining:
                raise draining()
            else:
                await stream.rest(changed.wait())

    def _status(self, name: str) -> Any:
        if name not in ("", SERVICE.full_name) and name not in self._datasets:
            return _STATUS.SERVICE_UNKNOWN
        is_out = self._is_draining or self._is_drained()
        return _STATUS.NOT_SERVING if is_out else _STATUS.SERVING


def make_health_handler(health: Health, admission: AdmissionControl) -> grpc.GenericRpcHandler:
    """Make the handlers of ``grpc.health.v1``."""
    request_class = health_pb2.HealthCheckRequest
    return grpc.method_handlers_generic_handler(
        HEALTH_SERVICE.full_name,
        {
            "Check": one_request(
                "Check",
                health.check,
                request_class,
                admission,
                outlives_drain=True,
                is_logged=False,
            ),
            "Watch": many_requests(
                "Watch",
                health.watch,
                request_class,
                admission,
                is_watch=True,
                outlives_drain=True,
                is_logged=False,
            ),
        },
    )
