"""deploy/envoy/envoy.yaml as it is, but for addresses and files: TLS, two replicas, no error."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from negserve import Client, EpochBatch, EpochConfig, UnavailableError
from tests.faults.conftest import (
    BATCH_SIZE,
    NUM_TRIPLES,
    SAMPLER,
    Servers,
    expected_digest,
    pieces_of,
)
from tests.support.certificates import Authority
from tests.support.epochs import union_digest
from tests.support.proxies import envoy

PATIENCE = 60.0
#: 60 MB for a rank: more than proxy and client hold.
LARGE = replace(SAMPLER, num_negs_per_pos=12_000)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path / "certificates")
    monkeypatch.setenv("NEGSERVE_CA_FILE", made.ca)
    return made


class Ranks:
    """Ranks of one training that read an epoch, and all wait at some of their batches.

    :param stops: numbers of these batches
    """

    def __init__(self, threads: ThreadPoolExecutor, target: str, num: int, stops: set[int]) -> None:
        self._stops = stops
        self._barrier = threading.Barrier(num + 1)
        self._reading = [threads.submit(self._read, target, rank, num) for rank in range(num)]

    def _read(self, target: str, rank: int, num: int) -> list[EpochBatch]:
        batches = []
        with Client(target, patience=PATIENCE) as client:
            config = EpochConfig(batch_size=BATCH_SIZE, rank=rank, world_size=num)
            stream = client.triples_factory("world").epochs(LARGE, config, prefetch=1)
            for i, batch in enumerate(stream):
                batches.append(batch)
                if i in self._stops:
                    self._barrier.wait(PATIENCE)
                    self._barrier.wait(PATIENCE)
        return batches

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Wait until all have come to their next stop; they go on at the end of the block."""
        self._barrier.wait(PATIENCE)
        try:
            yield
        except BaseException:
            self._barrier.abort()
            raise
        self._barrier.wait(PATIENCE)

    def digest(self) -> str:
        """Wait for all, and hash what they have received."""
        pieces = [pieces_of(each.result(2 * PATIENCE)) for each in self._reading]
        return union_digest(chain.from_iterable(pieces), NUM_TRIPLES)


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
        ranks = Ranks(threads, proxy.target, 2, {3, 12})
        with ranks.stopped():
            num_streams = clusters.num_requests()
            assert all(num_streams[target] for target in targets), num_streams
            first.kill()
        with ranks.stopped():
            servers.start(listen=first.target)
            assert second.terminate() == 0
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
