"""The repository and the administrators' service, for operators and for strangers."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from negserve import Client, FingerprintMismatchError
from negserve.v1 import admin_pb2 as pb
from negserve.v1 import sampler_pb2
from negserve.v1.admin_pb2_grpc import AdminServiceStub
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import CODE, TIMEOUT, refusal
from tests.server.publishing.test_publish import announcement, chunk
from tests.support import preloaded
from tests.support.repositories import (
    ADMIN,
    CALLER,
    Administrator,
    RepositoryOnDisk,
    graph,
    wait_for,
    write_tokens,
)
from tests.support.server_process import server_process

CALLS: dict[str, Callable[..., Any]] = {
    "LoadDataset": lambda stub, **with_: iter(
        [stub.LoadDataset(pb.LoadDatasetRequest(name="g"), **with_)]
    ),
    "UnloadDataset": lambda stub, **with_: iter(
        [stub.UnloadDataset(pb.UnloadDatasetRequest(name="none"), **with_)]
    ),
    "ReloadDatasets": lambda stub, **with_: stub.ReloadDatasets(
        pb.ReloadDatasetsRequest(), **with_
    ),
    "ListVersions": lambda stub, **with_: stub.ListVersions(pb.ListVersionsRequest(), **with_),
    "GetServerStatus": lambda stub, **with_: iter(
        [stub.GetServerStatus(pb.GetServerStatusRequest(), **with_)]
    ),
    "DrainServer": lambda stub, **with_: iter([stub.DrainServer(pb.DrainServerRequest(), **with_)]),
    "ResumeServer": lambda stub, **with_: iter(
        [stub.ResumeServer(pb.ResumeServerRequest(), **with_)]
    ),
}


def bearing(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Administrator, Path]]:
    """A server with a repository, the embedded graph, both kinds of tokens, and publishing."""
    folder = tmp_path_factory.mktemp("served")
    repository = RepositoryOnDisk(folder / "graphs")
    repository.path.mkdir()
    repository.put("g", graph(1))
    admin_tokens = folder / "admin-tokens"
    admin_tokens.write_text(ADMIN)
    log = folder / "log"
    with server_process(
        "--dataset", "world", "--repository", str(repository.path),
        "--token-file", str(write_tokens(folder)),
        "--allow-publish", "--publish-dir", str(folder / "published"), log=log,
    ) as server:  # fmt: skip
        yield Administrator(server, admin_tokens, log), folder


@pytest.fixture
def channel(served: tuple[Administrator, Path]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served[0].server.target) as opened:
        yield opened


@pytest.fixture
def client(served: tuple[Administrator, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("NEGSERVE_TOKEN", CALLER)
    with Client(served[0].server.target, timeout=20) as opened:
        yield opened


@pytest.mark.parametrize("rpc", CALLS)
def test_only_administrators_tokens_are_taken(
    channel: grpc.Channel, served: tuple[Administrator, Path], rpc: str
):
    def attempt(**with_: Any) -> tuple[Any, str]:
        def answers() -> Iterator[Any]:
            yield from CALLS[rpc](AdminServiceStub(channel), timeout=TIMEOUT, **with_)

        code, reason, _, text = refusal(answers())
        assert CALLER not in text
        return code, reason

    assert attempt() == (CODE.UNAUTHENTICATED, "CREDENTIALS_MISSING")
    wrong = "wrong-0123456789abcdef"
    assert attempt(metadata=bearing(wrong)) == (CODE.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    assert attempt(metadata=bearing(CALLER)) == (CODE.PERMISSION_DENIED, "NOT_PERMITTED")
    assert "calls refused for their credentials" in served[0].log.read_text()
    assert set(CALLS) == {
        method.name for method in pb.DESCRIPTOR.services_by_name["AdminService"].methods
    }


def test_an_administrators_token_is_no_callers(channel: grpc.Channel):
    def answers() -> Iterator[Any]:
        yield from SamplerServiceStub(channel).GetVocabulary(
            sampler_pb2.GetVocabularyRequest(dataset="g"), timeout=TIMEOUT, metadata=bearing(ADMIN)
        )

    code, reason, metadata, _ = refusal(answers())
    assert (code, reason) == (CODE.PERMISSION_DENIED, "NOT_PERMITTED")
    assert metadata == {"caller": "admin", "scope": "sample", "limit": "admin"}


def test_without_a_file_of_tokens_there_is_no_such_service(tmp_path: Path):
    RepositoryOnDisk(tmp_path).put("g", graph(1))
    with (
        server_process("--repository", str(tmp_path)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        services = ProtoReflectionDescriptorDatabase(channel).get_services()
        assert "negserve.v1.AdminService" not in services
        for call in CALLS.values():
            with pytest.raises(grpc.RpcError) as caught:
                list(call(AdminServiceStub(channel), timeout=TIMEOUT, metadata=bearing(ADMIN)))
            assert caught.value.code() == CODE.UNIMPLEMENTED
        with Client(server.target, timeout=20) as client:
            assert client.list_datasets() == ["g"], "the embedded graph only where it is asked for"


def test_the_command_lists_versions(served: tuple[Administrator, Path]):
    administrator, _ = served
    listed = {each["name"]: each for each in administrator.json("list")}
    assert listed["g"]["origin"] == "DATASET_ORIGIN_REPOSITORY"
    assert listed["g"]["num_triples"] == str(graph(1).num_triples)
    assert listed["world"]["origin"] == "DATASET_ORIGIN_COMMAND_LINE"
    status, output, _ = administrator.run("list")
    assert status == 0
    assert f"current  {graph(1).fingerprint}" in output


@pytest.mark.parametrize(
    ("command", "name", "said"),
    [
        ("remove", "none", "there is no dataset 'none'"),
        ("load", "none", "there is no dataset 'none'; the repository has g"),
        ("load", "../served", "there is no dataset"),
        ("load", "world", "that of a dataset that the operator gave at the start"),
        ("unload", "world", "that of a dataset that the operator gave at the start"),
        ("unload", "none", "there is no dataset 'none'"),
    ],
)
def test_names_that_can_not_be_changed(
    served: tuple[Administrator, Path], command: str, name: str, said: str
):
    status, _, errors = served[0].run(command, name)
    assert (status, said in errors) == (1, True), errors


def test_a_published_graph_keeps_its_name_until_it_is_unloaded(
    served: tuple[Administrator, Path], client: Client
):
    administrator, folder = served
    repository = RepositoryOnDisk(folder / "graphs", 100)
    client.publish("p", graph(7))
    repository.put("p", graph(8))
    try:
        status, output, _ = administrator.run("reload")
        assert status == 1
        assert "a client has published" in output
        assert client.triples_factory("p").fingerprint == graph(7).fingerprint
        assert (folder / "published" / "p").exists()
        status, _, errors = administrator.run("unload", "p")
        assert (status, "negserve-server admin remove" in errors) == (1, True)
        administrator.json("remove", "p")
        (change,) = administrator.json("load", "p")
        assert change["fingerprint"] == graph(8).fingerprint
        assert not (folder / "published" / "p").exists(), "removed before the load"
        # Now the name is the operator's.
        with pytest.raises(FingerprintMismatchError):
            client.publish("p", graph(7))
        status, _, errors = administrator.run("remove", "p")
        assert (status, "negserve-server admin unload" in errors) == (1, True)
        administrator.json("unload", "p")
    finally:
        repository.remove("p")


def start(*options: str) -> tuple[int, str]:
    """Start a server that can't start; return its exit status and errors."""
    command = ["-m", "negserve_server.cli", "serve", "--listen", "127.0.0.1:0", *options]
    done = preloaded.run(command, timeout=60)
    return done.returncode, done.stderr


