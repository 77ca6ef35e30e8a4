"""Errors of the client, by who must act.

    NegserveError
    ├── RequestError                  the calling program must send something else
    │   ├── InvalidRequestError (ValueError)      an id, shape, width or option is not legal
    │   ├── LimitExceededError (ValueError)       more than the server answers in one message
    │   ├── UnknownDatasetError (LookupError)     no dataset of that name
    │   ├── FingerprintMismatchError              that name holds another graph
    │   └── ManifestMismatchError                 candidates are not those of their manifest
    ├── ServiceError                  the operator must act, or the caller tries later
    │   ├── UnavailableError (ConnectionError)    no server answers, it shuts down, or what is on
    │   │                                         the way to it, a proxy for one, ended the call
    │   ├── StalledError (TimeoutError)           a server is there, but the deadline passed
    │   ├── OverloadedError                       the server has as many streams as it takes, or
    │   │                                         gives this caller no more negatives at present
    │   ├── InvalidAnswerError                    what a server answered can't be true
    │   ├── NotAllowedError (PermissionError)     the server's operator does not allow it, or not
    │   │                                         with this token
    │   ├── StorageFailedError                    the server can't write a published graph down
    │   ├── ChecksumError                         what arrived is not what was sent
    │   └── ServerFaultError                      the server itself failed; its log says why
    ├── CredentialsError (PermissionError)        who runs the process must give its environment
    │                                 others: docs/operations.md, Tokens and TLS
    ├── LocalStorageError (OSError)   this machine's disk can't take a snapshot or another file
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


class ManifestMismatchError(RequestError):
    """The candidates of an evaluation set are not those that its manifest states."""


class ServiceError(NegserveError):
    """The operator must act, or the caller tries later."""


class UnavailableError(ServiceError, ConnectionError):
    """No server answers at the target, it shuts down, or what is on the way ended the call."""


class StalledError(ServiceError, TimeoutError):
    """A server is there, but did not answer before the deadline."""


class OverloadedError(ServiceError):
    """The server has as many open streams as it takes, or the caller has drawn its negatives."""


class InvalidAnswerError(ServiceError):
    """A server answered what can't be true: it, or what is between, is at fault.

    ``metadata`` has ``rpc``, ``field``, ``value`` (what came) and ``limit`` (what is due).
    """


class NotAllowedError(ServiceError, PermissionError):
    """The server's operator does not allow it, or does not serve it in a form that allows it.

    Also if it is the token, or the certificate, that does not permit it: ``metadata`` has
    ``caller``, its name, and ``scope`` or ``value``, what it lacks.
    """


class StorageFailedError(ServiceError):
    """The server can't write a published graph down, as when its disk is full."""


class ChecksumError(ServiceError):
    """What arrived is not what was sent: a network, a proxy or a memory is broken."""


class ServerFaultError(ServiceError):
    """The server failed in a way that it did not foresee; its log says why."""


class CredentialsError(NegserveError, PermissionError):
    """The environment lacks a token or certificate that is good, and safe to send."""


class LocalStorageError(NegserveError, OSError):
    """A snapshot or another file can't be written here: no space, no permission, no folder.

    ``errno`` is the system's, if it is the system that refused.
    """


class ClosedError(NegserveError):
    """The client was closed before the call."""


class MissingLibraryError(ImportError):
    """A required library is not installed; the message names the package to install."""
