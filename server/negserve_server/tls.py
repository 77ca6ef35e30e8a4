"""TLS of the TCP addresses: files of an operator, checked before anybody connects."""

from __future__ import annotations

import ssl
from pathlib import Path

import grpc

from negserve_server.errors import MalformedFile


class Certificates:
    """What the server shows of itself, and whom it trusts; read from files, all PEM.

    :param cert: the server's certificate, and those in between up to the authority's
    :param key: its private key, not encrypted
    :param client_ca: authorities of clients, which then must show a certificate; None for TLS
        that anybody may use
    :raises MalformedFile: naming the file, if gRPC could not use it
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._files = cert, key, client_ca
        self._configuration = _read_all(*self._files)

    def read(self) -> None:
        """Read the files again, for connections that come from now on.

        :raises MalformedFile: as at first; what was read before stays then
        """
        self._configuration = _read_all(*self._files)

    def credentials(self) -> grpc.ServerCredentials:
        """Give what an address needs; each its own, as gRPC remembers what it has told one."""
        given = self._configuration

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            if self._configuration is given:
                return None
            given = self._configuration
            return given

        return grpc.dynamic_ssl_server_credentials(
            given,
            newer,  # type: ignore[arg-type]  # gRPC's own documentation has None for no change
            require_client_authentication=self._files[2] is not None,
        )


def _read_all(cert: Path, key: Path, client_ca: Path | None) -> grpc.ServerCertificateConfiguration:
    cert_chain, private_key = _read(cert), _read(key)
    roots = None if client_ca is None else _read(client_ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise MalformedFile(
            f"{cert}, {key}", None, f"no certificate in PEM with its private key: {error}"
        ) from error
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:
            raise MalformedFile(client_ca, None, f"no certificates in PEM: {error}") from error
    return grpc.ssl_server_certificate_configuration([(private_key, cert_chain)], roots)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MalformedFile(path, None, f"can't be read: {error.strerror}") from error


def _no_password() -> str:
    raise ValueError("the private key is encrypted; give one that is not")
