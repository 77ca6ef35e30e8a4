"""The client of ``examples/node`` against real servers: the same bytes as the Python client's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negserve import Client, EpochConfig, SamplerConfig
from tests.support.children.lying_server import lying_server, setting
from tests.support.graphs import load
from tests.support.programs.node import FOLDER
from tests.support.programs.proxies import http_proxy
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess, server_process

_SECONDS = 100
_NOWHERE = "127.0.0.1:1"
MOST = 2**32 - 1


pytestmark = pytest.mark.usefixtures("node_program")


def node(*arguments: str, target: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", FOLDER / "build" / "src" / "main.js", *arguments],
        input=stdin, capture_output=True, text=True, timeout=_SECONDS,
        env={"PATH": os.environ["PATH"], "NEGSERVE_TARGET": target},
    )  # fmt: skip


def output(*arguments: str, target: str, stdin: str = "") -> str:
    done = node(*arguments, target=target, stdin=stdin)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def test_its_unit_tests_pass():
    done = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "build/test/"],
        cwd=FOLDER, capture_output=True, text=True, timeout=_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    (passed,) = [line for line in done.stdout.splitlines() if line.startswith("# pass ")]
    assert int(passed.removeprefix("# pass ")) > 10


def test_datasets(server: ServerProcess, client: Client):
    lines = output("datasets", target=server.target).splitlines()
    assert [line.split("\t")[0] for line in lines] == client.list_datasets()
    world = load("world")
    assert f"{world.num_entities} entities" in lines[0]
    assert lines[0].endswith(world.fingerprint)


def test_server(server: ServerProcess, client: Client):
    lines = output("server", target=server.target).splitlines()
    info = client.server_info()
    assert lines[0] == f"{info.version}\tsampling function 2"
    assert f"maxUnansweredMessages\t{info.limits.max_unanswered_messages}" in lines


@pytest.fixture(scope="module")
def narrow() -> Iterator[ServerProcess]:
    """A server with low limits, so that clients divide their batches."""
    limits = ("--max-negatives-per-positive", "100", "--max-negatives-per-message", "2000")
    with server_process(*limits) as running:
        yield running


SAMPLERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "bernoulli": (
        ["--kind", "bernoulli", "--split", "training", "--seed", str(2**64 - 1)],
        {"kind": "bernoulli", "filter_splits": ("training",), "seed": 2**64 - 1},
    ),
    "three slots": (
        ["--slot", "head", "--slot", "relation", "--slot", "tail"],
        {"corruption_scheme": ("head", "relation", "tail")},
    ),
    "mask": (
        ["--kind", "pseudotyped", "--split", "training", "--split", "testing", "--mask"],
        {
            "kind": "pseudotyped",
            "filter_splits": ("training", "testing"),
            "filter_mode": "mask",
        },
    ),
    "distinct": (["--kind", "typed", "--distinct"], {"kind": "typed", "distinct": True}),
    "chunks": (
        ["--kind", "degree", "--chunk-size", "7"],
        {"kind": "degree", "chunk_size": 7},
    ),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples(narrow: ServerProcess, name: str):
    options, fields = SAMPLERS[name]
    graph, k, position = load("world"), 90, 2**63 + 5
    entities, relations = list(graph.entity_to_id), list(graph.relation_to_id)
    positives = graph.splits["testing"]

    def labels(triple: list[int]) -> list[str]:
        return [entities[triple[0]], relations[triple[1]], entities[triple[2]]]

    stdin = "".join("\t".join(labels(row)) + "\n" for row in positives.tolist())
    with tcp_proxy(narrow.target) as proxy:
        # The labels come first, in some 27,000 bytes, then negatives in 14 messages.
        proxy.cut_after(35_000)
        lines = output(
            "sample", "-k", str(k), "--position", str(position), *options,
            target=proxy.target, stdin=stdin,
        ).splitlines()  # fmt: skip
        assert proxy.struck.is_set()
    with Client(narrow.target) as client:
        sampler = client.triples_factory("world").open_sampler(num_negs_per_pos=k, **fields)
        batch = sampler.sample(positives, position)
    mask = np.ones((len(positives), k), dtype=np.bool_) if batch.mask is None else batch.mask
    assert [json.loads(line) for line in lines] == [
        {
            "position": position + i,
            "positive": labels(positives[i].tolist()),
            "negatives": [labels(triple) for triple in negatives],
            "mask": mask[i].tolist(),
        }
        for i, negatives in enumerate(batch.triples(positives).tolist())
    ]


EPOCHS: dict[str, tuple[list[str], SamplerConfig, EpochConfig]] = {
    "filtered": (
        ["--kind", "bernoulli", "-k", "128", "--split", "training", "--batch-size", "64"],
        SamplerConfig(kind="bernoulli", num_negs_per_pos=128, filter_splits=("training",)),
        EpochConfig(batch_size=64),
    ),
    "chunks of a rank": (
        ["-k", "40", "--split", "training", "--mask", "--chunk-size", "100", "--seed", "3",
         "--rank", "1", "--world-size", "2", "--tail", "wrap", "--batch-size", "100"],
        SamplerConfig(num_negs_per_pos=40, filter_splits=("training",), filter_mode="mask",
                      chunk_size=100, seed=3),
        EpochConfig(batch_size=100, rank=1, world_size=2, tail="wrap"),
    ),
    "worker": (
        ["-k", "200", "--batch-size", "64", "--worker", "1", "--num-workers", "3"],
        SamplerConfig(num_negs_per_pos=200),
        EpochConfig(batch_size=64, worker=1, num_workers=3),
    ),
}  # fmt: skip


def expected(target: str, sampler: SamplerConfig, config: EpochConfig, state: Any) -> bytes:
    """Return the expected content of ``--out``, from the Python client."""
    with Client(target) as client:
        stream = client.triples_factory("world").epochs(sampler, config)
        stream.load_state_dict(state)
        pieces = []
        for batch in stream:
            negatives, mask = batch.negative_triples(), batch.negatives.mask
            pieces.append(negatives.astype("<u4").tobytes())
            pieces.append(np.ones(negatives.shape[:2], "u1") if mask is None else mask)
        return b"".join(bytes(piece) for piece in pieces)


@pytest.mark.parametrize("name", EPOCHS)
@pytest.mark.parametrize("state", [{"epoch": 0, "start": 0}, {"epoch": 2**40, "start": 3001}])
def test_epochs(server: ServerProcess, tmp_path: Path, name: str, state: dict[str, int]):
    options, sampler, config = EPOCHS[name]
    where = [text for key, value in state.items() for text in (f"--{key}", str(value))]
    out = tmp_path / "epoch"
    printed = output("epoch", *options, *where, "--out", str(out), target=server.target)
    assert out.read_bytes() == expected(server.target, sampler, config, state)
    assert f"{len(out.read_bytes()) // (13 * sampler.num_negs_per_pos)} positives, " in printed


@pytest.mark.parametrize(("name", "num_bytes"), [("chunks of a rank", 5_000), ("worker", 500_000)])
def test_an_epoch_goes_on_when_a_connection_is_cut(
    server: ServerProcess, tmp_path: Path, name: str, num_bytes: int
):
    options, sampler, config = EPOCHS[name]
    out = tmp_path / "epoch"
    with tcp_proxy(server.target) as proxy:
        proxy.cut_after(num_bytes)
        output("epoch", *options, "--out", str(out), target=proxy.target)
        assert proxy.struck.is_set()
    assert out.read_bytes() == expected(server.target, sampler, config, {"epoch": 0, "start": 0})


def test_an_epoch_goes_on_when_servers_are_killed(tmp_path: Path):
    options, sampler, config = EPOCHS["filtered"]
    out = tmp_path / "epoch"
    kills = (700, 300_000, 500_000)
    with server_process() as first, tcp_proxy(first.target) as proxy:
        undisturbed = expected(first.target, sampler, config, {"epoch": 0, "start": 0})
        proxy.cut_after(kills[0], first.kill)
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(
                output, "epoch", *options, "--out", str(out), target=proxy.target
            )
            assert proxy.struck.wait(_SECONDS)
            # Again at the same address, then at another one. Nothing passes before a cut is due.
            proxy.lead_to(_NOWHERE)
            with server_process(listen=(first.target,)) as second:
                proxy.cut_after(kills[1], second.kill)
                proxy.lead_to(second.target)
                assert proxy.struck.wait(_SECONDS)
            with server_process() as third, server_process() as last:
                proxy.cut_after(kills[2], third.kill)
                proxy.lead_to(third.target)
                assert proxy.struck.wait(_SECONDS)
                proxy.lead_to(last.target)
                running.result(_SECONDS)
    assert out.read_bytes() == undisturbed
    assert proxy.num_connections > len(kills)


def test_an_epoch_goes_on_when_a_connection_falls_silent(server: ServerProcess, tmp_path: Path):
    options, sampler, config = EPOCHS["filtered"]
    out = tmp_path / "epoch"
    with tcp_proxy(server.target) as proxy, ThreadPoolExecutor(1) as threads:
        proxy.silence_after(600_000)
        arguments = ("epoch", *options, "--timeout", "1", "--out", str(out))
        running = threads.submit(output, *arguments, target=proxy.target)
        assert proxy.struck.wait(_SECONDS)
        time.sleep(1.5)  # longer than the stall timer; new connections are silent as well
        proxy.lead_to(server.target)
        proxy.cut()
        running.result(_SECONDS)
    assert out.read_bytes() == expected(server.target, sampler, config, {"epoch": 0, "start": 0})


#: 27 MB over the wire, far more than what node reads ahead.
LONG = SamplerConfig(num_negs_per_pos=2500)
LONG_EPOCH = EpochConfig(batch_size=32)
LONG_OPTIONS = ("-k", "2500", "--batch-size", "32", "--patience", str(_SECONDS))


class Piped:
    """The program, writing an epoch into a pipe: it waits while nobody reads."""

    def __init__(self, folder: Path, target: str) -> None:
        out = folder / "pipe"
        os.mkfifo(out)
        threads = ThreadPoolExecutor(1)
        self._running = threads.submit(
            output, "epoch", *LONG_OPTIONS, "--out", str(out), target=target
        )
        threads.shutdown(wait=False)
        self._pipe = out.open("rb")
        self._sha = hashlib.sha256()

    def take(self, num_bytes: int) -> bool:
        """Read some bytes, and return whether any were left."""
        data = self._pipe.read(num_bytes)
        self._sha.update(data)
        return bool(data)

    def finish(self) -> str:
        """Read the rest, and return the digest of all."""
        while self.take(1 << 20):
            pass
        self._pipe.close()
        self._running.result(_SECONDS)
        return self._sha.hexdigest()


@pytest.fixture(scope="module")
def long_digest(client: Client) -> str:
    sha = hashlib.sha256()
    for batch in client.triples_factory("world").epochs(LONG, LONG_EPOCH):
        negatives = batch.negative_triples()
        sha.update(negatives.astype("<u4").tobytes())
        sha.update(bytes([1]) * negatives.shape[0] * negatives.shape[1])
    return sha.hexdigest()


def test_an_epoch_goes_on_when_the_server_behind_a_proxy_is_killed(
    server: ServerProcess, long_digest: str, tmp_path: Path
):
    with (
        server_process("--log-level", "warning") as first,
        tcp_proxy(_NOWHERE) as gate,
        http_proxy("envoy", [first.target, gate.target], tmp_path) as proxy,
    ):
        epoch = Piped(tmp_path, proxy.target)
        assert epoch.take(5_000_000)
        gate.lead_to(server.target)
        first.kill()
        assert epoch.finish() == long_digest
        assert gate.num_bytes > 2_000_000


def test_an_epoch_is_longer_than_a_proxy_allows(long_digest: str, tmp_path: Path):
    log = tmp_path / "server"
    with (
        # Small messages, since the program is given some before it asks for them.
        server_process("--max-ahead-bytes", "256KiB", "--access-log", log=log) as server,
        http_proxy("envoy", [server.target], tmp_path, timeout=1) as proxy,
    ):
        epoch = Piped(tmp_path, proxy.target)
        while epoch.take(4_000_000):
            time.sleep(0.08)
        assert epoch.finish() == long_digest
    calls = [line for line in log.read_text().splitlines() if " SampleEpoch " in line]
    assert len(calls) > sum("OK" in line for line in calls) >= 1, calls


@pytest.mark.parametrize(
    ("arguments", "reason", "metadata"),
    [
        (["epoch", "--dataset", "moon"], "UNKNOWN_DATASET", {"value": "moon"}),
        (["epoch", "-k", "100000"], "LIMIT_EXCEEDED", {"value": "100000"}),
        (["epoch", "--start", "5409"], "INVALID_CONFIGURATION", {"field": "start"}),
        (["sample", "-k", "0"], "INVALID_CONFIGURATION", {"field": "num_negs_per_pos"}),
    ],
)
def test_refusals(server: ServerProcess, arguments: list[str], reason: str, metadata: Any):
    stdin = "Germany\thas_capital\tBerlin\n"
    done = node(*arguments, target=server.target, stdin=stdin)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{reason}: ")
    assert json.loads("{" + done.stderr.partition("{")[2]).items() >= metadata.items()


def test_a_place_on_a_full_server_is_waited_for():
    with (
        server_process("--max-streams", "1") as full,
        Client(full.target) as client,
        ThreadPoolExecutor(1) as threads,
    ):
        held = client.triples_factory("world").open_sampler()
        done = node("epoch", "--patience", "1", target=full.target)
        assert done.stderr.startswith("TOO_MANY_STREAMS: ")
        waiting = threads.submit(output, "epoch", target=full.target)
        time.sleep(2)  # or so: it is refused meanwhile
        held.close()
        assert "5408 positives" in waiting.result(_SECONDS)


@pytest.mark.parametrize("kind", ["pseudo-typed", "pseudo_typed", "PSEUDOTYPED", "typed "])
def test_a_kind_has_one_spelling(server: ServerProcess, kind: str):
    done = node("epoch", "--kind", kind, target=server.target)
    assert done.returncode == 2
    assert "choose from basic, bernoulli, pseudotyped, typed, degree" in done.stderr


def test_a_malformed_target_is_refused_at_once():
    done = node("datasets", "--patience", "100000", target="http://127.0.0.1:7733")
    assert done.returncode == 1
    assert "is a URL; give its address alone, 127.0.0.1:7733" in done.stderr


def test_no_server():
    done = node("datasets", "--patience", "1", target=_NOWHERE)
    assert done.returncode == 1
    assert done.stderr.startswith("UNAVAILABLE: ")


def test_an_answer_that_cannot_be_true(server: ServerProcess):
    with lying_server(server.target) as liar:
        for field, path, value in (
            ("batches.nextStart", "batches.batches.0.next_start", 7),
            ("batches.negatives.numPositives", "batches.batches.0.negatives.num_positives", MOST),
            ("configured.numBatches", "configured.num_batches", 7),
            ("configured.sampler.seed", "configured.sampler.seed", 7),
        ):
            liar.lies = {"SampleEpoch": setting(path, value, int(path.startswith("batches")))}
            done = node("epoch", "-k", "5", "--batch-size", "700", target=liar.target)
            assert done.returncode == 1, done.stderr
            assert "the answer to SampleEpoch can't be true" in done.stderr
            assert f'"field":"{field}"' in done.stderr


def test_positives_of_another_id_space_are_told_once(server: ServerProcess):
    """For example, France as a capital of itself."""
    lines = 2500 * "France\thas_capital\tFrance\n"
    done = node("sample", "-k", "1", target=server.target, stdin=lines)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2500
    assert done.stderr.count("\n") == 1
    assert "0 of the first 1000 positives are triples of dataset 'world'" in done.stderr
