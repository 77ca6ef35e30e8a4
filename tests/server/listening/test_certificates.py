"""Certificates that change while a server runs, as users of its port see it."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.certificates import Authority
from tests.support.repositories import wait_for
from tests.support.server_process import ServerProcess, server_process


def read(path: str) -> bytes:
    return Path(path).read_bytes()


def is_served(server: ServerProcess, ca: str, client: tuple[str, str] | None = None) -> bool:
    """Tell whether a new connection is taken, of a client that trusts an authority."""
    cert, key = (None, None) if client is None else map(read, client)
    credentials = grpc.ssl_channel_credentials(read(ca), key, cert)
    options = (("grpc.use_local_subchannel_pool", 1),)
    with grpc.secure_channel(server.target, credentials, options) as channel:
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
    return True


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Authority]:
    return Authority(tmp_path / "old"), Authority(tmp_path / "new")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_renewed_certificate_is_taken_without_a_restart(
    tmp_path: Path, authorities: tuple[Authority, Authority], workers: str
):
    old, new = authorities
    cert, key, log = (tmp_path / name for name in ("cert.pem", "key.pem", "log"))
    for source, place in zip(old.issue("127.0.0.1"), (cert, key), strict=True):
        shutil.copy(source, place)
    with server_process(
        "--tls-cert", str(cert), "--tls-key", str(key), "--workers", workers, log=log
    ) as server:
        assert is_served(server, old.ca)
        assert not is_served(server, new.ca)
        for source, place in zip(new.issue("127.0.0.1"), (cert, key), strict=True):
            shutil.copy(source, place)
        wait_for(lambda: is_served(server, new.ca))
        # Each worker looks when a connection comes to it, so connect until all have.
        wait_for(
            lambda: (
                not is_served(server, old.ca)
                and log.read_text().count("certificate read again") == int(workers)
            )
        )
        cert.write_text("no certificate")
        # Each new connection makes the server look, once a second.
        wait_for(
            lambda: is_served(server, new.ca) and "previous certificate stays" in log.read_text()
        )
        assert is_served(server, new.ca)


@pytest.mark.parametrize("is_told", [False, True], ids=["found", "SIGHUP"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_renewed_client_authorities_are_taken_without_a_restart(
    tmp_path: Path, authorities: tuple[Authority, Authority], workers: str, is_told: bool
):
    old, new = authorities
    cert, key = old.issue("127.0.0.1")
    trusted, log = tmp_path / "trusted.pem", tmp_path / "log"
    shutil.copy(old.ca, trusted)
    before, after = old.issue("client"), new.issue("client")
    with server_process(
        "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", str(trusted),
        "--workers", workers, log=log,
    ) as server:  # fmt: skip
        assert is_served(server, old.ca, before)
        assert not is_served(server, old.ca, after)
        assert not is_served(server, old.ca)
        shutil.copy(new.ca, trusted)
        if is_told:
            server.process.send_signal(signal.SIGHUP)
            # Each process says so, that of the workers' parent too, before any connection comes.
            num = 1 if workers == "1" else 3
            told = re.compile("SIGHUP: read again: .*certificate")
            wait_for(lambda: len(told.findall(log.read_text())) == num)
        else:
            wait_for(lambda: is_served(server, old.ca, after))
            # Each worker looks when a connection comes to it, so connect until all have.
            wait_for(
                lambda: (
                    not is_served(server, old.ca, before)
                    and log.read_text().count("certificate read again") == int(workers)
                )
            )
        for _ in range(4 * int(workers)):
            assert is_served(server, old.ca, after)
            assert not is_served(server, old.ca, before)
