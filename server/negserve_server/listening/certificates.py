"""TLS of the TCP addresses: certificate files, checked before a client connects."""

from __future__ import annotations

import logging
from pathlib import Path

import grpc

from negserve.types.checks.pem import check_authorities, check_certificate
from negserve_server.access.watched_files import WatchedFiles
from negserve_server.errors import MalformedFile

logger = logging.getLogger(__name__)


class Certificates:
    """The server's certificate and the authorities that it trusts; read from files in PEM.

    A change of the files takes effect within a second or so, for connections that come from then
    on. If they can't be used then, what was read before stays, and an error is logged.

    :param cert: the server's certificate, with its chain
    :param key: its private key, not encrypted
    :param client_ca: authorities of client certificates, which clients must then present; None
        to ask for none
    :raises MalformedFile: naming the file, if gRPC could not use it
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._files = cert, key, client_ca
        self._watched = WatchedFiles([each for each in self._files if each is not None])
        self._configuration = _read_all(*self._files)

    def read(self) -> None:
        """Read the files again, for connections that come from now on.

        :raises MalformedFile: as at first; what was read before stays then
        """
        self._watched.note()
        self._configuration = _read_all(*self._files)

    def _read_if_changed(self) -> None:
        """Read changed files; called by a thread of gRPC before each handshake."""
        if not self._watched.have_changed():
            return
        try:
            self._configuration = _read_all(*self._files)
        except MalformedFile as error:
            # Certificate and key are two files: between their changes they do not fit together.
            logger.error("the previous certificate stays: %s", error)
        else:
            logger.info("certificate read again from %s", self._files[0])

    def credentials(self) -> grpc.ServerCredentials:
        """Make the credentials of an address; each needs its own, as gRPC keeps state in them."""
        given = self._configuration

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal given
            self._read_if_changed()
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
