"""Typed errors for calls that a server, gRPC or a proxy ended."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve.errors import (
    ChecksumError,
    ClosedError,
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
from negserve.types.checks.text import printable

#: The domain of every ErrorInfo of a negserve server.
_DOMAIN = "negserve.dev"
_BY_REASON: Mapping[str, type[NegserveError]] = {
    "UNKNOWN_DATASET": UnknownDatasetError,
    "FINGERPRINT_MISMATCH": FingerprintMismatchError,
    "LIMIT_EXCEEDED": LimitExceededError,
    "TOO_MANY_STREAMS": OverloadedError,
    "QUOTA_EXCEEDED": OverloadedError,
    "STORAGE_FAILED": StorageFailedError,
    "NO_SNAPSHOT": NotAllowedError,
    "SNAPSHOT_UNUSABLE": ServerFaultError,
    "STREAM_IDLE": UnavailableError,  # the stream is gone, the server is not: open another
    # Reasons with a google.rpc.RetryInfo are temporary, also unknown ones of a newer server.
}
#: For a status whose reason alone does not decide; other codes are faults of the server.
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
#: Hints for statuses without a reason, which no negserve server sent.
_HINTS: Mapping[grpc.StatusCode, str] = {
    grpc.StatusCode.PERMISSION_DENIED: "; does a proxy forbid it?",
    grpc.StatusCode.UNAUTHENTICATED: "; does a proxy want credentials of its own?",
    grpc.StatusCode.UNIMPLEMENTED: "; is that the address of a server of negserve, as new as this?",
}


def from_rpc_error(error: grpc.RpcError, target: str) -> NegserveError:
    """Make the typed error for one of gRPC.

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
    """Return the ErrorInfo, None if no negserve server sent it, and whether it is temporary."""
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # a proxy changed a part of it
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
        # What gRPC says of a server with TLS that refuses a connection in plain text.
        details += "; if the server has TLS, see docs/operations.md, Tokens and TLS"
    if code is not grpc.StatusCode.UNAVAILABLE or "http2 header with status" in details:
        details = (
            f"the network, or a proxy on the way, ended the call: {details or 'no words'} "
            f"({code.name}){_HINTS.get(code, '')}"
        )
    error_class = StalledError if code is grpc.StatusCode.DEADLINE_EXCEEDED else UnavailableError
    return error_class(f"{target}: {details}", target=target)


def closed(target: str) -> ClosedError:
    """Make the error for a call on a closed client."""
    return ClosedError(f"{target}: the client was closed; make another")


def ended(target: str, how: str) -> UnavailableError:
    """Make the error for a call that a replica, or a proxy before it, ended too early."""
    return UnavailableError(f"{target}: the stream was ended {how}", target=target)


def stalled(target: str, seconds: float) -> StalledError:
    """Make the error for a replica that was silent for too long."""
    return StalledError(
        f"{target}: no message for {seconds:.3g} seconds; is the server overloaded, the network "
        f"cut, or the name unknown?",
        target=target,
    )
