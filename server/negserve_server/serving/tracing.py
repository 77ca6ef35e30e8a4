"""Traces of calls, by OpenTelemetry, which is an extra."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import grpc

from negserve.terminal.extras import needing
from negserve_server.logs.call import TRACE

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    _Handler = grpc.RpcMethodHandler[Any, Any]  # subscriptable for type checkers only

_EXPORTERS = "OTEL_TRACES_EXPORTER"
#: Of the variables, those for traces first.
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
#: How long the end of a server waits for a collector that does not take the last spans.
_LAST_SPANS_SECONDS = 2.0


def check_tracing() -> None:
    """Check whether calls can be traced.

    :raises MissingLibraryError: without the extra ``otel``
    :raises ValueError: if a variable names an exporter that is not installed
    """
    with needing("--tracing", "negserve[otel]"):
        import opentelemetry.instrumentation.grpc
        import opentelemetry.sdk.trace.export  # noqa: F401
    _exporters()


class Tracing:
    """Makes a span of each call, a child of the client's, if that sends one; no health checks.

    Where spans go, which are kept, and what names the service is up to the variables ``OTEL_*``.
    To be made in the process that serves: a thread sends the spans.

    Errors as of :func:`check_tracing`.
    """

    def __init__(self) -> None:
        from opentelemetry.instrumentation.grpc import aio_server_interceptor, filters
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        name = {SERVICE_NAME: "negserve-server"} | dict(OTELResourceDetector().detect().attributes)
        self._provider: TracerProvider = TracerProvider(
            resource=Resource.create(name), shutdown_on_exit=False
        )
        for make in _exporters():
            self._provider.add_span_processor(BatchSpanProcessor(make()))
        self.interceptors: list[grpc.aio.ServerInterceptor] = [
            aio_server_interceptor(self._provider, filters.negate(filters.health_check())),
            _AsGenerators(),
        ]

    def close(self) -> None:
        """Send the last spans, for two seconds at most."""
        thread = threading.Thread(target=self._provider.shutdown, daemon=True)
        thread.start()
        thread.join(_LAST_SPANS_SECONDS)


class _AsGenerators(grpc.aio.ServerInterceptor):
    """Makes handlers generators, and tells the log of which trace a call is.

    The instrumentation iterates over the answers of handlers that stream; ours write them.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Give the handler of a call."""
        from opentelemetry import trace

        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        write_all: Any = handler.stream_stream

        async def answers(requests: object, context: Any) -> AsyncGenerator[bytes, None]:
            span = trace.get_current_span().get_span_context()
            if span.is_valid:
                TRACE.set(trace.format_trace_id(span.trace_id))
            await write_all(requests, context)
            return
            yield

        return grpc.stream_stream_rpc_method_handler(
            answers,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _exporters() -> list[Callable[[], Any]]:
    """Give the exporters that the environment names, or that of OTLP.

    :raises ValueError: naming those that are installed
    """
    names = [each.strip() for each in os.environ.get(_EXPORTERS, "").split(",")]
    if "none" in names:
        return []
    found = []
    for name in [each for each in names if each] or ["otlp"]:
        protocol = next(filter(None, map(os.environ.get, _PROTOCOLS)), "http/protobuf")
        known = _OTLP.get(protocol, f"otlp by {protocol}") if name == "otlp" else name
        installed = entry_points(group="opentelemetry_traces_exporter")
        if known not in installed.names:
            raise ValueError(
                f"{_EXPORTERS} or {_PROTOCOLS[1]} asks for {known}; give one that is installed "
                f"({', '.join(sorted(installed.names))}), or install it"
            )
        found.append(installed[known].load())
    return found
