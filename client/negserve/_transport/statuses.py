"""Errors from statuses: what it means that a server, gRPC or a proxy ended a call."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve.errors import (
    ChecksumError,
    CredentialsError,
    FingerprintMismatchError,
    InvalidRequestError,
    LimitExceededError,
    NegserveError,
    NotAllowedError,
    OverloadedError,
    ServerFaultError,
    StalledError,
    StorageFailedError,
    UnavailableError,
    UnknownDatasetError,
)
from negserve.types.text import printable

#: The domain of every ErrorInfo of a negserve server.
_DOMAIN = "negserve.dev"
_BY_REASON: Mapping[str, type[NegserveError]] = {
    "UNKNOWN_DATASET": UnknownDatasetError,
    "FINGERPRINT_MISMATCH": FingerprintMismatchError,
    "LIMIT_EXCEEDED": LimitExceededError,
    "TOO_MANY_STREAMS": OverloadedError,
    "STORAGE_FAILED": StorageFailedError,
    "STREAM_IDLE": UnavailableError,  # the stream is gone, the server is not: open another
    # Others that come with a google.rpc.RetryInfo pass, too, also those of a newer server.
}
#: Of a status with a reason, if that alone does not decide; all others are faults.
_BY_CODE: Mapping[grpc.StatusCode, type[NegserveError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: UnknownDatasetError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: LimitExceededError,
    grpc.StatusCode.PERMISSION_DENIED: NotAllowedError,
    grpc.StatusCode.UNAUTHENTICATED: CredentialsError,
    grpc.StatusCode.DATA_LOSS: ChecksumError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
}
#: What to look for when a status that no server of negserve gave recurs.
_HINTS: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.PERMISSION_DENIED: "; does a proxy forbid it?",
    grpc.StatusCode.UNAUTHENTICATED: "; does a proxy want credentials of its own?",
    grpc.StatusCode.UNIMPLEMENTED: "; is that the address of a server of negserve, as new as this?",
}


def from_rpc_error(error: grpc.RpcError, target: str) -> NegserveError:
    """Turn an error of gRPC into a typed one.

    :param target: the server's address, named in the message
    """
    code, details = error.code(), printable(error.details() or "")
    info, is_temporary = _error_info(error)
    if info is None:
        return _from_transport(code, details, target)
    error_class = _BY_REASON.get(info.reason) or (
        UnavailableError if is_temporary else _BY_CODE.get(code, ServerFaultError)
    )
    return error_class(
        f"{target}: {details}", reason=info.reason, metadata=dict(info.metadata), target=target
    )


def _error_info(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo | None, bool]:
    """Give the ErrorInfo, None if no negserve server sent it, and whether it is temporary."""
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # somebody on the way changed half of it
        return None, False
    details = status.details if status is not None else ()
    is_temporary = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
    for detail in details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == _DOMAIN:
            return info, is_temporary
    return None, False


def _from_transport(code: grpc.StatusCode, details: str, target: str) -> NegserveError:
    """Make the error for a status that gRPC or a proxy sent."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in details:
        return LimitExceededError(
            f"{target}: gRPC takes no such message: {details}; send, or ask for, less at once (an "
            f"answer is too large only if the server has a large --max-negatives-per-message)",
            target=target,
        )
    if details.startswith("failed to connect") and details.endswith("Socket closed"):
        # That is all that gRPC says when a server with TLS ends what is not its greeting.
        details += "; if the server has TLS, see docs/operations.md, Tokens and TLS"
    if code is not grpc.StatusCode.UNAVAILABLE or "http2 header with status" in details:
        details = (
            f"the network, or a proxy on the way, ended the call: {details or 'no words'} "
            f"({code.name}){_HINTS.get(code, '')}"
        )
    error_class = StalledError if code is grpc.StatusCode.DEADLINE_EXCEEDED else UnavailableError
    return error_class(f"{target}: {details}", target=target)
