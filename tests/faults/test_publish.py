"""Publishing while clients, connections and servers are lost: all of the graph or nothing."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from negserve import Client, FingerprintMismatchError, PublishProgress, UnavailableError
from negserve._graph.mapped_graph import MappedGraph
from tests.faults.conftest import Servers
from tests.support.preloaded import PIPE, PreloadedProcess
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess, server_process

Triples = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
SIZES = {"num_entities": 20_000, "num_relations": 50}
#: 27 chunks, 10 MB on the wire, of which 16 are sent ahead of their answers.
NUM_TRIPLES = 1_750_000
#: When something happens to an upload.
AMID = 300_000


@pytest.fixture(scope="module")
def triples() -> Triples:
    rows = np.arange(NUM_TRIPLES)
    return np.stack(
        [rows % 20_000, rows // 20_000 % 50, (7 * rows + rows // 1_000_000) % 20_000], 1
    )


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def wait_for(what: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


class Reached:
    """A progress callback that acts once, when some triples have arrived."""

    def __init__(self, num_received: int, then: Callable[[], object]) -> None:
        self._num_received = num_received
        self._then = then
        self.happened = False

    def __call__(self, progress: PublishProgress) -> None:
        if progress.num_received >= self._num_received and not self.happened:
            self.happened = True
            assert progress.stage == "uploading"
            self._then()


PUBLISHER = f"""
import os, signal, sys
import numpy as np
from negserve import Client

