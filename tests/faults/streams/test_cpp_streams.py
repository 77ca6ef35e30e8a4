"""The C++ client with killed servers, silent networks and cut connections."""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from negserve import Client, EpochConfig, SamplerConfig
from tests.faults.conftest import Servers
from tests.support.graphs import load
from tests.support.programs.cpp_example import (
    epoch_options,
    run,
    sample_of,
    sampler_options,
)
from tests.support.programs.proxies import http_proxy
from tests.support.programs.tcp_proxy import TcpProxy, tcp_proxy
from tests.support.server_process import ServerProcess

#: A server may take a while to start on a busy machine.
PATIENCE = 60


#: 43 MB over the wire, far more than what lies ready between server and client, in batches of
#: 500 KB; 169 MB as triples. Going on, the first batch is not the worker's any more.
LONG = SamplerConfig(num_negs_per_pos=2600, log_q=True, seed=17)
LONG_EPOCH = EpochConfig(batch_size=32, worker=0, num_workers=2)
LONG_OPTIONS = (
    *(*sampler_options(LONG), "--log-q", "/dev/null", "--negatives", "-"),
    *("--patience", PATIENCE, "--timeout", 20),
)


@pytest.fixture(scope="module")
def long_digest(client: Client) -> str:
    sha = hashlib.sha256()
    for batch in client.triples_factory("world").epochs(LONG, LONG_EPOCH):
        sha.update(batch.negative_triples().tobytes())
    return sha.hexdigest()


