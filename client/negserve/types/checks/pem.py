"""Checks of certificates and keys in PEM, by the TLS library, before gRPC uses them.

gRPC accepts any bytes, and fails at the handshake without a reason.
"""

from __future__ import annotations

import ssl
from os import PathLike


def check_certificate(cert: str | PathLike[str], key: str | PathLike[str]) -> None:
    """Check a certificate, with its chain, and its private key.

    :raises ValueError: if the files hold no such pair, or the key is encrypted
    """
    try:
        _context().load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ValueError(f"not a certificate in PEM with its private key: {error}") from error


def check_authorities(path: str | PathLike[str]) -> None:
    """Check the certificates of authorities.

    :raises ValueError: if the file holds none
    """
    try:
        _context().load_verify_locations(path)
    except OSError as error:
        raise ValueError(f"no certificates in PEM: {error}") from error


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one that is not")
