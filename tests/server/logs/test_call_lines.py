"""What a real server logs about calls: access log, audit log, and the call of each line."""

from __future__ import annotations

import json
import queue
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from negserve import Client, FingerprintMismatchError, UnknownDatasetError
from negserve.v1 import admin_pb2
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.admin_pb2_grpc import AdminServiceStub
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.logs.fields import EVENTS, FIELDS
from tests.server.messages import TIMEOUT
from tests.server.publishing.test_publish import announcement
from tests.support.repositories import RepositoryOnDisk, graph, wait_for
from tests.support.server_process import ServerProcess, server_process

ALICE, OPS = "alice-0123456789abcdef", "ops-0123456789abcdef"
TOKENS = f"""
[[token]]
name = "alice"
token = "{ALICE}"
scopes = ["sample", "publish"]

[[token]]
name = "ops"
token = "{OPS}"
scopes = ["admin"]
"""


class Log:
    """The log of a server, in JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def events(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Give the lines of an event that have these fields."""
        lines = [json.loads(line) for line in self.path.read_text().splitlines()]
        for line in lines:
            assert line.keys() <= FIELDS.keys()
            assert line.get("event", "load") in EVENTS
        return [
            line for line in lines if line.get("event") == event and fields.items() <= line.items()
        ]

    def event(self, event: str, **fields: object) -> dict[str, Any]:
        """Wait for the only line of an event that has these fields."""
        wait_for(lambda: self.events(event, **fields))
        (found,) = self.events(event, **fields)
        return found


def bearing(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Log]]:
    folder = tmp_path_factory.mktemp("served")
    repository = RepositoryOnDisk(folder / "graphs")
    repository.path.mkdir()
    repository.put("g", graph(0))
    tokens, log = folder / "tokens.toml", folder / "log"
    tokens.write_text(TOKENS)
    with server_process(
        "--dataset", "world", "--repository", str(repository.path), "--token-file", str(tokens),
        "--allow-publish", "--access-log", "--log-format", "json", "--log-level", "error", log=log,
    ) as server:  # fmt: skip
        yield server, Log(log)


@pytest.fixture
def log(served: tuple[ServerProcess, Log]) -> Log:
    return served[1]


