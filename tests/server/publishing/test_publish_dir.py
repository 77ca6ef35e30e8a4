"""Published graphs, for the operator of a server."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve import Client, StorageFailedError
from negserve_server.graph import TriplesFactory
from negserve_server.publishing.publish_folder import PublishFolder
from tests.server.test_app import SERVING, health, run
from tests.support.graphs import load
from tests.support.server_process import server_process


def serve(folder: Path, *options: str) -> tuple[int, str]:
    """Start a server that fails; return its exit status and output."""
    result = run("serve", "--listen", "127.0.0.1:0", "--publish-dir", str(folder), *options)
    assert "listening" not in result.stdout
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


def test_a_published_graph_has_a_health_service(tmp_path: Path):
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


def test_without_a_folder_published_graphs_are_lost():
    with server_process("--allow-publish") as server, Client(server.target) as client:
        client.publish("mine", [[0, 0, 1]])
        assert client.list_datasets() == ["world", "mine"]
        server.kill()
        with server_process("--allow-publish", listen=(server.target,)):
            assert client.list_datasets() == ["world"]


def published(folder: Path, name: str, graph: TriplesFactory) -> Path:
    """Put a graph where a server keeps it."""
    kept = PublishFolder(folder)
    kept.save(name, graph)
    kept.close()
    return folder / name


def truncate(place: Path) -> None:
    file = place / "training.tails.npy"
    file.write_bytes(file.read_bytes()[:-1])


def alter(place: Path) -> None:
    file = place / "training.tails.npy"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def cut_manifest(place: Path) -> None:
    file = place / "manifest.json"
    file.write_bytes(file.read_bytes()[:300])


def pipe_in_place(place: Path) -> None:
    (place / "training.tails.npy").unlink()
    os.mkfifo(place / "training.tails.npy")


def pipe_as_manifest(place: Path) -> None:
    (place / "manifest.json").unlink()
    os.mkfifo(place / "manifest.json")


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (truncate, "array training.tails has 129 bytes, the manifest says 130: it is truncated"),
        (alter, "array training.tails was altered: its SHA-256 is"),
        (cut_manifest, "manifest.json can't be read"),
        (pipe_in_place, "array training.tails can't be read (it is no plain file)"),
        (pipe_as_manifest, "manifest.json can't be read ([Errno 22] it is no plain file)"),
    ],
)
def test_a_damaged_graph_is_named_and_stops_nothing(
    tmp_path: Path, harm: Callable[[Path], None], said: str
):
    folder, log = tmp_path / "published", tmp_path / "log"
    triples = [[0, 0, 1], [1, 0, 2]]
    published(folder, "good", TriplesFactory({"training": np.array(triples)}))
    harm(published(folder, "mine", TriplesFactory({"training": np.array(triples)})))
    options = ("--allow-publish", "--publish-dir", str(folder))
    with server_process(*options, log=log) as server, Client(server.target) as client:
        assert client.list_datasets() == ["world", "good"]
        told = log.read_text()
        assert f"published dataset mine is not served: {folder / 'mine'}: {said}" in told
        # Who holds the graph mends it.
        assert client.publish("mine", triples).num_triples == 2
    with server_process(*options) as server, Client(server.target) as client:
        assert client.list_datasets() == ["world", "good", "mine"]


def test_foreign_files_are_kept_and_reported(tmp_path: Path):
    folder, log = tmp_path / "published", tmp_path / "log"
    published(folder, "toy", TriplesFactory({"training": np.array([[0, 0, 1], [1, 0, 2]])}))
    (folder / "toy" / ".nfs000000000000beef").write_text("open elsewhere")
    (folder / "thesis.tex").write_text("mine")
    (folder / ".nfs000000000000dead").write_text("open elsewhere")
    (folder / ".unfinished-folder").mkdir()
    (folder / ".unfinished-folder" / "training.tails.npy").write_text("left by a killed server")
    os.mkfifo(folder / ".unfinished-folder" / "pipe")
    (folder / ".unfinished-file").write_text("left by a killed server")
    (folder / "lost+found").mkdir()
    (folder / "folder").mkdir()
    (folder / "folder" / "photo.jpg").write_text("mine")
    (folder / "earlier.npz").write_text("of an earlier release")
    (folder / "gone").symlink_to(folder / "nowhere")
    (folder / "round").symlink_to(folder / "round")
    os.mkfifo(folder / "pipe")
    (folder / "-").write_text("no legal name")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        with (
            server_process("--allow-publish", "--publish-dir", str(folder), log=log) as server,
            Client(server.target) as client,
        ):
            assert client.list_datasets() == ["world", "toy"]
            # What has the name of a graph and is none is not removed for it.
            for name in ("folder", "pipe", "gone"):
                with pytest.raises(StorageFailedError, match="something else has the name"):
                    client.publish(name, [[0, 0, 1]])
            assert client.list_datasets() == ["world", "toy"]
    told = log.read_text()
    for name in ("thesis.tex", ".nfs000000000000dead", "lost+found", "folder", "pipe", "-",
                 "earlier.npz", "gone", "round", "socket"):  # fmt: skip
        assert f"{folder / name} is ignored: not a published graph" in told
    assert (folder / "thesis.tex").read_text() == "mine"
    assert (folder / "folder" / "photo.jpg").read_text() == "mine"
    assert not list(folder.glob(".unfinished-*"))


def test_a_full_disk_is_told_to_all_who_publish_and_the_server_goes_on(tmp_path: Path):
    folder, log = tmp_path / "published", tmp_path / "log"
    # A limit on the size of files is what a full disk is for one who is no root.
    program = tmp_path / "limited.py"
    program.write_text(
        "import resource, runpy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))\n"
        "runpy.run_module('negserve_server.cli', run_name='__main__', alter_sys=True)\n"
    )
    triples = load("fb15k-237").mapped_triples  # 272,115 triples
    with (
        server_process(
            *("--allow-publish", "--publish-dir", str(folder)),
            module="limited",
            env={"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
            log=log,
        ) as server,
        Client(server.target) as client,
        ThreadPoolExecutor(4) as threads,
    ):
        ends = [threads.submit(client.publish, "mine", triples) for _ in range(4)]
        for end in ends:
            error = end.exception(60)
            assert isinstance(error, StorageFailedError)
            assert error.reason == "STORAGE_FAILED"
            assert "File too large" in str(error)
            assert error.metadata == {"value": "File too large"}
        assert client.list_datasets() == ["world"]
        assert [file.name for file in folder.iterdir()] == [".lock"]
        assert client.publish("small", [[0, 0, 1]]).num_triples == 1
        assert client.list_datasets() == ["world", "small"]
    assert "published dataset mine can't be saved: " in log.read_text()
    assert "Traceback" not in log.read_text()


def test_a_folder_that_another_server_uses_is_an_error(tmp_path: Path):
    with server_process("--publish-dir", str(tmp_path)):
        status, told = serve(tmp_path)
    assert status == 1
    assert f"{tmp_path}: another server uses this folder" in told


def test_a_given_dataset_wins_over_the_same_graph_and_refuses_another(tmp_path: Path):
    folder, file = tmp_path / "published", tmp_path / "toy.tsv"
    file.write_text("a\tr\tb\nb\tr\tc\n")
    published(folder, "toy", TriplesFactory({"training": np.array([[0, 0, 1], [1, 0, 2]])}))
    options = ("--publish-dir", str(folder), "--dataset", f"toy={file}")
    with server_process(*options) as server, Client(server.target) as client:
        assert client.list_datasets() == ["toy"]
        assert client.triples_factory("toy").entity_to_id == {"a": 0, "b": 1, "c": 2}
    file.write_text("a\tr\tb\nb\tr\ta\n")
    status, told = serve(folder, "--dataset", f"toy={file}")
    assert status == 1
    assert "'toy' was published with fingerprint" in told
    assert "rename the dataset, or remove the folder" in told


def test_a_folder_that_fails_is_told_to_all_and_leaves_nothing(tmp_path: Path):
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
            assert isinstance(end.exception(60), StorageFailedError)
        assert client.list_datasets() == ["world"]
        folder.mkdir()
        assert client.publish("mine", triples).num_triples == len(triples)
        assert [file.name for file in folder.iterdir()] == ["mine"]
