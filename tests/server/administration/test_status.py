"""What administrators see of a running server, and how they drain it: one process, and two."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve import Client, UnavailableError, UnknownDatasetError
from negserve.v1 import admin_pb2 as pb
from negserve.v1 import sampler_pb2
from negserve.v1.admin_pb2_grpc import AdminServiceStub
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.access.caller import CALLER as CURRENT
from negserve_server.access.caller import Caller
from negserve_server.administration.server_status import DatasetStatus, PeerStatus, ServerStatus
from negserve_server.errors import Refusal
from negserve_server.service import AdminServicer
from tests.server.messages import TIMEOUT
from tests.support.repositories import (
    ADMIN,
    CALLER,
    Administrator,
    RepositoryOnDisk,
    graph,
    write_tokens,
)
from tests.support.server_process import server_process
from tests.support.workers import wait_for, worker_pids

_TOKEN = (("authorization", f"Bearer {ADMIN}"),)
POSITIVES = np.array([[1, 2, 3], [4, 5, 6], [7, 0, 9]])


class Watched:
    """A server, its administrator, and clients with the token of a caller."""

    def __init__(self, administrator: Administrator, stub: AdminServiceStub) -> None:
        self.administrator = administrator
        self.server = administrator.server
        self._stub = stub

    def status(self) -> pb.GetServerStatusResponse:
        return self._stub.GetServerStatus(
            pb.GetServerStatusRequest(), timeout=TIMEOUT, metadata=_TOKEN
        )

    def dataset(self, name: str) -> pb.DatasetStatus:
        (found,) = [each for each in self.status().datasets if each.name == name]
        return found

    def health(self, service: str = "") -> Any:
        with grpc.insecure_channel(self.server.target) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=service)
            return stub.Check(request, timeout=TIMEOUT).status

    @contextmanager
    def client(self, **options: Any) -> Iterator[Client]:
        with Client(self.server.target, timeout=20, **options) as client:
            yield client


@pytest.fixture(params=[1, 2])
def watched(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Watched]:
    monkeypatch.setenv("NEGSERVE_TOKEN", CALLER)
    repository = RepositoryOnDisk(tmp_path / "graphs")
    repository.path.mkdir()
    repository.put("g", graph(1))
    tokens, log = tmp_path / "admin-tokens", tmp_path / "log"
    tokens.write_text(ADMIN)
    with (
        server_process(
            "--dataset", "world", "--repository", str(repository.path), "--allow-publish",
            "--token-file", str(write_tokens(tmp_path, anybody=True)),
            "--workers", str(request.param), log=log,
        ) as server,
        grpc.insecure_channel(server.target) as channel,
    ):  # fmt: skip
        yield Watched(Administrator(server, tokens, log), AdminServiceStub(channel))


def test_streams_and_negatives_are_counted_by_dataset_and_by_peer(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
):
    with watched.client() as named:
        sampler = named.triples_factory("g").open_sampler(num_negs_per_pos=5)
        for _ in range(4):
            sampler.sample(POSITIVES, 0)
        monkeypatch.delenv("NEGSERVE_TOKEN")
        with watched.client() as nameless:
            # A batch of 1700, and one of the rest: the last is counted exactly, too.
            num_drawn = 2 * graph(1).num_triples
            request = sampler_pb2.SampleEpochRequest(
                dataset="g", sampler={"kind": 1, "num_negs_per_pos": 2}, batch_size=1700
            )
            with grpc.insecure_channel(watched.server.target) as channel:
                list(SamplerServiceStub(channel).SampleEpoch(request, timeout=TIMEOUT))
            world = nameless.triples_factory("world").open_sampler(num_negs_per_pos=1)
            world.sample(POSITIVES, 0)
            status = watched.status()
            found = watched.dataset("g")
            # Four messages of Sample, and one of SampleEpoch with both batches.
            assert found.num_messages == 5
            seconds = found.queue_seconds + found.make_seconds
            assert found.queue_seconds > 0 < found.make_seconds
            assert seconds < found.num_messages * status.uptime_seconds
            assert (found.num_positives, found.num_negatives) == (
                12 + num_drawn // 2,
                60 + num_drawn,
            )
            assert found.num_streams == 1
            assert found.fingerprint == graph(1).fingerprint
            calls = {each.rpc: (each.num_calls, each.num_requests) for each in found.rpcs}
            assert calls["Sample"] == (1, 5)
            assert calls["SampleEpoch"] == (1, 1)
            peers = {each.caller or each.address: each for each in status.peers}
            assert {name: each.num_negatives for name, each in peers.items()} == {
                "caller": 60,
                "127.0.0.1": num_drawn + 3,
            }
            assert {name: each.num_messages for name, each in peers.items()} == {
                "caller": 4,
                "127.0.0.1": 2,
            }
            assert 0 < peers["caller"].make_seconds < found.make_seconds
            assert {each.name: each.num_streams for each in peers["caller"].datasets} == {"g": 1}
            assert {each.name: each.num_streams for each in peers["127.0.0.1"].datasets} == {
                "world": 1
            }
            assert 0 < peers["caller"].oldest_stream_seconds < status.uptime_seconds
    assert status.num_workers in {1, 2}
    assert status.resident_bytes > 10_000_000
    assert 0 < status.table_bytes <= status.max_table_bytes
    wait_for(lambda: not watched.dataset("g").num_streams, "the end of the streams")
    ended = watched.dataset("g")
    assert ended.num_negatives == 60 + num_drawn, "ended streams are counted, too"
    assert ended.num_messages == found.num_messages
    assert ended.queue_seconds == pytest.approx(found.queue_seconds)
    assert ended.make_seconds == pytest.approx(found.make_seconds)


def test_a_killed_worker_is_counted_and_the_status_goes_on(watched: Watched):
    if watched.status().num_workers == 1:
        assert watched.status().num_worker_restarts == 0
        return
    os.kill(worker_pids(watched.server)[0], signal.SIGKILL)

    def is_back() -> bool:
        try:
            status = watched.status()
        except grpc.RpcError:  # its connection was that worker's
            return False
        return (status.num_workers, status.num_worker_restarts) == (2, 1)

    wait_for(is_back, "another worker")


def test_a_drained_server_stays_and_comes_back(watched: Watched):
    administrator = watched.administrator
    with watched.client(patience=0.5) as client:
        sampler = client.triples_factory("g").open_sampler(num_negs_per_pos=5)
        first = sampler.sample(POSITIVES, 0)
        status, output, _ = administrator.run("drain")
        assert (status, output) == (0, "drained: 1 stream end; see admin status\n")
        with pytest.raises(UnavailableError, match="operator has drained it"):
            sampler.sample(POSITIVES, 0)
        assert watched.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        assert watched.health("g") == health_pb2.HealthCheckResponse.NOT_SERVING
        assert watched.status().is_drained
        status, output, _ = administrator.run("drain", "--json")
        assert (status, output) == (0, '{"num_streams": 0}\n')
        for pid in worker_pids(watched.server)[:1] if watched.status().num_workers > 1 else ():
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: len(worker_pids(watched.server)) == 2, "another worker")
            with pytest.raises(UnavailableError):
                client.list_datasets()
        status, output, _ = administrator.run("resume")
        assert (status, output) == (0, "back in service\n")
        assert watched.health() == health_pb2.HealthCheckResponse.SERVING
        again = sampler.sample(POSITIVES, 0)
        np.testing.assert_array_equal(first.replaced, again.replaced)
    administrator.run("drain")
    assert watched.server.terminate() == 0, "SIGTERM ends it, as any other"


def test_a_removed_graph_leaves_its_streams_or_ends_them(watched: Watched):
    administrator = watched.administrator
    with watched.client(patience=0.5) as client:
        for name, seed in (("p", 7), ("q", 8)):
            client.publish(name, graph(seed))
        samplers = {
            name: client.triples_factory(name).open_sampler(num_negs_per_pos=5)
            for name in ("p", "q", "g")
        }
        for each in samplers.values():
            each.sample(POSITIVES, 0)
        status, output, _ = administrator.run("remove", "p")
        assert status == 0
        assert "1 stream still using it: --now would have ended them" in output
        samplers["p"].sample(POSITIVES, 0)
        assert watched.dataset("p").fingerprint == ""
        (change,) = administrator.json("remove", "q", "--now")
        assert (change["action"], change["num_streams"]) == ("DATASET_ACTION_UNLOADED", 1)
        with pytest.raises(UnknownDatasetError):
            samplers["q"].sample(POSITIVES, 0)
        status, output, _ = administrator.run("unload", "g", "--now")
        assert (status, "1 stream ended" in output) == (0, True)
        with pytest.raises(UnknownDatasetError):
            samplers["g"].sample(POSITIVES, 0)
        samplers["p"].sample(POSITIVES, 0)


def test_commands_print_what_is_there(watched: Watched):
    with watched.client() as client:
        sampler = client.triples_factory("g").open_sampler(num_negs_per_pos=5)
        sampler.sample(POSITIVES, 0)
        status, output, _ = watched.administrator.run("status")
        assert status == 0
        (row,) = [line.split() for line in output.splitlines() if line.startswith("g ")]
        assert row[1:5] == [graph(1).fingerprint[:12], "1", "1", "0"]
        found = watched.dataset("g")
        assert row[7:9] == [f"{found.queue_seconds * 1000:.2f}", f"{found.make_seconds * 1000:.2f}"]
        assert row[9] == "15"
        status, output, _ = watched.administrator.run("peers")
        (row,) = [line.split() for line in output.splitlines() if line.startswith("caller ")]
        assert row[1:4] == ["g", "1", "1"]
        assert row[7] == "15"
        (peer,) = watched.administrator.json("peers")
        assert (peer["caller"], peer["datasets"], peer["num_negatives"]) == ("caller", {"g": 1}, 15)


class _Control:
    """A server of very many datasets and peers."""

    async def status(self) -> ServerStatus:
        return ServerStatus(
            uptime_seconds=1.0, is_drained=False, num_workers=1, num_worker_restarts=0,
            resident_bytes=0, ahead_bytes=0, max_ahead_bytes=0, max_table_bytes=0, num_calls=0,
            num_queued=0,
            datasets=tuple(DatasetStatus(name=f"d{i}", num_negatives=i) for i in range(600)),
            peers=tuple(
                PeerStatus(
                    caller=f"{i}\x1b[2J" + "x" * 400,
                    datasets={f"d{j}": 1 for j in range(i % 40)},
                    num_negatives=1,
                )
                for i in range(1000)
            ),
            rpcs={},
        )  # fmt: skip

    async def drain(self) -> int:
        raise AssertionError

    async def resume(self) -> bool:
        raise AssertionError


def test_a_status_is_bounded_whatever_clients_do():
    servicer = AdminServicer(None, _Control())  # type: ignore[arg-type]
    status = asyncio.run(servicer.get_server_status(pb.GetServerStatusRequest()))
    assert [each.name for each in status.datasets] == [f"d{i}" for i in range(599, 99, -1)]
    assert status.num_other_datasets == 100
    assert len(status.peers) == 200
    assert status.num_other_peers == 800
    assert status.other_peers.num_negatives == 800
    every = [*status.peers, status.other_peers]
    assert sum(each.num_streams for each in every) == sum(i % 40 for i in range(1000))
    assert min(each.num_streams for each in status.peers) >= status.peers[-1].num_streams
    for peer in status.peers:
        assert len(peer.datasets) <= 16
        assert len(peer.caller) <= 160
    assert status.ByteSize() < 1_000_000


def test_a_token_of_some_datasets_sees_and_drains_nothing():
    servicer = AdminServicer(None, _Control())  # type: ignore[arg-type]
    some = Caller(name="some", scopes=frozenset({"admin"}), datasets=("g*",))
    for method, request in (
        (servicer.get_server_status, pb.GetServerStatusRequest()),
        (servicer.drain_server, pb.DrainServerRequest()),
        (servicer.resume_server, pb.ResumeServerRequest()),
    ):

        async def ask(method: Any = method, request: Any = request) -> None:
            CURRENT.set(some)
            await method(request)

        with pytest.raises(Refusal) as caught:
            asyncio.run(ask())
        assert caught.value.reason == "NOT_PERMITTED"
