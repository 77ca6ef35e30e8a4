"""TLS of the TCP addresses: certificate files, checked before a client connects."""

from __future__ import annotations

from pathlib import Path

import grpc

from negserve.types.checks.pem import check_authorities, check_certificate
from negserve_server.errors import MalformedFile


class Certificates:
    """The server's certificate and the authorities that it trusts; read from files in PEM.

    :param cert: the server's certificate, with its chain
    :param key: its private key, not encrypted
    :param client_ca: authorities of client certificates, which clients must then present; None
        to ask for none
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
        """Make the credentials of an address; each needs its own, as gRPC keeps state in them."""
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
    try:
        check_certificate(cert, key)
    except ValueError as error:
        raise MalformedFile(f"{cert}, {key}", None, str(error)) from error
    if client_ca is not None:
        try:
            check_authorities(client_ca)
        except ValueError as error:
            raise MalformedFile(client_ca, None, str(error)) from error
    return grpc.ssl_server_certificate_configuration([(private_key, cert_chain)], roots)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MalformedFile(path, None, f"can't be read: {error.strerror}") from error
