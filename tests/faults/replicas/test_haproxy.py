"""deploy/haproxy/haproxy.cfg as it is, but for addresses and files: TLS, replicas, a reload."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from negserve import Client
from tests.faults.conftest import expected_digest
from tests.faults.stopping_ranks import LARGE, StoppingRanks
from tests.support.certificates import Authority
from tests.support.children.name_server import name_server
from tests.support.programs.proxies import Proxy, haproxy
from tests.support.replicated import HOSTS, Replicated, drawn, replicated
from tests.support.workers import wait_for

OPTIONS = ("--threads", "1", "--drain-seconds", "0.5")
FIRST, SECOND = HOSTS[:2]
CERTIFICATE = "negserve.pem"
_NUM_RANKS = 2


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """Who signs the proxy's certificate, and whom clients trust."""
    made = Authority(tmp_path / "certificates")
    monkeypatch.setenv("NEGSERVE_CA_FILE", made.ca)
    return made


def issue(authority: Authority, path: Path) -> str:
    """Write a new certificate and its key to a file, and return the certificate."""
    certificate, key = (Path(each).read_text() for each in authority.issue("127.0.0.1"))
    path.write_text(certificate + key)
    return certificate


@contextmanager
def fleet(folder: Path, authority: Authority) -> Iterator[tuple[Replicated, Proxy]]:
    """Run two replicas behind the proxy, which has TLS, until the block ends."""
    issue(authority, folder / CERTIFICATE)
    with (
        replicated(folder, *OPTIONS, hosts=(FIRST, SECOND)) as replicas,
        name_server(FIRST, SECOND) as names,
        haproxy(replicas.port, names.address, folder, str(folder / CERTIFICATE)) as proxy,
    ):
        yield replicas, proxy


def test_one_replica_is_killed_and_the_other_drains(tmp_path: Path, authority: Authority):
    with (
        fleet(tmp_path, authority) as (replicas, proxy),
        ThreadPoolExecutor(_NUM_RANKS) as threads,
    ):
        ranks = StoppingRanks(threads, proxy.target, _NUM_RANKS, {3, 12})
        with ranks.stopped():
            replicas.by_host[FIRST].server.kill()
        with ranks.stopped():
            again = replicas.start(FIRST)
            assert replicas.by_host[SECOND].server.terminate() == 0
        assert ranks.digest() == expected_digest(LARGE)
        # It was found again, and took the streams of the one that drained.
        wait_for(lambda: drawn(again) > 0, "negatives of the replica that was killed")


def test_a_renewed_certificate_is_taken_and_no_stream_ends(tmp_path: Path, authority: Authority):
    with (
        fleet(tmp_path, authority) as (replicas, proxy),
        ThreadPoolExecutor(_NUM_RANKS) as threads,
    ):
        ranks = StoppingRanks(threads, proxy.target, _NUM_RANKS, {3})
        with ranks.stopped():
            issued = issue(authority, tmp_path / CERTIFICATE)
            proxy.reload()
            host, _, port = proxy.target.rpartition(":")
            wait_for(
                lambda: ssl.get_server_certificate((host, int(port))).split() == issued.split(),
                "the new certificate",
            )
            with Client(proxy.target) as client:
                assert "world" in client.list_datasets()
        assert ranks.digest() == expected_digest(LARGE)
        num_streams = 0.0
        for scraper in replicas.by_host.values():
            scraper.wait(0, "negserve_open_calls")
            num_streams += sum(
                value
                for (name, labels), value in scraper.samples().items()
                if name == "negserve_calls_total" and ("rpc", "SampleEpoch") in labels
            )
        assert num_streams == _NUM_RANKS
