"""Tokens and TLS of the client, from environment variables.

    NEGSERVE_TOKEN        the token of each call
    NEGSERVE_TOKEN_FILE   or a file with it, in the first line that is neither blank nor begins with
                          ``#``; read again for each call, so that tokens can be exchanged
    NEGSERVE_CA_FILE      TLS; certificates (PEM) of the authorities that sign servers' certificates
    NEGSERVE_TLS=1        TLS; with the public authorities, as gRPC lists them, or the file that
                          GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names
    NEGSERVE_CERT_FILE    TLS; the client's certificate (PEM) and
    NEGSERVE_KEY_FILE     its private key

None of them is a parameter, which could be logged, and none is pickled: each process reads its own
environment. An empty variable counts as not set. Unix sockets have no TLS.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc

from negserve._transport.targets import is_on_this_machine, is_unix
from negserve._transport.tracing import traced
from negserve.errors import CredentialsError
from negserve.types.checks.pem import check_authorities, check_certificate


def open_channel(
    library: Any,
    target: str,
    options: Sequence[tuple[str, str | int]],
    token_file: str | None = None,
) -> Any:
    """Open a channel with the credentials of the environment.

    :param library: :mod:`grpc` or :mod:`grpc.aio`
    :param token_file: a file with the token, of a command's option; None for the environment's
    :raises CredentialsError: if variables contradict each other, a file can't be used, or a token
        would cross the network in plain text
    """
    token = _token() if token_file is None else _TokenFile("--token-file ", token_file)
    tls = None if is_unix(target) else _tls()
    if tls is not None:
        channel = library.secure_channel(target, tls, options=options)
    else:
        if token is not None:
            if not is_on_this_machine(target):
                raise CredentialsError(
                    f"{target}: a token would cross the network in plain text; set "
                    f"NEGSERVE_CA_FILE to the authority of the server's certificate, or "
                    f"NEGSERVE_TLS=1 for a public one, or unset the token",
                    target=target,
                )
            # Not over a proxy of the environment, which may be anywhere.
            options = (*options, ("grpc.enable_http_proxy", 0))
        channel = library.insecure_channel(target, options=options)
    channel = traced(channel, target)
    return channel if token is None else _TokenChannel(channel, token)


class _TokenChannel:
    """A channel of :mod:`grpc` or :mod:`grpc.aio` whose calls have a token.

    gRPC's own call credentials need TLS, also within a machine, and its interceptors for asyncio
    add a task to each stream.
    """

    def __init__(self, channel: Any, token: Callable[[], str]) -> None:
        self._channel = channel
        self._token = token
        self.close = channel.close

    def __getattr__(self, name: str) -> Any:
        """Wrap a factory of methods, such as ``unary_stream``."""
        make = getattr(self._channel, name)

        def make_with_token(*args: Any, **kwargs: Any) -> _TokenMethod:
            return _TokenMethod(make(*args, **kwargs), self._token)

        return make_with_token


class _TokenMethod:
    """A method whose calls have a token."""

    def __init__(self, method: Any, token: Callable[[], str]) -> None:
        self._method = method
        self._token = token

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(*args, metadata=self._metadata(), **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """Start a call that can be cancelled; with :mod:`grpc` only."""
        return self._method.future(*args, metadata=self._metadata(), **kwargs)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token()}"),)


class _TokenFile:
    """Reads the token of a file for each call.

    :param given_by: what names the file, before its path in errors
    """

    def __init__(self, given_by: str, path: str) -> None:
        self._given_by = given_by
        self._path = path
        self._token = _read_token(given_by, path)

    def __call__(self) -> str:
        # While the file is being written, the token before is used; the server refuses it once it
        # is no longer valid.
        with suppress(CredentialsError):
            self._token = _read_token(self._given_by, self._path)
        return self._token


def _token() -> Callable[[], str] | None:
    """Return a function that returns the token of a call; None without a token."""
    token, path = _variable("NEGSERVE_TOKEN"), _variable("NEGSERVE_TOKEN_FILE")
    if token and path:
        raise CredentialsError("NEGSERVE_TOKEN and NEGSERVE_TOKEN_FILE are set; set one of them")
    if path:
        return _TokenFile("NEGSERVE_TOKEN_FILE=", path)
    if token:
        checked = _checked(token.strip(), "NEGSERVE_TOKEN")
        return lambda: checked
    return None


def _read_token(given_by: str, path: str) -> str:
    for line in _read(given_by, path).decode("latin-1").splitlines():
        token = line.strip()
        if token and not token.startswith("#"):
            return _checked(token, f"{given_by}{path}")
    raise CredentialsError(f"{given_by}{path} holds no token; give one in a line")


def _checked(token: str, source: str) -> str:
    # gRPC would refuse it, too, but with the token in the message.
    if not all("!" <= character <= "~" for character in token):
        raise CredentialsError(
            f"{source} has a character that is not printable ASCII, or a blank; give the token as "
            f"the server's operator has it"
        )
    return token


def _tls() -> grpc.ChannelCredentials | None:
    ca = _variable("NEGSERVE_CA_FILE")
    cert, key = _variable("NEGSERVE_CERT_FILE"), _variable("NEGSERVE_KEY_FILE")
    public = _variable("NEGSERVE_TLS")
    if public not in {"", "1"}:
        raise CredentialsError(f"NEGSERVE_TLS={public}; set it to 1, or not at all")
    if bool(cert) != bool(key):
        raise CredentialsError(
            "of NEGSERVE_CERT_FILE and NEGSERVE_KEY_FILE one is set; set both, or neither"
        )
    if not (ca or cert or public):
        return None
    roots = private_key = chain = None
    if ca:
        roots = _read("NEGSERVE_CA_FILE=", ca)
        try:
            check_authorities(ca)
        except ValueError as error:
            raise CredentialsError(f"NEGSERVE_CA_FILE={ca}: {error}") from error
    if cert:
        chain, private_key = _read("NEGSERVE_CERT_FILE=", cert), _read("NEGSERVE_KEY_FILE=", key)
        try:
            check_certificate(cert, key)
        except ValueError as error:
            raise CredentialsError(
                f"NEGSERVE_CERT_FILE={cert} and NEGSERVE_KEY_FILE={key}: {error}"
            ) from error
    return grpc.ssl_channel_credentials(roots, private_key, chain)


def _variable(name: str) -> str:
    return os.environ.get(name, "")


def _read(given_by: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CredentialsError(f"{given_by}{path} can't be read: {error.strerror}") from error
