"""Errors as gRPC statuses with a ``google.rpc.ErrorInfo``."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from negserve.errors import InvalidRequestError
from negserve.types.checks.text import MOST_CHARACTERS, shortened
from negserve_server.errors import Refusal

logger = logging.getLogger(__name__)

DOMAIN = "negserve.dev"
DETAILS_KEY = "grpc-status-details-bin"

#: Bytes of a status as it travels: gRPC's clients take headers of 8 KiB, some proxies of 4 KiB, and
#: drop what is larger. The message is there twice, in a header of its own and in the details.
MAX_STATUS_BYTES = 4096
_MAX_MESSAGE_BYTES = 1000
#: Characters of a value in the details, fewer where they do not fit. A limit, which consists of
#: names, is there whole or not at all.
_MOST_CHARACTERS = (MOST_CHARACTERS, MOST_CHARACTERS // 2, MOST_CHARACTERS // 4, 20)
_MAX_DETAILS_BYTES = (MAX_STATUS_BYTES - _MAX_MESSAGE_BYTES) * 3 // 4  # base64


class RelayedStatus(Exception):
    """A call that was passed on to another process has ended with a status, which is its own."""

    def __init__(
        self, code: grpc.StatusCode, message: str, metadata: tuple[tuple[str, bytes], ...]
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.metadata = metadata


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
    "SNAPSHOT_UNUSABLE": grpc.StatusCode.FAILED_PRECONDITION,
    "DATASET_FIXED": grpc.StatusCode.FAILED_PRECONDITION,
    "PULL_NOT_ALLOWED": grpc.StatusCode.PERMISSION_DENIED,
    "NO_SNAPSHOT": grpc.StatusCode.FAILED_PRECONDITION,
    "NOT_PERMITTED": grpc.StatusCode.PERMISSION_DENIED,
    "QUOTA_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED,
}

#: Reasons of what passes, and after how many seconds it may have; other reasons are final.
#: A refusal may know better.
RETRY_SECONDS = {
    "DRAINING": 0.5,
    "TOO_MANY_STREAMS": 0.5,
    "STREAM_IDLE": 0.0,
    "QUOTA_EXCEEDED": 1.0,
}


def message_of(error: Refusal | InvalidRequestError) -> str:
    """Give the message of an error, shortened in the middle until it fits the header."""
    text = shortened(str(error), _MAX_MESSAGE_BYTES)
    while (num_bytes := _header_bytes(text)) > _MAX_MESSAGE_BYTES:
        text = shortened(text, len(text) * _MAX_MESSAGE_BYTES // num_bytes)
    return text


def _header_bytes(text: str) -> int:
    """Count the bytes of a text in a header, which has all but plain ASCII as %XX."""
    encoded = text.encode("utf-8", "backslashreplace")
    return sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in encoded)


def encode_status(error: Refusal | InvalidRequestError) -> bytes:
    """Encode an error as the ``google.rpc.Status`` that travels in the trailers."""
    message, given = message_of(error), error.metadata.get("limit", "")
    forms = [*((given, most) for most in _MOST_CHARACTERS), ("", _MOST_CHARACTERS[-1])]
    encoded = b""
    for limit, most in forms:
        encoded = _encode(error, message, limit, most)
        if len(encoded) <= _MAX_DETAILS_BYTES:
            break
    return encoded


def _encode(error: Refusal | InvalidRequestError, message: str, limit: str, most: int) -> bytes:
    info = any_pb2.Any()
    metadata = {
        key: limit if key == "limit" else shortened(value, most)
        for key, value in error.metadata.items()
    }
    info.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    details = [info]
    seconds = error.retry_seconds if isinstance(error, Refusal) else None
    if seconds is None:
        seconds = RETRY_SECONDS.get(error.reason)
    if seconds is not None:
        retry = any_pb2.Any()
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(1000 * seconds))
        retry.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        details.append(retry)
    code: int = STATUS_OF_REASON[error.reason].value[0]
    status = status_pb2.Status(code=code, message=message, details=details)
    encoded: bytes = status.SerializeToString()
    return encoded


def outcome_of(error: BaseException) -> tuple[str, str]:
    """Give the name of the status with which :func:`refuse` ends a call, and its reason."""
    if isinstance(error, Refusal | InvalidRequestError):
        return STATUS_OF_REASON[error.reason].name, error.reason
    if isinstance(error, RelayedStatus):
        return error.code.name, ""
    return grpc.StatusCode.INTERNAL.name, "INTERNAL_FAULT"


async def refuse(context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> NoReturn:
    """End a call with the status of an error; an unforeseen one is logged and INTERNAL.

    A call without a status would be open as long as its client has patience, so that this is sent
    whatever the error is. If it can't be, the client is gone.

    :raises asyncio.CancelledError: if the client is gone
    """
    if isinstance(error, Refusal | InvalidRequestError):
        await _abort(context, error, error)
    if isinstance(error, RelayedStatus):
        await _send(context, error.code, error.message, error.metadata, error)
    kind = type(error).__name__
    fault = Refusal(f"unforeseen {kind}; see the server's log", reason="INTERNAL_FAULT", value=kind)
    if not (context.done() or isinstance(error, grpc.aio.InternalError)):
        logger.error("unforeseen error", exc_info=error)
        await _abort(context, fault, error)
    # Most often this is a write whose client is gone: then nobody needs to look into it.
    try:
        await _abort(context, fault, error)
    except grpc.aio.AbortError:
        logger.error("unforeseen error", exc_info=error)
        raise


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any],
    error: Refusal | InvalidRequestError,
    cause: BaseException,
) -> NoReturn:
    metadata = ((DETAILS_KEY, encode_status(error)),)
    await _send(context, STATUS_OF_REASON[error.reason], message_of(error), metadata, cause)


async def _send(
    context: grpc.aio.ServicerContext[Any, Any],
    code: grpc.StatusCode,
    message: str,
    metadata: tuple[tuple[str, bytes], ...],
    cause: BaseException,
) -> NoReturn:
    if context.done():
        _leave(cause)
    try:
        await context.abort(code, message, metadata)
    except grpc.aio.InternalError:
        _leave(cause)
    raise AssertionError("abort returned")


def _leave(cause: BaseException) -> NoReturn:
    logger.info("a call ended under way, its client is gone: %s", cause)
    raise asyncio.CancelledError from cause
