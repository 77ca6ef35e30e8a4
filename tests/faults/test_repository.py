"""Datasets that come, go and are replaced while streams run: each stream ends on its own graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve import (
    Client,
    EpochConfig,
    FingerprintMismatchError,
    SamplerConfig,
    UnknownDatasetError,
)
from negserve_server.graph import TriplesFactory
from tests.support.repositories import (
    ADMIN,
    Administrator,
    RepositoryOnDisk,
    graph,
    wait_for,
    write_tokens,
)
from tests.support.scraping import scraper_of
from tests.support.server_process import ServerProcess, server_process

#: 128 KB a batch: an epoch of 3000 positives is far more than what lies ready at the client.
OPTIONS: dict[str, Any] = {"num_negs_per_pos": 2000, "filter_splits": ("training",), "seed": 5}
SAMPLER = SamplerConfig(**OPTIONS)
EPOCH = EpochConfig(batch_size=32)


class Lived:
    """A server with a repository, and what a test does to both."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.repository = RepositoryOnDisk(folder / "graphs")
        self.repository.path.mkdir()
        self.token_file = folder / "admin-tokens"
        self.token_file.write_text(f"{ADMIN}\n")
        self._tokens = write_tokens(folder, anybody=True)
        self.log = folder / "log"
        self._stack = stack

    def serve(self, *options: str) -> Administrator:
        """Start the server, with the datasets that are there; return its administrator."""
        self.log.touch()
        server = self._stack.enter_context(
            server_process(
                "--repository", str(self.repository.path),
                "--token-file", str(self._tokens), "--threads", "1", *options,
                log=self.log,
            )
        )  # fmt: skip
        return Administrator(server, self.token_file, self.log)

    def client(self, server: ServerProcess) -> Client:
        """Open a client."""
        return self._stack.enter_context(Client(server.target, timeout=20, patience=20))


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[Lived]:
    with ExitStack() as stack:
        yield Lived(tmp_path, stack)


def mappings(server: ServerProcess, inode: int) -> int:
    """Count the mappings of a server whose file has an inode number."""
    lines = Path(f"/proc/{server.process.pid}/maps").read_text().splitlines()
    return sum(line.split()[4] == str(inode) for line in lines)


def samples(factory: TriplesFactory, position: int) -> np.ndarray:  # type: ignore[type-arg]
    """Draw in process what a server has to draw."""
    positives = factory.mapped_triples[:64]
    return factory.sampler(SAMPLER).sample(positives, position).triples(positives)


def reload_by_rpc(administrator: Administrator) -> None:
    status, _, errors = administrator.run("reload")
    assert status == 0, errors


def reload_by_signal(administrator: Administrator) -> None:
    administrator.hang_up()


