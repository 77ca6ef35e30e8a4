"""Spans of calls, by OpenTelemetry, where the program has set it up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import grpc


def traced(channel: Any, target: str) -> Any:
    """Give a channel each of whose calls is a span, if the program has set a tracer provider.

    The server's span becomes its child. A stream is one span, which ends with the stream.

    :param channel: of :mod:`grpc` or :mod:`grpc.aio`
    """
    # A program that has not imported it has not set it up.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return channel
    is_set_up = not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    is_instrumented = "opentelemetry.instrumentation.grpc" in sys.modules
    return _TracedChannel(channel, target) if is_set_up or is_instrumented else channel


class _TracedChannel:
    """A channel whose calls are spans."""

    def __init__(self, channel: Any, target: str) -> None:
        self._channel = channel
        self._target = target
        self.close = channel.close

    def __getattr__(self, kind: str) -> Callable[..., _TracedMethod]:
        """Wrap a factory of methods, such as ``unary_stream``."""
        make: Callable[..., Any] = getattr(self._channel, kind)

        def make_traced(method: str, *args: Any, **kwargs: Any) -> _TracedMethod:
            return _TracedMethod(make(method, *args, **kwargs), method, self._target)

        return make_traced


class _TracedMethod:
    """A method whose calls are spans."""

    def __init__(self, method: Any, name: str, target: str) -> None:
        self._method = method
        self._name = name.removeprefix("/")
        service, _, rpc = self._name.partition("/")
        self._attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": rpc,
            "server.address": target,
        }

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._start(self._method, *args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """Start a call that can be cancelled; with :mod:`grpc` only."""
        return self._start(self._method.future, *args, **kwargs)

    def _start(
        self,
        start: Callable[..., Any],
        *args: Any,
        metadata: Sequence[tuple[str, str]] = (),
        **kwargs: Any,
    ) -> Any:
        from opentelemetry import propagate, trace

        span = trace.get_tracer("negserve").start_span(
            self._name, kind=trace.SpanKind.CLIENT, attributes=self._attributes
        )
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))

        # It holds no call: one that is garbage has to end.
        def end(call: Any) -> None:
            _end(span, _code_of(call))

        try:
            with _without_interceptors():
                call = start(*args, metadata=(*metadata, *carrier.items()), **kwargs)
        except grpc.RpcError as error:
            end(error)
            raise
        except BaseException:
            span.end()
            raise
        if hasattr(call, "add_done_callback"):
            call.add_done_callback(end)
        else:  # the answer of a call that blocks
            _end(span, grpc.StatusCode.OK)
        return call


def _without_interceptors() -> AbstractContextManager[None]:
    """Make the interceptors of ``opentelemetry-instrumentation-grpc`` pass a call on as it is.

    With :mod:`grpc` they answer a call of one request and a stream of answers with a generator,
    which can neither be cancelled nor tell its end.
    """
    utils = sys.modules.get("opentelemetry.instrumentation.utils")
    suppressing: AbstractContextManager[None] = (
        nullcontext() if utils is None else utils.suppress_instrumentation()
    )
    return suppressing


def _code_of(call: Any) -> grpc.StatusCode:
    code = call.code()
    if isinstance(code, grpc.StatusCode):
        return code
    try:
        code.send(None)  # that of asyncio is there, since the call has ended
    except StopIteration as end:
        return grpc.StatusCode(end.value)
    code.close()
    return grpc.StatusCode.UNKNOWN


def _end(span: Any, code: grpc.StatusCode) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("rpc.grpc.status_code", code.value[0])
    # A client that needs no more of a stream cancels it: that is no error.
    if code not in {grpc.StatusCode.OK, grpc.StatusCode.CANCELLED}:
        span.set_status(StatusCode.ERROR, code.name)
    span.end()
