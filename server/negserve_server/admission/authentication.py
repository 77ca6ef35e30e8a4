"""Authentication: refuses calls without a valid token, except health checks.

Administrators have tokens of their own: theirs are no callers', and callers' are not theirs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

from negserve_server.admission.refused_calls import RefusedCalls
from negserve_server.admission.status import outcome_of, refuse
from negserve_server.admission.tokens import Tokens
from negserve_server.errors import Refusal
from negserve_server.metrics.call_meter import CallMeter
from negserve_server.metrics.server_metrics import NO_METRICS, ServerMetrics

_FIELD = "authorization"
_SCHEME = "bearer"
#: Needs no token: probes have none, and learn only that the server is there. Watches stay open, and
#: need one.
_PUBLIC_METHOD = "/grpc.health.v1.Health/Check"
_ADMIN_METHODS = "/negserve.v1.AdminService/"
#: In metrics, of calls of methods that there are not.
_UNKNOWN_RPC = "(unknown)"

if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]  # subscriptable for type checkers only


class Authentication(grpc.aio.ServerInterceptor):
    """Accepts calls with ``authorization: Bearer TOKEN`` in their metadata.

    :param tokens: of callers; None if anybody may call
    :param admin_tokens: of administrators; None for a server without their service
    :param metrics: count refused calls
    """

    def __init__(
        self,
        tokens: Tokens | None,
        admin_tokens: Tokens | None,
        metrics: ServerMetrics = NO_METRICS,
    ) -> None:
        self._metrics = metrics
        self._tokens = tokens
        self._admin_tokens = admin_tokens
        self._refused = RefusedCalls()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Give the handler of a call, or one that refuses it."""
        method = str(handler_call_details.method)
        is_admin = self._admin_tokens is not None and method.startswith(_ADMIN_METHODS)
        tokens = self._admin_tokens if is_admin else self._tokens
        if tokens is not None and method != _PUBLIC_METHOD:
            error = _check(tokens, handler_call_details.invocation_metadata)
            if error is not None:
                is_known = await continuation(handler_call_details) is not None
                rpc = method.rpartition("/")[2] if is_known else _UNKNOWN_RPC
                return self._refusing(error, self._metrics.calls(rpc))
        return await continuation(handler_call_details)

    def _refusing(self, error: Refusal, meter: CallMeter) -> _Handler:
        async def handle(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            self._refused.note(context.peer(), error.reason)
            self._metrics.authentication_failed(error.reason)
            meter.ended(*outcome_of(error))
            await refuse(context, error)

        # A status without a message answers every kind of method.
        return grpc.stream_stream_rpc_method_handler(handle)


def _check(tokens: Tokens, metadata: Any) -> Refusal | None:
    given = dict(metadata).get(_FIELD)
    if given is None:
        return _unauthenticated("MISSING", "missing token")
    scheme, _, token = str(given).partition(" ")
    if scheme.lower() != _SCHEME or not tokens.has(token.strip().encode()):
        return _unauthenticated("INVALID", "unknown token")
    return None


def _unauthenticated(what: str, problem: str) -> Refusal:
    return Refusal(
        f"{problem}; send the metadata '{_FIELD}: Bearer TOKEN' with a token from the server's "
        f"operator (the Python client reads it from NEGSERVE_TOKEN or NEGSERVE_TOKEN_FILE)",
        reason=f"CREDENTIALS_{what}",
        key=_FIELD,
        expected="Bearer TOKEN",
    )