class Running:
    """A running program; it waits while nobody reads its output."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Path) -> None:
        self._process = process
        self._stderr = stderr
        self._sha = hashlib.sha256()

    def take(self, num_bytes: int | None = None) -> None:
        """Read some bytes of output, or the rest."""
        assert self._process.stdout is not None
        while num_bytes is None or num_bytes > 0:
            data = self._process.stdout.read(min(num_bytes or 1 << 20, 1 << 20))
            if not data:
                assert num_bytes is None, self.stderr()
                return
            self._sha.update(data)
            num_bytes = None if num_bytes is None else num_bytes - len(data)

    def finish(self) -> str:
        """Read the rest, and return the digest of all output."""
        self.take()
        assert self._process.wait(30) == 0, self.stderr()
        return self._sha.hexdigest()

    def stderr(self) -> str:
        return self._stderr.read_text()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=30)


@contextmanager
def running(program: Path, folder: Path, *arguments: object) -> Iterator[Running]:
    path = folder / "stderr"
    with path.open("wb") as stderr:
        process = subprocess.Popen(
            [program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=stderr
        )
        started = Running(process, path)
        try:
            yield started
        finally:
            started.kill()


def long_epoch(program: Path, folder: Path, *targets: str) -> AbstractContextManager[Running]:
    options = (*LONG_OPTIONS, *epoch_options(LONG_EPOCH), "--target", ",".join(targets))
    return running(program, folder, "epoch", "world", *options)


def test_an_epoch_over_a_server_killed_and_another_drained(
    cpp_program: Path, servers: Servers, long_digest: str, tmp_path: Path
):
    server = servers.start()
    with long_epoch(cpp_program, tmp_path, server.target) as epoch:
        epoch.take(1_000_000)
        server.kill()
        server = servers.start(listen=server.target)
        epoch.take(80_000_000)
        num_lost = epoch.stderr().count("retrying after UnavailableError")
        assert num_lost > 0
        assert server.terminate() == 0
        server = servers.start(listen=server.target)
        assert epoch.finish() == long_digest
        assert epoch.stderr().count("retrying after UnavailableError") > num_lost


def test_an_epoch_over_two_replicas(
    cpp_program: Path, servers: Servers, long_digest: str, tmp_path: Path
):
    first, second = servers.start_two()
    with long_epoch(cpp_program, tmp_path, first.target, second.target) as epoch:
        epoch.take(1_000_000)
        first.kill()
        assert epoch.finish() == long_digest
        assert f"retrying after UnavailableError: {first.target}" in epoch.stderr()
        assert second.target not in epoch.stderr()


@pytest.fixture
def proxy(server: ServerProcess) -> Iterator[TcpProxy]:
    with tcp_proxy(server.target) as opened:
        yield opened


def test_an_epoch_over_a_network_gone_silent(
    cpp_program: Path, server: ServerProcess, proxy: TcpProxy, long_digest: str, tmp_path: Path
):
    proxy.silence_after(3_000_000)
    options = (*LONG_OPTIONS, *epoch_options(LONG_EPOCH), "--target", proxy.target)
    with running(cpp_program, tmp_path, "epoch", "world", *options, "--timeout", 2) as epoch:
        epoch.take(2_000_000)
        assert proxy.struck.wait(PATIENCE)
        proxy.lead_to(server.target)
        assert epoch.finish() == long_digest
        assert "retrying after StalledError" in epoch.stderr()


def test_an_epoch_over_a_server_killed_behind_a_proxy(
    cpp_program: Path, servers: Servers, server: ServerProcess, long_digest: str, tmp_path: Path
):
    first = servers.start()
    with (
        tcp_proxy("127.0.0.1:1") as gate,
        http_proxy("envoy", [first.target, gate.target], tmp_path) as behind,
        long_epoch(cpp_program, tmp_path, behind.target) as epoch,
    ):
        epoch.take(1_000_000)
        gate.lead_to(server.target)
        first.kill()
        assert epoch.finish() == long_digest
        assert "a proxy on the way, ended the call" in epoch.stderr()
        assert gate.num_bytes > 2_000_000


def test_an_epoch_longer_than_a_proxy_allows(
    cpp_program: Path, server: ServerProcess, long_digest: str, tmp_path: Path
):
    with (
        http_proxy("envoy", [server.target], tmp_path, timeout=1) as behind,
        long_epoch(cpp_program, tmp_path, behind.target) as epoch,
    ):
        for _ in range(40):
            epoch.take(4_000_000)
            time.sleep(0.1)
        assert epoch.finish() == long_digest
        assert epoch.stderr().count("a proxy on the way, ended the call") >= 1


def test_samples_over_connections_that_are_cut(
    cpp_program: Path, client: Client, proxy: TcpProxy, tmp_path: Path
):
    positives = load("world").mapped_triples[:2000]
    (tmp_path / "input").write_bytes(positives.tobytes())
    expected = sample_of(client, "world", LONG, positives, 0)
    proxy.cut_after(10_000_000, then=lambda: proxy.cut_after(10_000_000))
    result = run(
        cpp_program,
        *("sample", "world", "--target", proxy.target, "--input", tmp_path / "input"),
        *LONG_OPTIONS,
    )
    assert result.status == 0, result.stderr
    assert result.stderr.count("retrying after UnavailableError") == 2
    assert result.stdout == expected.triples(positives).tobytes()


@pytest.mark.parametrize(
    "command", [("datasets",), ("sample", "world", "1055,8,623"), ("epoch", "world")], ids=" ".join
)
def test_a_silent_replica_leaves_time_for_the_other(
    cpp_program: Path, server: ServerProcess, proxy: TcpProxy, command: tuple[str, ...]
):
    proxy.silence()
    targets = f"{proxy.target},{server.target}"
    result = run(cpp_program, *command, "--target", targets, "--timeout", 1, "--patience", 1)
    assert result.status == 0, result.stderr
    assert result.stdout == run(cpp_program, *command, "--target", server.target).stdout
    assert f"retrying after StalledError: {proxy.target}" in result.stderr


def test_a_full_replica_is_left_for_the_other(
    cpp_program: Path, server: ServerProcess, servers: Servers
):
    full = servers.start("--max-streams", "1")
    command = ("sample", "world", "1055,8,623", "--timeout", 5, "--patience", 1, "--target")
    with Client(full.target) as client:
        held = client.triples_factory("world").open_sampler()
        refused = run(cpp_program, *command, full.target)
        assert refused.status == 1
        assert f"\nOverloadedError: {full.target}: " in refused.stderr
        assert "  reason: TOO_MANY_STREAMS" in refused.stderr
        result = run(cpp_program, *command, f"{full.target},{server.target}")
        assert result.status == 0, result.stderr
        held.close()
    assert result.stdout == run(cpp_program, *command, server.target).stdout
