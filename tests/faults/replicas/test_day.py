"""A day of a fleet: reload, new certificates, kill, drain, attack; no trainer notices.

``NEGSERVE_DAY_MINUTES=10`` repeats the events for so long.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest

from negserve import Client
from negserve._transport import channels
from negserve.v1 import admin_pb2 as pb
from negserve.v1.admin_pb2_grpc import AdminServiceStub
from tests.faults.slow_trainers import NUM_TRAINERS, SlowTrainers
from tests.support.certificates import Authority
from tests.support.children.hostile_client import attack, send_garbage_frames
from tests.support.programs.proxies import Clusters, Proxy, envoy
from tests.support.replicated import HOSTS, Replicated, drawn, replicated
from tests.support.repositories import ADMIN, CALLER, Administrator, RepositoryOnDisk, graph
from tests.support.scraping import Scraper
from tests.support.workers import wait_for

MINUTES = float(os.environ.get("NEGSERVE_DAY_MINUTES", "0"))
#: So that the second can be compared with the first.
LEAST_ROUNDS = 2
PATIENCE = 60.0
#: Batches: more than what is on its way to a trainer.
ON_ITS_WAY = 12
MOST_DRAINS = 20
HOSTILE = "hostile-0123456789abcdef"
#: Why calls are refused that no trainer makes.
REASONS = (
    "CREDENTIALS_INVALID",
    "CREDENTIALS_MISSING",
    "MALFORMED_MESSAGE",
    "LIMIT_EXCEEDED",
    "TOO_MANY_STREAMS",
)
#: How trainers' streams may end: of age or by a trainer, by a drain, with the connection.
CODES = {"OK", "UNAVAILABLE", "CANCELLED"}
#: Of the memory after the first round.
MOST_GROWTH = 1.1
KILLED, *DRAINED = HOSTS
_SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65536))
_TOKENS = f"""\
[[token]]
name = "admin"
token = "{ADMIN}"
scopes = ["admin"]
[[token]]
name = "trainers"
token = "{CALLER}"
scopes = ["sample"]
[[token]]
name = "hostile"
token = "{HOSTILE}"
scopes = ["sample"]
max_streams = 8
"""


@dataclass
class Day:
    """The fleet, and what happens to it.

    :ivar num_drawn_by_killed: negatives that killed replicas have counted
    :ivar num_uncounted: those that they may have drawn after that
    """

    replicas: Replicated
    proxy: Proxy
    clusters: Clusters
    trainers: SlowTrainers
    repository: RepositoryOnDisk
    authority: Authority
    folder: Path
    num_drawn_by_killed: float = 0
    num_uncounted: int = 0
    _num_rounds: int = field(default=0)

    def run_round(self) -> None:
        """Let everything happen once."""
        self._num_rounds += 1
        self.reload()
        self.renew_certificate_of_the_proxy()
        self.renew_certificate_of_the_replicas()
        self.kill(KILLED)
        self.drain(DRAINED[self._num_rounds % len(DRAINED)])
        self.attack()

    @property
    def scrapers(self) -> dict[str, Scraper]:
        return self.replicas.by_host

    def reload(self) -> None:
        """Replace a dataset that nobody uses."""
        changed = graph(self._num_rounds)
        self.repository.put("other", changed)
        for host in HOSTS:
            (change,) = self._administrator(host).json("reload")
            assert change["fingerprint"] == changed.fingerprint, change
            wait_for(
                lambda at=self.scrapers[host]: versions(at) == {changed.fingerprint},  # type: ignore[misc]
                "the new version among the metrics",
            )
        self.trainers.go_on()

    def renew_certificate_of_the_proxy(self) -> None:
        """Give the proxy another certificate."""
        self._renew_certificate(self.folder / "secret", [self.proxy.target])

    def renew_certificate_of_the_replicas(self) -> None:
        """Give the replicas another certificate."""
        targets = [scraper.server.target for scraper in self.scrapers.values()]
        self._renew_certificate(self.folder / "replicas", targets)

    def _renew_certificate(self, secret: Path, targets: list[str]) -> None:
        issued = renew(self.authority, secret)
        for target in targets:
            host, _, port = target.rpartition(":")
            wait_for(
                lambda at=(host, int(port)): (  # type: ignore[misc]
                    ssl.get_server_certificate(at).split() == issued.split()
                ),
                f"the new certificate of {target}",
            )
            with Client(target, patience=PATIENCE) as client:
                assert "world" in client.list_datasets()
        self.trainers.go_on()

    def kill(self, host: str) -> None:
        """Kill a replica that has streams, and start it again."""
        self._await_streams(host)
        received = self.trainers.num_negatives
        self.num_drawn_by_killed += drawn(self.scrapers[host])
        self.scrapers[host].server.kill()
        self.trainers.go_on(ON_ITS_WAY)
        self.num_uncounted += self.trainers.num_negatives - received
        self.replicas.start(host)
        self._await_calls(host)

    def drain(self, host: str) -> None:
        """Take a replica that has streams out of service, and back."""
        scraper, administrator = self.scrapers[host], self._administrator(host)
        before = scraper.value("negserve_refusals_total", reason="DRAINING")
        for _ in range(MOST_DRAINS):
            self._await_streams(host)
            status, output, errors = administrator.run("drain", "--json")
            assert status == 0, errors
            if json.loads(output)["num_streams"]:
                break
            # They have ended of age meanwhile.
            assert administrator.run("resume")[0] == 0
        wait_for(
            lambda: scraper.value("negserve_refusals_total", reason="DRAINING") > before,
            "the count of the streams that it ended",
        )
        wait_for(lambda: self._num_streams(scraper) == 0, "the end of its streams")
        self.trainers.go_on(ON_ITS_WAY)
        assert self._num_streams(scraper) == 0
        assert administrator.run("resume")[0] == 0
        self._await_calls(host)

    def attack(self) -> None:
        """Let a hostile client at each replica, then at the proxy; refusals are counted."""
        for scraper in self.scrapers.values():
            self._attack_one(scraper)
        before = self._all_refusals()
        told = attack(self.proxy.target, HOSTILE, self._trusted)
        assert told["CREDENTIALS_INVALID"]
        # If a call ends before all of it has passed, the proxy gives INTERNAL in place of a reason.
        num_told = sum(told[reason] for reason in (*REASONS, "INTERNAL"))
        assert (self._all_refusals() - before).total() <= num_told
        self.trainers.go_on()

    def _attack_one(self, scraper: Scraper) -> None:
        before = refusals(scraper)
        told = attack(scraper.server.target, HOSTILE, self._trusted)
        send_garbage_frames(scraper.server.target, self._trusted)
        assert all(told[reason] for reason in REASONS), told
        expected = {reason: told[reason] for reason in REASONS}
        wait_for(lambda: refusals(scraper) >= before + Counter(expected), f"the count of {told}")
        assert refusals(scraper) - before == expected

    def _all_refusals(self) -> Counter[str]:
        return sum((refusals(scraper) for scraper in self.scrapers.values()), Counter())

    def _administrator(self, host: str) -> Administrator:
        server = self.scrapers[host].server
        return Administrator(server, self.folder / "admin-token", self.folder / "log")

    def _await_streams(self, host: str) -> None:
        scraper = self.scrapers[host]
        wait_for(lambda: self._num_streams(scraper) > 0, f"a stream at {host}")

    def _num_streams(self, scraper: Scraper) -> int:
        """Count the open streams over the trainers' dataset."""
        credentials = grpc.ssl_channel_credentials(self._trusted)
        with grpc.secure_channel(scraper.server.target, credentials) as channel:
            status = AdminServiceStub(channel).GetServerStatus(
                pb.GetServerStatusRequest(),
                timeout=PATIENCE,
                metadata=(("authorization", f"Bearer {ADMIN}"),),
            )
        return sum(each.num_streams for each in status.datasets if each.name == "world")

    @property
    def _trusted(self) -> bytes:
        return Path(self.authority.ca).read_bytes()

    def _await_calls(self, host: str) -> None:
        """Call until the proxy sends calls to a replica again."""
        target = self.scrapers[host].server.target
        before = self.clusters.num_requests()[target]

        def is_asked() -> bool:
            client.list_datasets()
            return self.clusters.num_requests()[target] > before

        with Client(self.proxy.target, patience=PATIENCE) as client:
            wait_for(is_asked, f"a call to {host}")


