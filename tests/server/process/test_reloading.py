"""SIGHUP reads files again, without effect on calls."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.support.certificates import Authority
from tests.support.server_process import ServerProcess, server_process

OLD, NEW = "old-0123456789abcdef", "new-0123456789abcdef"


def wait_for(happens: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.05)


def hang_up(server: ServerProcess, log: Path) -> str:
    """Send SIGHUP, and return the server's log until it has read all files."""
    before = len(log.read_text())
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP: read again" in log.read_text()[before:])
    return log.read_text()[before:]


def shown_certificate(server: ServerProcess) -> bytes:
    host, _, port = server.target.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=30).encode()


def test_certificates_tokens_and_level_are_read_again(tmp_path: Path):
    cert, key, tokens, level, log = (
        tmp_path / name for name in ("cert", "key", "tokens", "level", "log")
    )
    authority = Authority(tmp_path / "authority")

    def renew() -> bytes:
        issued = [Path(path) for path in authority.issue("127.0.0.1")]
        for source, place in zip(issued, (cert, key), strict=True):
            source.replace(place)
        return cert.read_bytes()

    first = renew()
    tokens.write_text(OLD)
    level.write_text("info")
    options = ("--tls-cert", str(cert), "--tls-key", str(key), "--token-file", str(tokens))
    listen = ("127.0.0.1:0", "localhost:0")
    with server_process(*options, "--log-level", str(level), listen=listen, log=log) as server:
        credentials = grpc.ssl_channel_credentials(Path(authority.ca).read_bytes())
        with grpc.secure_channel(server.target, credentials) as channel:
            stub = SamplerServiceStub(channel)

            def ask(token: str) -> object:
                metadata = (("authorization", f"Bearer {token}"),)
                request = pb.GetDatasetRequest(dataset="world")
                return stub.GetDataset(request, metadata=metadata, timeout=60)

            ask(OLD)
            assert shown_certificate(server) == first
            second = renew()
            tokens.write_text(NEW)
            level.write_text("debug")
            said = hang_up(server, log)
            assert "read again: log level, file of tokens, certificate" in said
            assert shown_certificate(server) == second != first
            ask(NEW)  # over the connection from before
            with pytest.raises(grpc.RpcError) as caught:
                ask(OLD)
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED

            cert.write_text("nothing")
            tokens.write_text("")
            level.write_text("loud")
            said = hang_up(server, log)
            assert len(re.findall("SIGHUP: the .* stays as it was", said)) == 3
            assert shown_certificate(server) == second
            ask(NEW)
        assert server.terminate() == 0
    for secret in (OLD, NEW):
        assert secret not in log.read_text()


def test_the_level_changes(tmp_path: Path):
    level, log = tmp_path / "level", tmp_path / "log"
    level.write_text("error")
    with server_process("--log-level", str(level), log=log) as server:
        assert log.read_text() == ""
        level.write_text("info")
        hang_up(server, log)
        assert server.terminate() == 0
        assert "stopped" in log.read_text()


def test_streams_go_on_and_loading_too(tmp_path: Path):
    """SIGHUP comes while the server loads, and while it serves."""
    graph, log = tmp_path / "graph", tmp_path / "log"
    graph.mkdir()
    os.mkfifo(graph / "train.txt")
    command = [sys.executable, "-m", "negserve_server.cli", "serve", "--listen", "127.0.0.1:0"]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [*command, "--dataset", "world", "--dataset", f"slow={graph}"],
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdout is not None
    try:
        wait_for(lambda: "dataset world" in log.read_text())
        process.send_signal(signal.SIGHUP)
        (graph / "train.txt").write_text("a\tr\tb\nb\tr\tc\n")
        target = process.stdout.readline().removeprefix("listening on ").strip()
        wait_for(lambda: "SIGHUP: read again" in log.read_text())
        with grpc.insecure_channel(target) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            process.send_signal(signal.SIGHUP)
            wait_for(lambda: log.read_text().count("SIGHUP: read again") == 2)
            process.terminate()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0])
def test_a_start_continues_after_sighup(seconds: float, tmp_path: Path):
    """SIGHUP comes during the imports, or soon after; Python itself needs about 0.1 s to start."""
    program = (
        "import os, signal, sys, threading\n"
        "from negserve_server.process.command import ending_at_once\n"
        "with ending_at_once():\n"
        f"    threading.Timer({seconds}, os.kill, (os.getpid(), signal.SIGHUP)).start()\n"
        "    import negserve_server.cli as cli\n"
        "sys.argv = ['negserve-server', 'serve', '--listen', '127.0.0.1:0']\n"
        "cli.main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert "listening on" in process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_server_at_a_terminal_ends_in_order_when_that_hangs_up(tmp_path: Path, is_kept: bool):
    log = tmp_path / "log"
    command = f"exec {sys.executable} -m negserve_server.cli serve --listen 127.0.0.1:0 2> {log}"
    pid, terminal = pty.fork()
    if pid == 0:
        # As nohup does; or not, even if the tests run under it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN if is_kept else signal.SIG_DFL)
        os.execvp("sh", ["sh", "-c", command])
    try:
        output = b""
        while b"listening on" not in output:
            output += os.read(terminal, 1000)
        os.close(terminal)
        if is_kept:
            wait_for(lambda: "SIGHUP: read again" in log.read_text())
            os.kill(pid, signal.SIGTERM)
        wait_for(lambda: "stopped" in log.read_text())
        assert ("the terminal has hung up" in log.read_text()) != is_kept
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
