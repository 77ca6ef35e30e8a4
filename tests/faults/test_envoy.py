"""deploy/envoy/envoy.yaml as it is, but for addresses and files: TLS, two replicas, no error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from negserve import Client, UnavailableError
from tests.faults.conftest import Servers, expected_digest
from tests.faults.stopping_ranks import LARGE, StoppingRanks
from tests.support.certificates import Authority
from tests.support.proxies import envoy
from tests.support.workers import wait_for

PATIENCE = 60.0


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path / "certificates")
    monkeypatch.setenv("NEGSERVE_CA_FILE", made.ca)
    return made


def test_one_replica_is_killed_and_the_other_drains(
    servers: Servers, authority: Authority, tmp_path: Path
):
    first, second = servers.start_two()
    targets = [first.target, second.target]
    certificate = authority.issue("127.0.0.1")
    with (
        envoy(targets, tmp_path, certificate) as (proxy, clusters),
        ThreadPoolExecutor(2) as threads,
    ):
        ranks = StoppingRanks(threads, proxy.target, 2, {3, 12})
        with ranks.stopped():
            num_streams = clusters.num_requests()
            assert all(num_streams[target] for target in targets), num_streams
            first.kill()
            # Two failed health checks leave it out.
            wait_for(lambda: clusters.counter("membership_healthy") == 1, "that one is left out")
            assert clusters.counter("health_check.failure") >= 2
        with ranks.stopped():
            servers.start(listen=first.target)
            wait_for(lambda: clusters.counter("membership_healthy") == 2, "that one is back")
            num_failures = clusters.counter("health_check.failure")
            assert second.terminate() == 0
            wait_for(lambda: clusters.counter("membership_healthy") == 1, "the other is left out")
            assert clusters.counter("health_check.failure") > num_failures
        assert ranks.digest() == expected_digest(LARGE)
        # It was found again, and took the streams of the one that drained.
        assert clusters.num_requests()[first.target] >= num_streams[first.target] + 2


def test_a_renewed_certificate_is_taken(servers: Servers, authority: Authority, tmp_path: Path):
    folder = tmp_path / "secret"
    folder.mkdir()
    former = Authority(tmp_path / "former")
    files = ("tls.crt", "tls.key")

    def give(issuer: Authority) -> None:
        for issued, name in zip(issuer.issue("127.0.0.1"), files, strict=True):
            (folder / "next").write_bytes(Path(issued).read_bytes())
            (folder / "next").replace(folder / name)

    give(former)
    certificate = (str(folder / files[0]), str(folder / files[1]))
    with envoy([servers.start().target], tmp_path, certificate) as (proxy, _):
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            Client(proxy.target, patience=0.5).list_datasets()
        give(authority)
        with Client(proxy.target, patience=PATIENCE) as client:
            assert list(client.list_datasets()) == ["world"]