def refusals(scraper: Scraper) -> Counter[str]:
    """Count the refusals of a replica that only a hostile client gets, by reason."""
    samples = scraper.samples()
    return Counter(
        {
            reason: int(samples.get(("negserve_refusals_total", (("reason", reason),)), 0))
            for reason in REASONS
        }
    )


def versions(scraper: Scraper) -> set[str]:
    """Read the fingerprints that a replica tells of the dataset that is replaced."""
    infos = [dict(labels) for name, labels in scraper.samples() if name == "negserve_dataset_info"]
    return {
        info["fingerprint"]
        for info in infos
        if info["dataset"] == "other" and info["current"] == "yes"
    }


def calls_by_code(scraper: Scraper) -> Counter[str]:
    """Count the ended streams of epochs, by status."""
    return Counter(
        {
            dict(labels)["code"]: int(value)
            for (name, labels), value in scraper.samples().items()
            if name == "negserve_calls_total" and ("rpc", "SampleEpoch") in labels
        }
    )


def renew(authority: Authority, folder: Path) -> str:
    """Replace certificate and key as the kubelet does, and return the certificate."""
    issued = [Path(path).read_text() for path in authority.issue(*HOSTS)]
    for text, name in zip(issued, ("tls.crt", "tls.key"), strict=True):
        (folder / "next").write_text(text)
        (folder / "next").replace(folder / name)
    return issued[0]


