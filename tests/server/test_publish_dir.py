"""Published graphs as the operator of a server sees them."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve import Client, ServerFaultError
from negserve_server.graph import TriplesFactory
from negserve_server.graph.publish_folder import PublishFolder
from tests.server.test_app import SERVING, health, run
from tests.support.graphs import load
from tests.support.server_process import server_process


def serve(folder: Path, *options: str) -> tuple[int, str]:
    """Start a server that ends with an error; give exit status and what it says."""
    result = run("serve", "--listen", "127.0.0.1:0", "--publish-dir", str(folder), *options)
    assert "listening" not in result.stdout
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


def test_health_is_told_of_a_published_graph(tmp_path: Path):
    options = ("--publish-dir", str(tmp_path))
    with (
        server_process("--allow-publish", *options) as server,
        grpc.insecure_channel(server.target) as channel,
        Client(server.target) as client,
    ):
        with pytest.raises(grpc.RpcError):
            health(channel, "mine")
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="mine"), timeout=30
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        client.publish("mine", [[0, 0, 1]])
        assert next(watch).status == SERVING
        watch.cancel()
    # It stays, also where clients may publish no more.
    with (
        server_process(*options) as server,
        grpc.insecure_channel(server.target) as channel,
        Client(server.target) as client,
    ):
        assert health(channel, "mine") == SERVING
        assert client.list_datasets() == ["world", "mine"]
        assert client.publish("mine", [[0, 0, 1]]).num_triples == 1


def test_without_a_folder_it_is_forgotten():
    with server_process("--allow-publish") as server, Client(server.target) as client:
        client.publish("mine", [[0, 0, 1]])
        assert client.list_datasets() == ["world", "mine"]
        server.kill()
        with server_process("--allow-publish", listen=(server.target,)):
            assert client.list_datasets() == ["world"]


def test_a_damaged_file_is_an_error_before_serving(tmp_path: Path):
    (tmp_path / "mine.npz").write_bytes(b"garbage")
    status, told = serve(tmp_path)
    assert status == 1
    assert f"{tmp_path / 'mine.npz'}: this is no published graph" in told
    assert "remove it and publish it again" in told
    assert (tmp_path / "mine.npz").read_bytes() == b"garbage"


def test_a_folder_with_something_else_is_an_error_before_serving(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("mine")
    status, told = serve(tmp_path, "--allow-publish")
    assert status == 1
    assert f"{tmp_path / 'thesis.tex'}: this is no published graph; move it elsewhere" in told


def test_a_folder_that_another_server_uses_is_an_error(tmp_path: Path):
    with server_process("--publish-dir", str(tmp_path)):
        status, told = serve(tmp_path)
    assert status == 1
    assert f"{tmp_path}: another server keeps its graphs there" in told


def test_a_given_dataset_wins_over_the_same_graph_and_refuses_another(tmp_path: Path):
    folder, file = tmp_path / "published", tmp_path / "toy.tsv"
    file.write_text("a\tr\tb\nb\tr\tc\n")
    kept = PublishFolder(folder)
    kept.save("toy", TriplesFactory({"training": np.array([[0, 0, 1], [1, 0, 2]])}))
    kept.close()
    options = ("--publish-dir", str(folder), "--dataset", f"toy={file}")
    with server_process(*options) as server, Client(server.target) as client:
        assert client.list_datasets() == ["toy"]
        assert client.triples_factory("toy").entity_to_id == {"a": 0, "b": 1, "c": 2}
    file.write_text("a\tr\tb\nb\tr\ta\n")
    status, told = serve(folder, "--dataset", f"toy={file}")
    assert status == 1
    assert "'toy' was published with fingerprint" in told
    assert "rename the dataset, or remove the file" in told


def test_a_folder_that_fails_is_a_fault_for_all_and_leaves_nothing(tmp_path: Path):
    folder = tmp_path / "published"
    triples = load("fb15k-237").mapped_triples
    with (
        server_process("--allow-publish", "--publish-dir", str(folder)) as server,
        Client(server.target) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        shutil.rmtree(folder)
        ends = [threads.submit(client.publish, "mine", triples) for _ in range(8)]
        for end in ends:
            assert isinstance(end.exception(60), ServerFaultError)
        assert client.list_datasets() == ["world"]
        folder.mkdir()
        assert client.publish("mine", triples).num_triples == len(triples)
        assert [file.name for file in folder.iterdir()] == ["mine.npz"]