@pytest.fixture
def client(served: tuple[ServerProcess, Log], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("NEGSERVE_TOKEN", ALICE)
    with Client(served[0].target) as opened:
        yield opened


@pytest.fixture
def channel(served: tuple[ServerProcess, Log]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served[0].target) as opened:
        yield opened


def test_a_stream_has_one_line_in_the_access_log(client: Client, log: Log):
    factory = client.triples_factory("world")
    found = factory.contains(np.array([[0, 0, 1]]), splits=("training",))
    assert found.shape == (1,)
    client.close()
    line = log.event("call_ended", rpc="Contains")
    assert line["logger"] == "negserve_server.access_log"
    assert (line["caller"], line["dataset"]) == ("alice", "world")
    assert re.fullmatch("[0-9a-f]{16}", line["call"])
    assert re.fullmatch(r"ipv4:127\.0\.0\.1:\d+", line["peer"])
    assert (line["requests"], line["answers"]) == (2, 1)
    assert line["bytes_in"] > 0
    assert line["bytes_out"] > 0
    assert 0 < line["seconds"] < 300
    assert f"by alice at {line['peer']}" in line["message"]


def test_a_refused_call_has_its_reason(client: Client, log: Log):
    with pytest.raises(UnknownDatasetError):
        client.triples_factory('no"\n"such')
    line = log.event("call_ended", dataset='no"\n"such')
    assert (line["rpc"], line["code"]) == ("GetDataset", "NOT_FOUND")
    assert line["reason"] == "UNKNOWN_DATASET"
    assert (line["requests"], line["answers"], line["bytes_out"]) == (1, 0, 0)


def test_a_long_name_is_shortened(channel: grpc.Channel, log: Log):
    with pytest.raises(grpc.RpcError):
        SamplerServiceStub(channel).GetDataset(
            pb.GetDatasetRequest(dataset="n" * 100_000), timeout=TIMEOUT, metadata=bearing(ALICE)
        )
    wait_for(lambda: log.events("call_ended", code="NOT_FOUND", bytes_in=100_004))
    assert max(map(len, log.path.read_text().splitlines())) < 1000


def test_calls_without_credentials_are_in_both_logs(channel: grpc.Channel, log: Log):
    wrong = "wrong-0123456789abcdef"
    for _ in range(2):
        with pytest.raises(grpc.RpcError):
            SamplerServiceStub(channel).GetDataset(
                pb.GetDatasetRequest(dataset="world"), timeout=TIMEOUT, metadata=bearing(wrong)
            )
    fields = {"code": "UNAUTHENTICATED", "reason": "CREDENTIALS_INVALID", "rpc": "GetDataset"}
    wait_for(lambda: len(log.events("call_ended", **fields)) == 2)
    first, *others = log.events("authentication_failed")
    assert (first["level"], first["logger"]) == ("warning", "negserve_server.audit")
    assert first["refused"] == {"CREDENTIALS_INVALID": 1}
    assert first["peer"] == log.events("call_ended", **fields)[0]["peer"]
    for other in others:  # about calls that have ended: it belongs to none
        assert "call" not in other
    assert wrong not in log.path.read_text()


def test_health_checks_are_not_in_the_access_log(channel: grpc.Channel, log: Log):
    health = HealthStub(channel)
    health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
    watch = health.Watch(health_pb2.HealthCheckRequest(), timeout=TIMEOUT, metadata=bearing(ALICE))
    next(watch)
    watch.cancel()
    SamplerServiceStub(channel).GetServer(
        pb.GetServerRequest(), timeout=TIMEOUT, metadata=bearing(ALICE)
    )
    log.event("call_ended", rpc="GetServer", caller="alice")
    assert not log.events("call_ended", rpc="Check")
    assert not log.events("call_ended", rpc="Watch")


def test_the_audit_log_tells_who_administers(channel: grpc.Channel, log: Log):
    admin = AdminServiceStub(channel)
    ops: Any = {"timeout": TIMEOUT, "metadata": bearing(OPS)}
    admin.UnloadDataset(admin_pb2.UnloadDatasetRequest(name="g"), **ops)
    admin.LoadDataset(admin_pb2.LoadDatasetRequest(name="g"), **ops)
    list(admin.ReloadDatasets(admin_pb2.ReloadDatasetsRequest(), **ops))
    with pytest.raises(grpc.RpcError):
        admin.UnloadDataset(admin_pb2.UnloadDatasetRequest(name="world"), **ops)
    for event, rpc, action in (
        ("unload", "UnloadDataset", "unloaded"),
        ("load", "LoadDataset", "loaded"),
    ):
        line = log.event(event, changes={"g": action})
        assert (line["logger"], line["level"]) == ("negserve_server.audit", "info")
        assert (line["caller"], line["rpc"], line["dataset"]) == ("ops", rpc, "g")
        assert line["peer"].startswith("ipv4:127.0.0.1:")
        assert line["message"] == f"{event} by ops at {line['peer']}: {action} g"
    assert log.event("reload")["caller"] == "ops"
    refused = log.event("unload", reason="DATASET_FIXED")
    assert (refused["caller"], refused["dataset"]) == ("ops", "world")
    assert OPS not in log.path.read_text()


def test_the_audit_log_tells_who_drains_and_resumes(channel: grpc.Channel, log: Log):
    admin = AdminServiceStub(channel)
    ops: Any = {"timeout": TIMEOUT, "metadata": bearing(OPS)}
    admin.DrainServer(admin_pb2.DrainServerRequest(), **ops)
    admin.ResumeServer(admin_pb2.ResumeServerRequest(), **ops)
    for event, rpc in (("drain", "DrainServer"), ("resume", "ResumeServer")):
        line = log.event(event)
        assert (line["logger"], line["level"]) == ("negserve_server.audit", "info")
        assert (line["caller"], line["rpc"]) == ("ops", rpc)


def test_the_audit_log_tells_what_sighup_does(served: tuple[ServerProcess, Log]):
    server, log = served
    server.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(log.events("sighup")) == 2)
    files, repository = log.events("sighup")
    assert files["logger"] == repository["logger"] == "negserve_server.audit"
    assert files["message"].startswith("SIGHUP: read again: ")
    assert "changes" not in files
    assert repository["changes"]["g"] == "unchanged"
    assert "caller" not in repository