def test_a_name_given_twice_is_refused_at_the_start(tmp_path: Path):
    RepositoryOnDisk(tmp_path).put("world", graph(1))
    status, said = start("--dataset", "world", "--repository", str(tmp_path))
    assert status == 1
    assert "two datasets of one name: world of --dataset, also in" in said


def test_a_repository_that_is_not_there(tmp_path: Path):
    status, said = start("--repository", str(tmp_path / "none"))
    assert status == 1
    assert "the repository can't be read: No such file or directory" in said


def test_what_is_no_dataset_in_a_repository(tmp_path: Path):
    """Files, hidden folders, unfinished builds and illegal names are left alone; links count."""
    path = tmp_path / "graphs"
    path.mkdir()
    repository = RepositoryOnDisk(path)
    for name in ("good", ".hidden", "good.tmp-1234", "b d"):
        repository.put(name, graph(1))
    (path / "folder").mkdir()
    (path / "file").write_text("no snapshot")
    (path / "loop").symlink_to("loop")
    (path / "linked").symlink_to("good")
    repository.put("broken", graph(2))
    repository.truncate("broken")
    # As on a volume that is mounted read-only.
    for folder, _, files in os.walk(path):
        for file in (Path(folder) / name for name in files):
            if not file.is_symlink():
                file.chmod(0o444)
        Path(folder).chmod(0o555)
    log = tmp_path / "log"
    before = sorted(path.rglob("*"))
    try:
        with (
            server_process("--repository", str(path), log=log) as server,
            Client(server.target, timeout=20) as client,
        ):
            assert client.list_datasets() == ["good", "linked"]
        assert sorted(path.rglob("*")) == before
    finally:
        for folder, _, _ in os.walk(path):
            Path(folder).chmod(0o755)
    assert "dataset broken is not served" in log.read_text()
    assert "b d is not served" in log.read_text()


def test_a_graph_that_is_loaded_while_a_client_publishes_its_name(tmp_path: Path):
    """The operator's graph is served, the client is told, and nothing of its graph is kept."""
    path, tokens = tmp_path / "graphs", tmp_path / "admin-tokens"
    path.mkdir()
    tokens.write_text(ADMIN)
    repository = RepositoryOnDisk(path)
    log, published = tmp_path / "log", tmp_path / "published"
    with (
        server_process(
            "--repository", str(path), "--token-file",
            str(write_tokens(tmp_path, anybody=True)), "--allow-publish",
            "--publish-dir", str(published), log=log,
        ) as server,
        Client(server.target, timeout=20) as client,
    ):  # fmt: skip
        administrator = Administrator(server, tokens, log)
        with grpc.insecure_channel(server.target) as channel:
            requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
            answers = SamplerServiceStub(channel).Publish(iter(requests.get, None), timeout=TIMEOUT)
            requests.put(announcement(name="p"))
            next(answers)
            requests.put(chunk(0, 10))
            next(answers)
            repository.put("p", graph(8))
            administrator.json("load", "p")
            requests.put(chunk(10, 40))
            requests.put(None)
            code, reason, metadata, _ = refusal(answers)
        assert (code, reason) == (CODE.FAILED_PRECONDITION, "FINGERPRINT_MISMATCH")
        assert metadata["limit"] == graph(8).fingerprint
        assert client.triples_factory("p").fingerprint == graph(8).fingerprint
        # The end of the build is behind that of the next one, whose thread is the same.
        assert client.publish("q", graph(7)).fingerprint == graph(7).fingerprint
        wait_for(lambda: sorted(os.listdir(published)) == [".lock", "q"])
        assert "unforeseen" not in log.read_text()
