"""Authentication: finds out who calls, and refuses who may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

from negserve.types.checks.text import quoted
from negserve_server.access.caller import CALLER, Caller, Scope
from negserve_server.access.callers import Callers
from negserve_server.access.refused_calls import RefusedCalls
from negserve_server.access.relayed_call import relayed_call
from negserve_server.admission.access_line import AccessLine
from negserve_server.admission.status import outcome_of, refuse
from negserve_server.errors import Refusal
from negserve_server.logs.call import CALL, LoggedCall, new_call_id
from negserve_server.metrics.server_metrics import NO_METRICS, ServerMetrics

_FIELD = "authorization"
_SCHEME = "bearer"
#: Needs no token: probes have none, and learn only that the server is there. Watches stay open, and
#: need one.
_PUBLIC_METHOD = "/grpc.health.v1.Health/Check"
_SAMPLER_METHODS = "/negserve.v1.SamplerService/"
#: What methods of a service need; where nothing is said, whoever may call at all may call them.
_SCOPES: dict[str, Scope | None] = {
    "/negserve.v1.AdminService/": "admin",
    f"{_SAMPLER_METHODS}Publish": "publish",
    f"{_SAMPLER_METHODS}GetServer": None,
    f"{_SAMPLER_METHODS}ListDatasets": None,
    f"{_SAMPLER_METHODS}GetDataset": None,
    _SAMPLER_METHODS: "sample",
}
#: In metrics, of calls of methods that there are not.
_UNKNOWN_RPC = "(unknown)"

if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]  # subscriptable for type checkers only
_Context = grpc.aio.ServicerContext[Any, Any]


class Authentication(grpc.aio.ServerInterceptor):
    """Sets the caller of each call: that of its token, ``authorization: Bearer TOKEN``.

    Without a token it is the subject of the client's certificate, if that may call.

    :param callers: those who may call; None if anybody may
    :param has_certificates: whether clients present certificates, which are checked
    :param metrics: count refused calls
    :param has_access_log: whether refused calls are logged, each
    """

    def __init__(
        self,
        callers: Callers | None,
        *,
        has_certificates: bool,
        metrics: ServerMetrics = NO_METRICS,
        has_access_log: bool = False,
    ) -> None:
        self._callers = callers
        self._has_certificates = has_certificates
        self._metrics = metrics
        self._has_access_log = has_access_log
        self._refused = RefusedCalls()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Give the handler of a call, or one that refuses it."""
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        if method == _PUBLIC_METHOD or (self._callers is None and not self._has_certificates):
            return handler
        rpc = _UNKNOWN_RPC if handler is None else method.rpartition("/")[2]

        async def handle(requests: object, context: _Context) -> None:
            caller: Caller | None = None
            try:
                caller = self._identify(context)
                if handler is not None and (scope := _scope_of(method)) is not None:
                    caller.check_scope(scope)
            except Refusal as error:
                name = "" if caller is None else caller.name
                CALL.set(LoggedCall(new_call_id(), rpc, context.peer(), name))
                self._refused.note(context.peer(), error.reason, caller)
                if caller is None:
                    self._metrics.authentication_failed(error.reason)
                meter = self._metrics.calls(rpc)
                if self._has_access_log:
                    meter = AccessLine(meter)
                meter.ended(*outcome_of(error))
                await refuse(context, error)
            if handler is None:
                # In gRPC's own words: only who may call learns which methods there are.
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            CALLER.set(caller)
            answer: Any = handler.stream_stream
            await answer(requests, context)

        # A status without a message answers every kind of method, and all of ours are streams.
        return grpc.stream_stream_rpc_method_handler(
            handle, response_serializer=None if handler is None else handler.response_serializer
        )

    def _identify(self, context: _Context) -> Caller:
        """Find out who calls.

        :raises Refusal: with ``CREDENTIALS_MISSING`` or ``CREDENTIALS_INVALID``
        """
        metadata = context.invocation_metadata() or ()
        relayed = relayed_call(metadata)
        name = _subject(context) if relayed is None else relayed.caller
        if self._callers is None:
            return Caller(name=name)
        given = None if relayed is not None else dict(metadata).get(_FIELD)
        if given is not None:
            scheme, _, token = str(given).partition(" ")
            caller = self._callers.with_token(token.strip().encode())
            if scheme.lower() != _SCHEME or caller is None:
                raise _unauthenticated("INVALID", "unknown token")
            return caller
        caller = (self._callers.named(name) if name else None) or self._callers.anybody
        if caller is None:
            subject = f", and no entry for the certificate {quoted(name)}" if name else ""
            raise _unauthenticated("MISSING", f"missing token{subject}")
        return caller


def _scope_of(method: str) -> Scope | None:
    return next((scope for prefix, scope in _SCOPES.items() if method.startswith(prefix)), None)


def _subject(context: _Context) -> str:
    """Give the subject of the client's certificate, such as ``CN=trainer-a,O=Example``."""
    found = [*context.auth_context().get("x509_subject", ())]
    return found[0].decode(errors="replace") if found else ""


def _unauthenticated(what: str, problem: str) -> Refusal:
    return Refusal(
        f"{problem}; send the metadata '{_FIELD}: Bearer TOKEN' with a token from the server's "
        f"operator (the Python client reads it from NEGSERVE_TOKEN or NEGSERVE_TOKEN_FILE)",
        reason=f"CREDENTIALS_{what}",
        key=_FIELD,
        expected="Bearer TOKEN",
    )
