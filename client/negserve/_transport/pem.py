"""Files with certificates and keys, checked before gRPC uses them."""

from __future__ import annotations

import ssl
from pathlib import Path


class PemError(ValueError):
    """A file that can't be used.

    :ivar files: the file, or the two that don't fit
    """

    def __init__(self, message: str, *files: Path) -> None:
        super().__init__(message)
        self.files = files


def read_key_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """Read a certificate, with those up to its authority, and its private key.

    :raises PemError: if one can't be read or is not PEM, or they don't belong together
    """
    pair = _read(certificate), _read(key)
    try:
        _context().load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise PemError(
            f"have no certificate in PEM with its private key: {error}", certificate, key
        ) from error
    return pair


def read_authorities(path: Path) -> bytes:
    """Read certificates of authorities.

    :raises PemError: if the file can't be read, or has no certificate in PEM
    """
    authorities = _read(path)
    try:
        _context().load_verify_locations(path)
    except OSError as error:
        raise PemError(f"holds no certificates in PEM: {error}", path) from error
    return authorities


def _context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PemError(f"can't be read: {error.strerror}", path) from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one that is not")
