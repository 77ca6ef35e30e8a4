"""Authentication: refuses calls without a valid token, except health checks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc

from negserve_server.admission.refused_calls import RefusedCalls
from negserve_server.admission.status import refuse
from negserve_server.admission.tokens import Tokens
from negserve_server.errors import Refusal

_FIELD = "authorization"
_SCHEME = "bearer"
#: Needs no token: probes have none, and learn only that the server is there. Watches stay open, and
#: need one.
_PUBLIC_METHOD = "/grpc.health.v1.Health/Check"

if TYPE_CHECKING:
    _Handler = grpc.RpcMethodHandler[Any, Any]  # subscriptable for type checkers only


class Authentication(grpc.aio.ServerInterceptor):
    """Accepts calls with ``authorization: Bearer TOKEN`` in their metadata.

    :param tokens: the valid tokens
    """

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._refused = RefusedCalls()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Give the handler of a call, or one that refuses it."""
        if handler_call_details.method != _PUBLIC_METHOD:
            error = self._check(handler_call_details.invocation_metadata)
            if error is not None:
                return self._refusing(error)
        return await continuation(handler_call_details)

    def _refusing(self, error: Refusal) -> _Handler:
        async def handle(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            self._refused.note(context.peer(), error.reason)
            await refuse(context, error)

        # A status without a message answers every kind of method.
        return grpc.stream_stream_rpc_method_handler(handle)

    def _check(self, metadata: Any) -> Refusal | None:
        given = dict(metadata).get(_FIELD)
        if given is None:
            return _unauthenticated("MISSING", "missing token")
        scheme, _, token = str(given).partition(" ")
        if scheme.lower() != _SCHEME or not self._tokens.has(token.strip().encode()):
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
