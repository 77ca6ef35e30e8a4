"""The golden files of administrators' calls are complete, and equal to a server's answers."""

from __future__ import annotations

import json
import os
import queue
from pathlib import Path
from typing import Any

import grpc
import pytest

from negserve.v1 import admin_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.proto.case import Case
from tests.proto.cases import MALFORMED
from tests.proto.recording import ADMIN_METHODS, FOLDER, record, text_of
from tests.server.messages import configuration, positives
from tests.support.descriptors import ADMIN_SERVICE, messages_of_rpcs
from tests.support.repositories import ADMIN, CALLER, RepositoryOnDisk, graph, write_tokens
from tests.support.server_process import server_process

ADMIN_FOLDER = FOLDER / "admin"
_TOKEN = (("authorization", f"Bearer {ADMIN}"),)
#: What depends on a path of the server, and so has no case.
WITHOUT_FIELDS = {"problem", "num_other_datasets", "num_other_peers", "other_peers"}
#: What is 0 or empty here, which JSON leaves out.
EMPTY_FIELDS = {"num_worker_restarts", "num_waiting", "num_queued", "address"}
#: In the order of the calls, each on what the ones before have left: the server has the embedded
#: graph, and the repository ``g``; ``h`` is put there before ``reload``, another ``g`` before the
#: second load. From "one stream" on a stream of ``Sample`` is open, until the drain.
CASES: list[tuple[str, Case]] = [
    ("ListVersions", Case("at the start", "two datasets", [pb.ListVersionsRequest()])),
    ("LoadDataset", Case("unchanged", "the same snapshot", [pb.LoadDatasetRequest(name="g")])),
    ("LoadDataset", Case("replaced", "another snapshot", [pb.LoadDatasetRequest(name="g")])),
    ("LoadDataset", Case("unknown", "no such folder", [pb.LoadDatasetRequest(name="none")])),
    (
        "LoadDataset",
        Case("of the start", "the name is the operator's", [pb.LoadDatasetRequest(name="world")]),
    ),
    ("LoadDataset", Case("malformed", "bytes that are no message", [MALFORMED])),
    ("UnloadDataset", Case("unloaded", "streams go on", [pb.UnloadDatasetRequest(name="g")])),
    ("UnloadDataset", Case("again", "it is gone", [pb.UnloadDatasetRequest(name="g")])),
    (
        "UnloadDataset",
        Case("of the start", "the name is the operator's", [pb.UnloadDatasetRequest(name="world")]),
    ),
    ("ReloadDatasets", Case("a new one", "g is back, h is new", [pb.ReloadDatasetsRequest()])),
    ("ReloadDatasets", Case("nothing new", "both stay", [pb.ReloadDatasetsRequest()])),
    ("ListVersions", Case("at the end", "three datasets", [pb.ListVersionsRequest()])),
    (
        "UnloadDataset",
        Case(
            "of another origin",
            "it is of the repository, not published",
            [pb.UnloadDatasetRequest(name="h", origin=pb.DATASET_ORIGIN_PUBLISHED)],
        ),
    ),
    (
        "UnloadDataset",
        Case(
            "at once",
            "its streams end, of which there are none",
            [
                pb.UnloadDatasetRequest(
                    name="h", origin=pb.DATASET_ORIGIN_REPOSITORY, end_streams=True
                )
            ],
        ),
    ),
    (
        "GetServerStatus",
        Case("one stream", "a positive is answered", [pb.GetServerStatusRequest()]),
    ),
    ("DrainServer", Case("drained", "the stream ends", [pb.DrainServerRequest()])),
    ("DrainServer", Case("again", "there is no stream", [pb.DrainServerRequest()])),
    ("GetServerStatus", Case("drained", "no stream is open", [pb.GetServerStatusRequest()])),
    ("ResumeServer", Case("back", "it was drained", [pb.ResumeServerRequest()])),
    ("ResumeServer", Case("again", "it is in service", [pb.ResumeServerRequest()])),
]


def recorded(folder: Path, workers: int) -> dict[str, str]:
    """Make the calls on a real server; return the files by name."""
    repository = RepositoryOnDisk(folder / "graphs")
    repository.path.mkdir()
    repository.put("g", graph(1))
    found: dict[str, list[dict[str, object]]] = {name: [] for name in ADMIN_METHODS}
    with (
        server_process(
            "--dataset", "world", "--repository", str(repository.path),
            "--token-file", str(write_tokens(folder)), "--workers", str(workers),
        ) as server,
        grpc.insecure_channel(server.target) as channel,
    ):  # fmt: skip
        for rpc, case in CASES:
            if (rpc, case.name) == ("LoadDataset", "replaced"):
                repository.put("g", graph(2))
            if case.name == "a new one":
                repository.put("h", graph(3))
            if case.name == "one stream":
                stream = sampling(channel)
            if (rpc, case.name) == ("GetServerStatus", "drained"):
                with pytest.raises(grpc.RpcError):
                    next(stream)
            found[rpc].append(record(channel, rpc, case, _TOKEN))
    return {
        f"{rpc}.json": text_of({"service": ADMIN_SERVICE.full_name, "rpc": rpc}, cases)
        for rpc, cases in found.items()
    }


def sampling(channel: grpc.Channel) -> Any:
    """Open a stream of ``Sample``, and read the answer to a positive."""
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    requests.put(configuration())
    requests.put(positives())
    stream = SamplerServiceStub(channel).Sample(
        iter(requests.get, None),
        timeout=20,
        metadata=(("authorization", f"Bearer {CALLER}"),),
    )
    next(stream), next(stream)
    return stream


@pytest.mark.parametrize("workers", [1, 2])
def test_the_files_are_current(tmp_path: Path, workers: int):
    texts = recorded(tmp_path, workers)
    if os.environ.get("NEGSERVE_WRITE_GOLDEN") == "1":
        ADMIN_FOLDER.mkdir(exist_ok=True)
        for name, text in texts.items():
            (ADMIN_FOLDER / name).write_text(text, encoding="utf-8")
    found = {path.name: path.read_text("utf-8") for path in ADMIN_FOLDER.glob("*.json")}
    assert found == texts, "look into the change; if it is meant, `make golden`"


def test_every_field_has_a_case():
    found = "".join(path.read_text("utf-8") for path in ADMIN_FOLDER.glob("*.json"))
    keys: set[str] = set()

    def visit(value: object) -> None:
        if isinstance(value, dict):
            keys.update(value)
            for each in value.values():
                visit(each)
        elif isinstance(value, list):
            for each in value:
                visit(each)

    for path in ADMIN_FOLDER.glob("*.json"):
        visit(json.loads(path.read_text("utf-8")))
    fields = {
        field.json_name: field.name
        for message in messages_of_rpcs(ADMIN_SERVICE).values()
        for field in message.fields
    }
    assert {name for key, name in fields.items() if key not in keys} == (
        WITHOUT_FIELDS | EMPTY_FIELDS
    )
    for action in ("UNCHANGED", "LOADED", "REPLACED", "UNLOADED"):
        assert f"DATASET_ACTION_{action}" in found