rows = np.arange({NUM_TRIPLES})
triples = np.stack([rows % 20_000, rows // 20_000 % 50, (7 * rows + rows // 1_000_000) % 20_000], 1)

def on_progress(progress):
    print(progress.stage, progress.num_received, flush=True)
    if progress.num_received >= {AMID} and sys.argv[2] == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)  # all threads

with Client(sys.argv[1]) as client:
    factory = client.publish(
        "big", triples, num_entities=20_000, num_relations=50, on_progress=on_progress
    )
    print(factory.fingerprint, flush=True)
"""


def _is_amid(line: str) -> bool:
    stage, number = line.split()
    return stage == "uploading" and int(number) >= AMID


@contextmanager
def publisher(target: str, *, stops: bool) -> Iterator[tuple[PreloadedProcess, IO[str]]]:
    """Run a process that publishes the graph ``big`` and pauses midway; yield its output, too."""
    process = PreloadedProcess(["-c", PUBLISHER, target, "stop" if stops else "go"], stdout=PIPE)
    assert process.stdout is not None
    try:
        if stops:
            while not _is_amid(process.stdout.readline()):
                assert process.poll() is None
        yield process, process.stdout
    finally:
        process.kill()
        process.wait(20)
        process.stdout.close()


def test_a_killed_upload_leaves_nothing_and_a_waiting_client_takes_over(tmp_path: Path):
    log = tmp_path / "log"
    folder = tmp_path / "published"
    options = ("--allow-publish", "--publish-dir", str(folder), "--threads", "1")
    with (
        server_process(*options, log=log) as server,
        Client(server.target) as client,
        publisher(server.target, stops=True) as (first, _),
        publisher(server.target, stops=False) as (second, told),
    ):
        assert told.readline().startswith("waiting ")
        assert client.list_datasets() == ["world"]
        assert files(folder) == [".lock"]
        first.send_signal(signal.SIGKILL)
        fingerprint = told.read().split()[-1]
        assert second.wait(60) == 0
        assert client.triples_factory("big").fingerprint == fingerprint
        assert files(folder) == [".lock", "big"]
        text = log.read_text()
        assert (
            len(re.findall(rf"upload of big ended after \d+ of {NUM_TRIPLES} triples", text)) == 1
        )
        assert len(re.findall(": published big: ", text)) == 1


def test_a_killed_upload_leaves_the_name_free(tmp_path: Path):
    options = ("--allow-publish", "--publish-dir", str(tmp_path), "--threads", "1")
    other_graph = [[0, 0, 1], [1, 0, 0]]
    with server_process(*options) as server, Client(server.target) as client:
        with publisher(server.target, stops=True):
            with pytest.raises(FingerprintMismatchError):
                client.publish("big", other_graph)
            before = settled_bytes(server)
        wait_for(lambda: can_publish(client, "big", other_graph))
        assert files(tmp_path) == [".lock", "big"]
        assert client.triples_factory("big").num_triples == 2
        assert server.resident_bytes < before + 5_000_000


def settled_bytes(server: ServerProcess) -> int:
    """Return the server's memory once all that a stopped publisher had sent has arrived."""
    sizes = [0]

    def is_settled() -> bool:
        time.sleep(0.3)
        sizes.append(server.resident_bytes)
        return sizes[-1] == sizes[-2]

    wait_for(is_settled)
    return sizes[-1]


def can_publish(client: Client, name: str, triples: list[list[int]]) -> bool:
    try:
        client.publish(name, triples)
    except FingerprintMismatchError:  # the upload of the killed one is under way yet
        return False
    return True


def test_a_cut_connection_is_made_again(tmp_path: Path, triples: Triples):
    log = tmp_path / "log"
    with (
        server_process("--allow-publish", "--threads", "1", log=log) as server,
        tcp_proxy(server.target) as proxy,
        Client(proxy.target, timeout=10) as client,
    ):
        cut = Reached(AMID, proxy.cut)
        factory = client.publish("big", triples, **SIZES, on_progress=cut)
        assert cut.happened
        assert factory.num_triples == NUM_TRIPLES
        assert proxy.num_connections > 1
        text = log.read_text()
        assert "upload of big ended" in text
        assert len(re.findall(": published big: ", text)) == 1


def test_a_server_killed_amid_an_upload_has_nothing_and_gets_it_when_it_is_back(
    tmp_path: Path, servers: Servers, triples: Triples
):
    options = ("--allow-publish", "--publish-dir", str(tmp_path))
    server = servers.start(*options)
    restarted = []

    def restart() -> None:
        server.kill()
        assert files(tmp_path) == [".lock"]
        restarted.append(servers.start(*options, listen=server.target))
        with Client(server.target) as other:
            assert other.list_datasets() == ["world"]

    with Client(server.target) as client:
        factory = client.publish("big", triples, **SIZES, on_progress=Reached(AMID, restart))
        assert restarted
        assert files(tmp_path) == [".lock", "big"]
        restarted[0].kill()
        servers.start(*options, listen=server.target)
        again = client.triples_factory("big")
        assert again.fingerprint == factory.fingerprint
        served = again.open_sampler(num_negs_per_pos=4, filter_splits=("training",))
        assert served.sample(triples[:3], 0).replaced.shape == (3, 4)
        # It is there at once: nothing is uploaded.
        told: list[PublishProgress] = []
        client.publish("big", triples, **SIZES, on_progress=told.append)
        assert told == []


#: Of a graph with labels and type constraints; its upload takes 4 messages of triples, 4 of pairs
#: and some of labels.
ROWS = np.arange(200_000)
WHOLE: dict[str, Any] = {
    "factory": np.stack([ROWS % 20_000, ROWS // 20_000, 7 * ROWS % 20_000], 1),
    **SIZES,
    "type_constraints": {
        slot: np.stack([ROWS // 4_000, ROWS % 4_000], 1)[: 100_000 + 9 * slot_size]
        for slot, slot_size in (("head", 0), ("tail", 1))
    },
    "entity_to_id": {f"{i:040d}": i for i in range(SIZES["num_entities"])},
    "relation_to_id": {f"relation {i}": i for i in range(SIZES["num_relations"])},
}
PARTS = {"triples": 2, "heads": 5, "tails": 7, "labels": 9, "last": 11}


@pytest.mark.parametrize("part", PARTS)
def test_a_server_killed_amid_any_part_has_nothing_and_gets_it_when_it_is_back(
    tmp_path: Path, servers: Servers, part: str
):
    options = ("--allow-publish", "--publish-dir", str(tmp_path), "--threads", "1")
    server = servers.start(*options)
    restarted = []
    uploading: list[PublishProgress] = []

    def watch(progress: PublishProgress) -> None:
        uploading.extend([progress] if progress.stage == "uploading" else [])
        if len(uploading) == PARTS[part] and not restarted:
            server.kill()
            assert part == "last" or files(tmp_path) == [".lock"]
            restarted.append(servers.start(*options, listen=server.target))

    with Client(server.target) as client:
        factory = client.publish("whole", **WHOLE, on_progress=watch)
        assert restarted
        assert len(uploading) >= PARTS[part] + (part != "last") * max(PARTS.values())
        assert files(tmp_path) == [".lock", "whole"]
        restarted[0].kill()
        servers.start(*options, listen=server.target)
        again = client.triples_factory("whole")
        assert again.fingerprint == factory.fingerprint == MappedGraph.of(**WHOLE).fingerprint
        assert again.entity_to_id == WHOLE["entity_to_id"]
        assert again.relation_labels[-1] == "relation 49"
        typed = again.open_sampler(kind="typed", num_negs_per_pos=20)
        negatives = typed.sample([[0, 0, 0]], 0).triples(np.array([[0, 0, 0]]))
        assert negatives.max() < 4_000


@pytest.mark.parametrize("moment", ["complete", "writing", "written"])
def test_a_server_killed_after_the_upload_has_all_or_nothing(
    tmp_path: Path, servers: Servers, triples: Triples, moment: str
):
    options = ("--allow-publish", "--publish-dir", str(tmp_path))
    server = servers.start(*options)
    is_complete = threading.Event()

    def watch(progress: PublishProgress) -> None:
        if progress.num_received == NUM_TRIPLES:
            is_complete.set()

    with (
        ThreadPoolExecutor(1) as thread,
        Client(server.target, timeout=10, patience=0.2) as client,
    ):
        end = thread.submit(client.publish, "big", triples, **SIZES, on_progress=watch)
        assert is_complete.wait(60)
        names = ["big"] if moment == "written" else ["big", ".unfinished-"]
        while moment != "complete" and not any(f.startswith(tuple(names)) for f in files(tmp_path)):
            assert not end.done()
            time.sleep(0.001)
        server.kill()
        end.exception(60)
    server = servers.start(*options, listen=server.target)
    with Client(server.target) as client:
        served = client.list_datasets()
        if served == ["world"]:
            assert moment != "written"
            assert files(tmp_path) == [".lock"]
        else:
            assert moment != "complete"
            assert served == ["world", "big"]
            assert client.triples_factory("big").num_triples == NUM_TRIPLES
            assert files(tmp_path) == [".lock", "big"]


def test_a_silent_uploader_is_cut_and_another_goes_on(tmp_path: Path, triples: Triples):
    log = tmp_path / "log"
    options = ("--allow-publish", "--threads", "1", "--upload-idle-timeout", "5")
    with (
        server_process(*options, log=log) as server,
        publisher(server.target, stops=True),
        Client(server.target) as client,
    ):
        told: list[PublishProgress] = []
        factory = client.publish("big", triples, **SIZES, on_progress=told.append)
        assert factory.num_triples == NUM_TRIPLES
        assert told[0].stage == "waiting"
        assert len(re.findall("upload of big ended", log.read_text())) == 1


def test_a_draining_server_ends_all_streams(servers: Servers, triples: Triples):
    server = servers.start("--allow-publish")
    with (
        publisher(server.target, stops=True),
        Client(server.target, patience=0.3) as client,
        ThreadPoolExecutor(1) as thread,
    ):
        waiting = threading.Event()

        def wait(progress: PublishProgress) -> None:
            assert progress.stage == "waiting"
            waiting.set()

        end = thread.submit(client.publish, "big", triples, **SIZES, on_progress=wait)
        assert waiting.wait(20)
        begin = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - begin < 5
        assert isinstance(end.exception(30), UnavailableError)


def test_all_replicas_get_it_and_one_that_is_away_is_left_out(
    servers: Servers, caplog: pytest.LogCaptureFixture
):
    replicas = [servers.start("--allow-publish") for _ in range(3)]
    targets = [replica.target for replica in replicas]
    positives = np.array([[0, 0, 1], [1, 0, 2]])
    with Client(targets, timeout=5, patience=1) as client:
        replicas[1].kill()
        factory = client.publish("few", positives, num_entities=50)
        assert targets[1] in caplog.text
        sampler = factory.open_sampler(num_negs_per_pos=9, filter_splits=("training",))
        before = sampler.sample(positives, 0)
        replicas[0].kill()
        assert sampler.sample(positives, 0).replaced.tolist() == before.replaced.tolist()
        replicas[2].kill()
        with pytest.raises(UnavailableError):
            client.publish("few", positives, num_entities=50)