@pytest.mark.parametrize("reload", [reload_by_rpc, reload_by_signal])
def test_streams_end_on_their_graph_when_it_is_replaced(
    lived: Lived, reload: Callable[[Administrator], None]
):
    old, new = graph(1), graph(2)
    lived.repository.put("g", old)
    inode = (lived.repository.path / "g" / "training.heads.npy").stat().st_ino
    administrator = lived.serve("--metrics-listen", "127.0.0.1:0")
    server = administrator.server
    scraper = scraper_of(server, lived.log)
    client = lived.client(server)
    factory = client.triples_factory("g")
    assert factory.fingerprint == old.fingerprint
    positives = old.mapped_triples[:64]
    sampler = factory.open_sampler(**OPTIONS)
    assert np.array_equal(sampler.sample(positives, 0).triples(positives), samples(old, 0))
    epoch = iter(factory.epochs(SAMPLER, EPOCH, prefetch=1))
    batches = [next(epoch)]
    assert mappings(server, inode) == 1

    lived.repository.put("g", new)
    reload(administrator)

    # New streams see the new graph, and who expects the old one is told.
    again = lived.client(server).triples_factory("g")
    assert again.fingerprint == new.fingerprint
    drawn = again.open_sampler(**OPTIONS).sample(new.mapped_triples[:64], 9)
    assert np.array_equal(drawn.triples(new.mapped_triples[:64]), samples(new, 9))
    with pytest.raises(FingerprintMismatchError) as caught:
        factory.contains(positives, ("training",))
    assert caught.value.metadata["limit"] == new.fingerprint
    # The streams of before go on, over the old graph, which is listed.
    assert np.array_equal(sampler.sample(positives, 70).triples(positives), samples(old, 70))
    versions = administrator.json("list")
    assert [(each["fingerprint"], each["is_current"]) for each in versions] == [
        (new.fingerprint, True),
        (old.fingerprint, False),
    ]
    assert versions[1]["num_streams"] == 2
    info = {"dataset": "g", "origin": "repository"}
    of_old = {"fingerprint": old.fingerprint, "serial": "1", **info}
    of_new = {"fingerprint": new.fingerprint, "serial": "2", **info}
    scraper.wait(1, "negserve_dataset_info", current="no", **of_old)
    scraper.wait(0, "negserve_dataset_info", current="yes", **of_old)
    scraper.wait(1, "negserve_dataset_info", current="yes", **of_new)
    assert mappings(server, inode) == 1
    batches += itertools.islice(epoch, len(old.columns["training"]) // 32)
    whole = old.epoch(SAMPLER, EPOCH)
    expected = [whole.batch(index) for index in range(len(whole))]
    assert len(batches) == len(expected)
    for batch, right in zip(batches, expected, strict=True):
        assert np.array_equal(batch.positives, right.positives)
        assert np.array_equal(batch.negatives.replaced, right.negatives.replaced)
    # With its last stream its memory goes.
    epoch.close()
    client.close()
    wait_for(lambda: mappings(server, inode) == 0)
    wait_for(lambda: len(administrator.json("list")) == 1)
    scraper.wait(0, "negserve_dataset_info", current="no", **of_old)
    assert "last stream on an earlier version has ended" in lived.log.read_text()


def test_load_and_unload_by_name(lived: Lived):
    administrator = lived.serve("--dataset", "world")
    client = lived.client(administrator.server)
    assert client.list_datasets() == ["world"]
    lived.repository.put("g", graph(1))
    lived.repository.put("h", graph(2))
    (change,) = administrator.json("load", "g")
    assert (change["action"], change["fingerprint"]) == (
        "DATASET_ACTION_LOADED",
        graph(1).fingerprint,
    )
    assert client.list_datasets() == ["world", "g"]
    (change,) = administrator.json("load", "g")
    assert change["action"] == "DATASET_ACTION_UNCHANGED"
    sampler = client.triples_factory("g").open_sampler(**OPTIONS)
    positives = graph(1).mapped_triples[:64]
    sampler.sample(positives, 0)
    (change,) = administrator.json("unload", "g")
    assert change["action"] == "DATASET_ACTION_UNLOADED"
    # The running stream goes on, new ones are refused.
    assert np.array_equal(sampler.sample(positives, 3).triples(positives), samples(graph(1), 3))
    with pytest.raises(UnknownDatasetError):
        client.triples_factory("g")
    assert client.list_datasets() == ["world"]
    # A reload makes it again what is in the folder.
    reload_by_rpc(administrator)
    assert client.list_datasets() == ["world", "g", "h"]
    lived.repository.remove("g")
    changes = administrator.json("reload")
    assert [(each["name"], each["action"]) for each in changes] == [
        ("g", "DATASET_ACTION_UNLOADED"),
        ("h", "DATASET_ACTION_UNCHANGED"),
    ]
    assert client.list_datasets() == ["world", "h"]


def newer_format(lived: Lived) -> None:
    path = lived.repository.path / "g" / "manifest.json"
    text = path.read_text()
    path.unlink()
    path.write_text(text.replace('"version": 1', '"version": 2', 1))


def truncated(lived: Lived) -> None:
    lived.repository.truncate("g")


def without_manifest(lived: Lived) -> None:
    path = lived.repository.path / "g" / "manifest.json"
    text = path.read_text()
    path.unlink()
    path.write_text(text[: len(text) // 2])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (truncated, "training.heads"),
        (newer_format, "upgrade negserve"),
        (without_manifest, "manifest.json"),
    ],
)
def test_a_broken_replacement_leaves_the_old_one_serving(
    lived: Lived, spoil: Callable[[Lived], None], said: str
):
    lived.repository.put("g", graph(1))
    administrator = lived.serve()
    client = lived.client(administrator.server)
    sampler = client.triples_factory("g").open_sampler(**OPTIONS)
    positives = graph(1).mapped_triples[:64]
    sampler.sample(positives, 0)
    lived.repository.put("g", graph(2))
    lived.repository.put("h", graph(3))
    spoil(lived)
    status, output, errors = administrator.run("load", "g")
    assert status == 1
    assert said in errors
    assert graph(1).fingerprint in errors, "what is served still"
    assert output == ""
    status, output, _ = administrator.run("reload")
    assert status == 1
    failed, loaded = output.splitlines()
    assert failed.split()[:3] == ["g", "failed", graph(1).fingerprint]
    assert said in failed
    assert loaded.split()[:2] == ["h", "loaded"]
    log = administrator.hang_up()
    assert f"dataset g stays on {graph(1).fingerprint}" in log
    assert said in log
    assert client.triples_factory("g").fingerprint == graph(1).fingerprint
    assert np.array_equal(sampler.sample(positives, 8).triples(positives), samples(graph(1), 8))
    # Mended, it is loaded.
    lived.repository.put("g", graph(2))
    (change,) = administrator.json("load", "g")
    assert change["action"] == "DATASET_ACTION_REPLACED"
    assert change["previous_fingerprint"] == graph(1).fingerprint


def test_health_follows(lived: Lived):
    administrator = lived.serve("--dataset", "world")
    with grpc.insecure_channel(administrator.server.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="g"), timeout=120)
        states = health_pb2.HealthCheckResponse
        assert next(watch).status == states.SERVICE_UNKNOWN
        lived.repository.put("g", graph(1))
        reload_by_rpc(administrator)
        assert next(watch).status == states.SERVING
        lived.repository.put("g", graph(2))
        (change,) = administrator.json("load", "g")
        assert change["action"] == "DATASET_ACTION_REPLACED"
        administrator.json("unload", "g")
        assert next(watch).status == states.SERVICE_UNKNOWN, "a replacement is no interruption"
        watch.cancel()


def test_a_server_killed_while_it_reloads_serves_what_is_in_the_folder(lived: Lived):
    for number in range(12):
        lived.repository.put(f"g{number:02}", graph(number, 60_000))
    administrator = lived.serve()
    for number in range(12):
        lived.repository.put(f"g{number:02}", graph(100 + number, 60_000))
    administrator.server.process.send_signal(1)
    wait_for(lambda: "g03 replaced" in lived.log.read_text())
    administrator.server.kill()
    before = sorted(path.name for path in lived.repository.path.iterdir())
    again = lived.serve()
    assert sorted(path.name for path in lived.repository.path.iterdir()) == before
    served = {each["name"]: each["fingerprint"] for each in again.json("list")}
    assert served == {
        f"g{number:02}": graph(100 + number, 60_000).fingerprint for number in range(12)
    }
