"""Errors of the client, by who must act.

    NegserveError
    ├── RequestError                  the calling program must send something else
    │   ├── InvalidRequestError (ValueError)      an id, shape, width or option is not legal
    │   ├── LimitExceededError (ValueError)       more than the server answers in one message
    │   ├── UnknownDatasetError (LookupError)     no dataset of that name
    │   └── FingerprintMismatchError              that name holds another graph
    ├── ServiceError                  the operator must act, or the caller tries later
    │   ├── UnavailableError (ConnectionError)    no server answers, it shuts down, or what is on
    │   │                                         the way to it, a proxy for one, ended the call
    │   ├── StalledError (TimeoutError)           a server is there, but the deadline passed
    │   ├── OverloadedError                       the server has as many streams as it takes
    │   ├── InvalidAnswerError                    what a server answered can't be true
    │   ├── NotAllowedError (PermissionError)     the server's operator does not allow it
    │   ├── StorageFailedError                    the server can't write a published graph down
    │   ├── ChecksumError                         what arrived is not what was sent
    │   └── ServerFaultError                      the server itself failed; its log says why
    ├── CredentialsError (PermissionError)        who runs the process must give its environment
    │                                 others: see negserve._transport.credentials
    └── ClosedError                   the client was closed before the call

The client itself tries again, as long as its patience lasts and on another replica if there are
several, after the first four of ServiceError: what they tell of passes, or another server answers
better. It gives up at once when each replica has answered three times what can't be true. After
other errors it never tries again.

``reason`` and ``metadata`` are those of the server's ``google.rpc.ErrorInfo``; the proto
(``errors.proto``) lists them. A status without one was not given by a server of negserve, but by
gRPC or a proxy on the way. Whatever its code, it is one of the errors that pass, since the same
request may be answered elsewhere or later, and with the same bytes. Only a message that is too
large for gRPC stays so: LimitExceededError.
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve._terminal.printable import printable

#: Of every ErrorInfo of a server of negserve.
_DOMAIN = "negserve.dev"
#: Characters of a message: what callers gave is repeated in it, an array of a million ids for one.
_MOST_CHARACTERS = 2000


class NegserveError(Exception):
    """Base of all errors of this package.

    :ivar reason: name of the server's reason, empty if the error arose on the client
    :ivar metadata: the offending value, the limit, and what else the reason documents
    :ivar target: address of the server it is about, empty if the error arose on the client
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        target: str = "",
    ) -> None:
        super().__init__(_without_middle(message))
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.target = target


def _without_middle(text: str) -> str:
    half = _MOST_CHARACTERS // 2
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:half]} ... {text[-half:]}"


class RequestError(NegserveError):
    """The calling program must send something else."""


class InvalidRequestError(RequestError, ValueError):
    """An id, a shape, a width or an option is not legal."""


class LimitExceededError(RequestError, ValueError):
    """More was asked for than the server answers in one message."""


class UnknownDatasetError(RequestError, LookupError):
    """The server holds no dataset of that name."""


class FingerprintMismatchError(RequestError):
    """The dataset of that name is another graph than the one expected."""


class ServiceError(NegserveError):
    """The operator must act, or the caller tries later."""


class UnavailableError(ServiceError, ConnectionError):
    """No server answers at the target, it shuts down, or what is on the way ended the call."""


class StalledError(ServiceError, TimeoutError):
    """A server is there, but did not answer before the deadline."""


class OverloadedError(ServiceError):
    """The server has as many open streams as it takes."""


class InvalidAnswerError(ServiceError):
    """A server answered what can't be true: it, or what is between, is at fault.

    ``metadata`` has ``rpc``, ``field``, ``value`` (what came) and ``limit`` (what is due).
    """


class NotAllowedError(ServiceError, PermissionError):
    """The server's operator does not allow it."""


class StorageFailedError(ServiceError):
    """The server can't write a published graph down, as when its disk is full."""


class ChecksumError(ServiceError):
    """What arrived is not what was sent: a network, a proxy or a memory is broken."""


class ServerFaultError(ServiceError):
    """The server failed in a way that it did not foresee; its log says why."""


class CredentialsError(NegserveError, PermissionError):
    """The environment lacks a token or certificate that is good, and safe to send."""


class ClosedError(NegserveError):
    """The client was closed before the call."""


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
    """Turn grpc's error into one of this module's.

    :param target: the server's address, named in the message
    """
    code, details = error.code(), printable(error.details() or "")
    info, passes = _error_info(error)
    if info is None:
        return _from_the_way(code, details, target)
    error_class = _BY_REASON.get(info.reason) or (
        UnavailableError if passes else _BY_CODE.get(code, ServerFaultError)
    )
    return error_class(
        f"{target}: {details}", reason=info.reason, metadata=dict(info.metadata), target=target
    )


def _error_info(error: grpc.RpcError) -> tuple[error_details_pb2.ErrorInfo | None, bool]:
    """Give what a server of negserve said, None if the status is not one's, and if it passes."""
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # somebody on the way changed half of it
        return None, False
    details = status.details if status is not None else ()
    passes = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
    for detail in details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info) and info.domain == _DOMAIN:
            return info, passes
    return None, False


def _from_the_way(code: grpc.StatusCode, details: str, target: str) -> NegserveError:
    """Give what it means that gRPC or a proxy ended a call."""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in details:
        return LimitExceededError(
            f"{target}: gRPC takes no such message: {details}; send, or ask for, less at once (an "
            f"answer is too large only if the server has a large --max-negatives-per-message)",
            target=target,
        )
    if details.startswith("failed to connect") and details.endswith("Socket closed"):
        # That is all that gRPC says when a server with TLS ends what is not its greeting.
        details += "; if the server has TLS, see negserve._transport.credentials for what it needs"
    if code is not grpc.StatusCode.UNAVAILABLE or "http2 header with status" in details:
        details = (
            f"the network, or a proxy on the way, ended the call: {details or 'no words'} "
            f"({code.name}){_HINTS.get(code, '')}"
        )
    error_class = StalledError if code is grpc.StatusCode.DEADLINE_EXCEEDED else UnavailableError
    return error_class(f"{target}: {details}", target=target)