def test_the_audit_log_tells_who_publishes(client: Client, log: Log):
    factory = client.publish("p", graph(3))
    assert factory.name == "p"
    begun, served_ = (
        log.event("publish_begun", dataset="p"),
        log.event("publish_served", dataset="p"),
    )
    assert begun["caller"] == served_["caller"] == "alice"
    assert begun["call"] == served_["call"]
    with pytest.raises(FingerprintMismatchError):
        client.publish("p", graph(4))
    refused = log.event("publish_refused", dataset="p")
    assert (refused["caller"], refused["reason"]) == ("alice", "FINGERPRINT_MISMATCH")


def test_the_audit_log_tells_of_an_upload_that_its_client_left(channel: grpc.Channel, log: Log):
    requests: queue.SimpleQueue[pb.PublishRequest | None] = queue.SimpleQueue()
    requests.put(announcement(name="left"))
    answers = SamplerServiceStub(channel).Publish(
        iter(requests.get, None), timeout=TIMEOUT, metadata=bearing(ALICE)
    )
    begun = log.event("publish_begun", dataset="left")
    assert not log.events("publish_ended")
    answers.cancel()
    requests.put(None)  # ends the thread that reads it
    line = log.event("publish_ended")
    assert (line["caller"], line["dataset"], line["call"]) == ("alice", "left", begun["call"])


def test_the_audit_log_tells_which_graph_made_room(tmp_path: Path):
    log = Log(tmp_path / "log")
    with (
        server_process(
            "--allow-publish", "--max-publish-graphs", "1", "--publish-keep-seconds", "0",
            "--log-format", "json", log=log.path,
        ) as server,
        Client(server.target) as client,
    ):  # fmt: skip
        client.publish("old", graph(1))
        client.publish("new", graph(2))
        line = log.event("dataset_dropped")
    assert (line["logger"], line["level"]) == ("negserve_server.audit", "warning")
    assert line["dataset"] == "old"
    assert "new" in line["message"]


def test_a_graph_that_a_worker_passes_on_is_of_one_call(tmp_path: Path):
    log = Log(tmp_path / "log")
    with server_process(
        "--workers", "2", "--allow-publish", "--access-log", "--log-format", "json", log=log.path
    ) as server:
        # The system chooses the worker of each connection.
        for _ in range(200):
            options = [("grpc.use_local_subchannel_pool", 1)]
            with grpc.insecure_channel(server.target, options) as channel:
                stub = SamplerServiceStub(channel)
                if stub.GetServer(pb.GetServerRequest(), timeout=TIMEOUT).worker == 1:
                    with pytest.raises(grpc.RpcError):
                        list(stub.Publish(iter([announcement(name="..")]), timeout=TIMEOUT))
                    break
        line = log.event("call_ended", rpc="Publish")
        (asked,) = (
            each
            for each in log.events("call_ended", rpc="GetServer")
            if each["process"] == "worker 2"
        )
        assert (line["process"], line["code"]) == ("worker 1", "INVALID_ARGUMENT")
        assert line["peer"] == asked["peer"]
        assert log.event("publish_refused")["call"] == line["call"]
