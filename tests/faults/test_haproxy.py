"""deploy/haproxy/haproxy.cfg as it is, but for addresses and files: TLS, two replicas, no error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.conftest import expected_digest
from tests.faults.stopping_ranks import LARGE, StoppingRanks
from tests.support.certificates import Authority
from tests.support.name_server import name_server
from tests.support.proxies import haproxy
from tests.support.replicated import HOSTS, drawn, replicated
from tests.support.workers import wait_for

OPTIONS = ("--threads", "1", "--drain-seconds", "0.5")
_NUM_RANKS = 2


def test_one_replica_is_killed_and_the_other_drains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    authority = Authority(tmp_path / "certificates")
    certificate = tmp_path / "negserve.pem"
    certificate.write_text("".join(Path(path).read_text() for path in authority.issue("127.0.0.1")))
    monkeypatch.setenv("NEGSERVE_CA_FILE", authority.ca)
    first, second = HOSTS[:2]
    with (
        replicated(tmp_path, *OPTIONS, hosts=(first, second)) as replicas,
        name_server(first, second) as names,
        haproxy(replicas.port, names.address, tmp_path, str(certificate)) as proxy,
        ThreadPoolExecutor(_NUM_RANKS) as threads,
    ):
        ranks = StoppingRanks(threads, proxy.target, _NUM_RANKS, {3, 12})
        with ranks.stopped():
            replicas.by_host[first].server.kill()
        with ranks.stopped():
            again = replicas.start(first)
            assert replicas.by_host[second].server.terminate() == 0
        assert ranks.digest() == expected_digest(LARGE)
        # It was found again, and took the streams of the one that drained.
        wait_for(lambda: drawn(again) > 0, "negatives of the replica that was killed")