@contextmanager
def day(folder: Path, threads: ThreadPoolExecutor, authority: Authority) -> Iterator[Day]:
    repository = RepositoryOnDisk(folder / "graphs")
    repository.path.mkdir()
    repository.put("other", graph(0))
    (folder / "tokens.toml").write_text(_TOKENS)
    (folder / "admin-token").write_text(ADMIN)
    for secret in (folder / "secret", folder / "replicas"):
        secret.mkdir()
        renew(authority, secret)
    options = (
        "--tls-cert", str(folder / "replicas" / "tls.crt"),
        "--tls-key", str(folder / "replicas" / "tls.key"),
        "--dataset", "world", "--repository", str(repository.path),
        "--token-file", str(folder / "tokens.toml"), "--threads", "1",
        # Streams are spread again soon.
        "--max-stream-seconds", "5",
    )  # fmt: skip
    with replicated(folder, *options) as replicas:
        targets = [scraper.server.target for scraper in replicas.by_host.values()]
        secret = folder / "secret"
        certificate = (str(secret / "tls.crt"), str(secret / "tls.key"))
        with envoy(targets, folder, certificate, authority.ca) as (proxy, clusters):
            trainers = SlowTrainers(threads, proxy.target)
            try:
                yield Day(replicas, proxy, clusters, trainers, repository, authority, folder)
            finally:
                trainers.end()


@pytest.mark.timeout(300 + 60 * MINUTES)
def test_no_trainer_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    authority = Authority(tmp_path / "certificates")
    monkeypatch.setenv("NEGSERVE_CA_FILE", authority.ca)
    monkeypatch.setenv("NEGSERVE_TOKEN", CALLER)
    # Trainers read slowly, which spares the processors: so little has to be on its way to them.
    options = (*channels.CHANNEL_OPTIONS, *_SMALL_WINDOW)
    monkeypatch.setattr(channels, "CHANNEL_OPTIONS", options)
    until = time.monotonic() + 60 * MINUTES
    num_rounds = 0
    with ThreadPoolExecutor(NUM_TRAINERS) as threads, day(tmp_path, threads, authority) as it:
        it.trainers.go_on()
        kept = [it.scrapers[host].server for host in DRAINED]
        while num_rounds < LEAST_ROUNDS or time.monotonic() < until:
            it.run_round()
            num_rounds += 1
            memory = [server.resident_bytes for server in kept]
            print(f"round {num_rounds}: {it.trainers.num_negatives} negatives, {memory} bytes")
            if num_rounds == 1:
                first = memory
        it.trainers.end()
        num_epochs = it.trainers.check()
        print(f"{num_epochs} epochs in {num_rounds} rounds")
        assert num_epochs >= NUM_TRAINERS
        ends = Counter[str]()
        for scraper in it.scrapers.values():
            scraper.wait(0, "negserve_open_calls")
            ends += calls_by_code(scraper)
        print(f"streams of trainers by status: {dict(ends)}")
        assert {"OK", "UNAVAILABLE"} <= set(ends) <= CODES
        num_drawn = sum(map(drawn, it.scrapers.values())) + it.num_drawn_by_killed
        print(f"drawn {num_drawn:.0f}, received {it.trainers.num_negatives}")
        assert num_drawn + it.num_uncounted >= it.trainers.num_negatives
        assert all(now < MOST_GROWTH * then for now, then in zip(memory, first, strict=True))
