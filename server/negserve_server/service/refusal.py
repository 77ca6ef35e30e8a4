"""Refusals: engine errors as canonical statuses with a ``google.rpc.ErrorInfo``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from negserve_server.errors import InvalidInput

logger = logging.getLogger(__name__)

DOMAIN = "negserve.dev"
DETAILS_KEY = "grpc-status-details-bin"

#: The status of each reason of ``ErrorReason``; a test walks the enum.
STATUS_OF_REASON = {
    "ENTITY_ID_OUT_OF_RANGE": grpc.StatusCode.INVALID_ARGUMENT,
    "RELATION_ID_OUT_OF_RANGE": grpc.StatusCode.INVALID_ARGUMENT,
    "INVALID_ID_WIDTH": grpc.StatusCode.INVALID_ARGUMENT,
    "SHAPE_MISMATCH": grpc.StatusCode.INVALID_ARGUMENT,
    "STREAM_OUT_OF_ORDER": grpc.StatusCode.FAILED_PRECONDITION,
    "UNKNOWN_DATASET": grpc.StatusCode.NOT_FOUND,
    "FINGERPRINT_MISMATCH": grpc.StatusCode.FAILED_PRECONDITION,
    "INVALID_CONFIGURATION": grpc.StatusCode.INVALID_ARGUMENT,
    "LIMIT_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "TOO_MANY_STREAMS": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "DRAINING": grpc.StatusCode.UNAVAILABLE,
    "STREAM_IDLE": grpc.StatusCode.DEADLINE_EXCEEDED,
    "POSITION_OUT_OF_RANGE": grpc.StatusCode.INVALID_ARGUMENT,
    "MALFORMED_MESSAGE": grpc.StatusCode.INVALID_ARGUMENT,
    "PUBLISH_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
    "GRAPH_TOO_LARGE": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "CHECKSUM_MISMATCH": grpc.StatusCode.DATA_LOSS,
    "CREDENTIALS_MISSING": grpc.StatusCode.UNAUTHENTICATED,
    "CREDENTIALS_INVALID": grpc.StatusCode.UNAUTHENTICATED,
    "INTERNAL_FAULT": grpc.StatusCode.INTERNAL,
    "TOO_MANY_UNANSWERED": grpc.StatusCode.FAILED_PRECONDITION,
    "STORAGE_FAILED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}

#: Reasons of what passes, and after how many seconds it may have; other reasons are final.
RETRY_SECONDS = {"DRAINING": 0.5, "TOO_MANY_STREAMS": 0.5, "STREAM_IDLE": 0.0}


def encode_status(error: InvalidInput) -> bytes:
    """Encode an error as the ``google.rpc.Status`` that travels in the trailers."""
    info = any_pb2.Any()
    info.Pack(
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    )
    details = [info]
    if error.reason in RETRY_SECONDS:
        retry = any_pb2.Any()
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(1000 * RETRY_SECONDS[error.reason]))
        retry.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        details.append(retry)
    code: int = STATUS_OF_REASON[error.reason].value[0]
    status = status_pb2.Status(code=code, message=str(error), details=details)
    encoded: bytes = status.SerializeToString()
    return encoded


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """End a call with the status of an error; an unforeseen one is logged and INTERNAL."""
    if isinstance(error, InvalidInput):
        await _abort(context, error)
    if context.done() or isinstance(error, grpc.aio.InternalError):
        # The client is gone, which a write may know before the context does: it hears no answer,
        # and nobody needs to look into it.
        logger.info("a call ended under way, its client is gone: %s", error)
        raise asyncio.CancelledError from error
    logger.error("unforeseen error", exc_info=error)
    kind = type(error).__name__
    await _abort(
        context,
        InvalidInput(
            f"unforeseen {kind}; see the server's log", reason="INTERNAL_FAULT", value=kind
        ),
    )


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: InvalidInput) -> NoReturn:
    await context.abort(
        STATUS_OF_REASON[error.reason], str(error), ((DETAILS_KEY, encode_status(error)),)
    )
    raise AssertionError("abort returned")
