"""The C++ client: builds without warnings, and gives the Python client's results."""

from __future__ import annotations

import hashlib
import re
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from negserve import Client, EpochBatch, EpochConfig, NegserveError, SamplerConfig
from tests.support.children.lying_server import lying_server, setting
from tests.support.graphs import REPOSITORY, graph_path, load
from tests.support.programs.cpp_example import (
    epoch_options,
    fields,
    run,
    sample_of,
    sampler_options,
)
from tests.support.server_process import ServerProcess, server_process


@dataclass
class Outputs:
    """Files that the program writes, and their expected content."""

    folder: Path

    def options(self, config: SamplerConfig) -> list[object]:
        options: list[object] = []
        for name in ("positives", "negatives", "mask"):
            options += [f"--{name}", self.folder / name]
        return options + (["--log-q", self.folder / "log_q"] if config.log_q else [])

    def assert_hold(self, **expected: NDArray[np.generic] | None) -> None:
        for name, array in expected.items():
            if array is not None:
                data = (self.folder / name).read_bytes()
                assert hashlib.sha256(data).digest() == hashlib.sha256(array.tobytes()).digest(), (
                    f"{name}: {len(data)} bytes, expected {array.nbytes}"
                )


SAMPLERS = {
    "basic": SamplerConfig(num_negs_per_pos=7, seed=2**64 - 1),
    "bernoulli": SamplerConfig(
        kind="bernoulli", num_negs_per_pos=64, filter_splits=("training",), seed=3
    ),
    "slots": SamplerConfig(
        num_negs_per_pos=9,
        corruption_scheme=("head", "relation", "tail"),
        filter_splits=("training", "testing"),
    ),
    "relations": SamplerConfig(num_negs_per_pos=300, corruption_scheme=("relation",)),
    "degree": SamplerConfig(kind="degree", num_negs_per_pos=8, alpha=0.5, log_q=True, seed=4),
    "pseudotyped": SamplerConfig(
        kind="pseudotyped", num_negs_per_pos=16, filter_splits=("training",), filter_mode="exact"
    ),
    "mixture": SamplerConfig(
        kind="mixture", mixture=(("bernoulli", 3), ("degree", 1)), num_negs_per_pos=11, log_q=True
    ),
    "mask": SamplerConfig(
        kind="bernoulli", num_negs_per_pos=31, filter_splits=("training",), filter_mode="mask"
    ),
    "chunks": SamplerConfig(
        num_negs_per_pos=33, chunk_size=5, filter_splits=("training",), filter_mode="mask"
    ),
    "distinct": SamplerConfig(num_negs_per_pos=20, distinct=True, filter_splits=("training",)),
    "candidates": SamplerConfig(num_negs_per_pos=6, candidates=(5, 3, 900), distinct=True),
}


@pytest.fixture
def dataset(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "world":
        graph_path(name)
    return name


def test_the_golden_files_without_a_server(cpp_program: Path):
    done = subprocess.run(
        [cpp_program.with_name("golden_test"), REPOSITORY / "proto" / "testdata"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    num_cases, _, word = done.stdout.strip().partition(" ")
    assert (int(num_cases) > 50, word) == (True, "cases")


def test_the_example_of_the_readme_compiles(cpp_program: Path):
    readme = (REPOSITORY / "examples" / "cpp" / "README.md").read_text("utf-8")
    (code,) = re.findall(r"^```cpp\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    include, body = code.split("\n", 1)
    folders = f"-I{REPOSITORY / 'examples' / 'cpp'}", f"-I{cpp_program.parent / 'stubs'}"
    done = subprocess.run(
        ["c++", "-std=c++17", "-fsyntax-only", *folders, "-x", "c++", "-"],
        input=f"{include}\nint main() {{\n{body}}}\n",
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_datasets(cpp_program: Path, server: ServerProcess, client: Client):
    result = run(cpp_program, "datasets", "--target", server.target)
    assert result.status == 0, result.stderr
    lines = [line.split("\t") for line in result.stdout.decode().splitlines()]
    assert [line[0] for line in lines] == client.list_datasets()
    for name, entities, relations, triples, fingerprint in lines:
        factory = client.triples_factory(name)
        assert fingerprint == factory.fingerprint
        assert entities == f"{factory.num_entities} entities"
        assert relations == f"{factory.num_relations} relations"
        assert triples == f"{factory.num_triples} training triples"


def test_server(cpp_program: Path, server: ServerProcess, client: Client):
    result = run(cpp_program, "server", "--target", server.target)
    assert result.status == 0, result.stderr
    info = client.server_info()
    first, *limits = result.stdout.decode().splitlines()
    assert first == f"{info.version}\tsampling function 2"
    assert f"max_unanswered_messages: {info.limits.max_unanswered_messages}" in limits


@pytest.mark.parametrize(
    ("dataset", "name"),
    [*(("world", name) for name in SAMPLERS), ("codex-s", "bernoulli"), ("codex-s", "chunks")],
    indirect=["dataset"],
)
def test_samples_are_those_of_python(
    cpp_program: Path,
    server: ServerProcess,
    client: Client,
    dataset: str,
    name: str,
    tmp_path: Path,
):
    config, outputs, position = SAMPLERS[name], Outputs(tmp_path), 2**40 + 3
    positives = np.random.default_rng(1).permutation(load(dataset).mapped_triples)[:700]
    (tmp_path / "input").write_bytes(positives.astype("<i8").tobytes())
    result = run(
        cpp_program,
        *("sample", dataset, "--target", server.target, "--input", tmp_path / "input"),
        *("--position", position, *sampler_options(config), *outputs.options(config)),
    )
    assert result.status == 0, result.stderr
    batch = sample_of(client, dataset, config, positives, position)
    mask = np.ones(batch.rows().shape, dtype=np.bool_) if batch.mask is None else batch.mask
    outputs.assert_hold(
        positives=positives, negatives=batch.triples(positives), mask=mask, log_q=batch.log_q
    )
    assert f", {batch.num_saturated} saturated" in result.stderr


def test_samples_of_many_messages(
    cpp_program: Path, server: ServerProcess, client: Client, tmp_path: Path
):
    """Messages end within chunks, and the answers of several messages are joined."""
    config = SamplerConfig(
        num_negs_per_pos=301, chunk_size=7, filter_splits=("training",), filter_mode="mask"
    )
    outputs, positives = Outputs(tmp_path), load("world").mapped_triples
    (tmp_path / "input").write_bytes(positives.tobytes())
    result = run(
        cpp_program,
        *("sample", "world", "--target", server.target, "--input", tmp_path / "input"),
        *(*sampler_options(config), *outputs.options(config), "--position", 5),
    )
    assert result.status == 0, result.stderr
    factory = client.triples_factory("world")
    assert positives.size * config.num_negs_per_pos > 3 * factory.limits.max_negatives_per_message
    batch = sample_of(client, "world", config, positives, 5)
    outputs.assert_hold(negatives=batch.triples(positives), mask=batch.mask)


def test_samples_as_lines(cpp_program: Path, server: ServerProcess):
    """The example of the protocol document."""
    result = run(
        cpp_program,
        *("sample", "world", "1055,8,623", "1325,20,428", "--target", server.target),
        *("--kind", "bernoulli", "-k", 4, "--filter", "training", "--seed", 42, "--position", 7),
    )
    assert result.status == 0, result.stderr
    lines = [tuple(map(int, line.split())) for line in result.stdout.splitlines()]
    document = (REPOSITORY / "docs" / "protocol.md").read_text("utf-8")
    rows = re.findall(r"^\| [78] \| [0-3] \| (\d+), (\d+), (\d+) \|", document, re.MULTILINE)
    assert lines == [(*map(int, row), 1) for row in rows]
    assert len(rows) == 8


EPOCHS = {
    "whole": EpochConfig(batch_size=512),
    "rank": EpochConfig(batch_size=100, rank=1, world_size=3, tail="wrap"),
    "worker": EpochConfig(batch_size=64, worker=1, num_workers=3, tail="drop"),
    "some": EpochConfig(batch_size=50, relations=(0, 3, 8), weights=True, shuffle=False),
}


def epoch_of(client: Client, dataset: str, sampler: SamplerConfig, config: EpochConfig,
             number: int = 0) -> list[EpochBatch]:  # fmt: skip
    stream = client.triples_factory(dataset).epochs(sampler, config)
    stream.load_state_dict({"epoch": number, "start": 0})
    return list(stream)


@pytest.mark.parametrize(
    ("dataset", "sampler", "epoch"),
    [
        *(("world", name, "whole") for name in SAMPLERS if name != "chunks"),
        *(("world", "chunks", name) for name in EPOCHS),
        *(("codex-s", "chunks", name) for name in ("whole", "rank")),
    ],
    indirect=["dataset"],
)
def test_epochs_are_those_of_python(
    cpp_program: Path,
    server: ServerProcess,
    client: Client,
    dataset: str,
    sampler: str,
    epoch: str,
    tmp_path: Path,
):
    config, which, outputs = SAMPLERS[sampler], EPOCHS[epoch], Outputs(tmp_path)
    weights = ["--weights", tmp_path / "weights"] if which.weights else []
    result = run(
        cpp_program,
        *("epoch", dataset, "--target", server.target, "--epoch", 3),
        *(*sampler_options(config), *epoch_options(which), *outputs.options(config), *weights),
    )
    assert result.status == 0, result.stderr
    batches = epoch_of(client, dataset, config, which, number=3)
    masks = [
        np.ones(batch.negatives.rows().shape, dtype=np.bool_)
        if batch.negatives.mask is None
        else batch.negatives.mask
        for batch in batches
    ]
    log_qs = [batch.negatives.log_q for batch in batches if batch.negatives.log_q is not None]
    all_weights = [batch.weights for batch in batches if batch.weights is not None]
    outputs.assert_hold(
        positives=np.concatenate([batch.positives for batch in batches]),
        negatives=np.concatenate([batch.negative_triples() for batch in batches]),
        mask=np.concatenate(masks),
        log_q=np.concatenate(log_qs) if log_qs else None,
        weights=np.concatenate(all_weights) if all_weights else None,
    )
    assert result.stderr.startswith(f"{len(batches)} batches, ")


def test_an_ended_client_resumes(cpp_program: Path, server: ServerProcess):
    command = ["epoch", "world", "--target", server.target, "-k", 20, "--batch-size", 70]
    whole = run(cpp_program, *command, "--negatives", "-")
    first = run(cpp_program, *command, "--negatives", "-", "--batches", 13)
    found = re.search(r"next start (\d+)$", first.stderr)
    assert found is not None
    assert int(found[1]) == 13 * 70
    rest = run(cpp_program, *command, "--negatives", "-", "--start", found[1])
    assert first.stdout + rest.stdout == whole.stdout
    assert len(first.stdout) == 13 * 70 * 20 * 24


@pytest.mark.parametrize(
    "arguments",
    [
        ("sample", "nowhere", "0,0,0"),
        ("epoch", "nowhere"),
        ("sample", "world", "0,0,0", "0,99999,0"),
        ("sample", "world", "0,0,-1"),
        ("sample", "world", "0,0,0", "-k", "70000"),
        ("sample", "world", "0,0,0", "-k", "0"),
        ("sample", "world", "0,0,0", "--chunk-size", "3", "--filter", "training"),
        ("sample", "world", "0,0,0", "1,1,1", "--position", str(2**64 - 1)),
        ("sample", "world", "0,0,0", "--fingerprint", "f" * 64),
        ("epoch", "world", "--fingerprint", "f" * 64),
        ("epoch", "world", "--rank", "2", "--world-size", "2"),
        ("epoch", "world", "--batch-size", "300000", "-k", "2"),
    ],
    ids=" ".join,
)
def test_refusals_say_reason_and_metadata(
    cpp_program: Path, server: ServerProcess, client: Client, arguments: tuple[str, ...]
):
    result = run(cpp_program, *arguments, "--target", server.target)
    assert result.status == 1
    head, *facts = result.stderr.splitlines()
    metadata = dict(fact.strip().split(": ", 1) for fact in facts)
    error = refused(client, arguments)
    assert head.startswith(f"{type(error).__name__}: ")
    assert metadata.pop("reason") == error.reason != ""
    if error.target:  # the Python client did not refuse it itself
        assert head == f"{type(error).__name__}: {error}"
        assert metadata == error.metadata != {}
    elif "field" in error.metadata:
        assert metadata["field"] == error.metadata["field"]


def refused(client: Client, arguments: tuple[str, ...]) -> NegserveError:
    """Make the same request with the Python client, and return its error."""
    command, name, *words = arguments
    triples = [tuple(map(int, word.split(","))) for word in words if "," in word]
    values = dict(zip(words[len(triples) :: 2], words[len(triples) + 1 :: 2], strict=True))
    with pytest.raises(NegserveError) as caught:
        config = SamplerConfig(
            num_negs_per_pos=int(values.get("-k", 1)),
            chunk_size=int(values.get("--chunk-size", 1)),
            filter_splits=("training",) if "--filter" in values else (),
        )
        epoch = EpochConfig(
            batch_size=int(values.get("--batch-size", 1024)),
            rank=int(values.get("--rank", 0)),
            world_size=int(values.get("--world-size", 1)),
        )
        factory = client.triples_factory(name)
        if "--fingerprint" in values:
            factory._dataset = replace(factory._dataset, fingerprint=values["--fingerprint"])
        if command == "epoch":
            list(factory.epochs(config, epoch))
        factory.open_sampler(**fields(config)).sample(triples, int(values.get("--position", 0)))
    return caught.value


def test_bench_goes_from_epoch_to_epoch(cpp_program: Path, server: ServerProcess):
    result = run(
        cpp_program, "bench", "world", "--target", server.target, "-k", 32, "--seconds", 0.5
    )
    assert result.status == 0, result.stderr
    rate, _, unit = result.stdout.decode().strip().partition(" ")
    assert unit == "negatives per second"
    assert int(rate) * 0.5 > 2 * load("world").num_triples * 32, "not even two epochs"


def test_usage(cpp_program: Path):
    help_text = run(cpp_program, "--help")
    assert help_text.status == 0
    for command in ("datasets", "epoch DATASET", "bench DATASET", "sample DATASET"):
        assert f"negserve-cpp {command}" in help_text.stdout.decode()
    for arguments in ([], ["dance"], ["epoch"], ["epoch", "world", "-k", "1e3"],
                      ["sample", "world"], ["sample", "world", "1,2"],
                      ["epoch", "world", "--tail"], ["epoch", "world", "--tail", "long"],
                      ["datasets", "world"]):  # fmt: skip
        result = run(cpp_program, *arguments)
        assert (result.status, result.stdout) == (2, b""), arguments
        assert "see --help" in result.stderr


LIES = {
    "batches.next_start": setting("batches.batches.0.next_start", 7, 1),
    "batch.num_positives": setting("batches.batches.0.negatives.num_positives", 2**32 - 1, 1),
    "batch.position": setting("batches.batches.0.negatives.position", 7, 1),
    "configured.num_batches": setting("configured.num_batches", 1),
    "configured.sampler": setting("configured.sampler.seed", 7),
}


@pytest.mark.parametrize("field", LIES)
def test_an_answer_that_cannot_be_true(cpp_program: Path, server: ServerProcess, field: str):
    command = ("epoch", "world", "-k", 5, "--batch-size", 700, "--negatives", "-")
    with lying_server(server.target) as liar:
        liar.lies = {"SampleEpoch": LIES[field]}
        alone = run(cpp_program, *command, "--target", liar.target)
        assert alone.status == 1
        for text in ("InvalidAnswerError", "SampleEpoch", field):
            assert text in alone.stderr
        assert liar.num_calls["SampleEpoch"] == 3
        both = run(cpp_program, *command, "--target", f"{liar.target},{server.target}")
    honest = run(cpp_program, *command, "--target", server.target)
    assert both.status == honest.status == 0, both.stderr
    assert both.stdout == honest.stdout


def test_another_replica_is_asked_for_a_dataset_that_one_lacks(
    cpp_program: Path, server: ServerProcess, tmp_path: Path
):
    (tmp_path / "other.tsv").write_text("a\tr\tb\nb\tr\ta\n")
    with server_process("--dataset", f"other={tmp_path / 'other.tsv'}") as lacking:
        for command in (("epoch", "world", "-k", 2), ("sample", "world", "1055,8,623")):
            alone = run(cpp_program, *command, "--target", lacking.target)
            assert alone.status != 0
            assert "UnknownDatasetError" in alone.stderr
            both = run(cpp_program, *command, "--target", f"{lacking.target},{server.target}")
            honest = run(cpp_program, *command, "--target", server.target)
            assert (both.status, both.stdout) == (0, honest.stdout), both.stderr


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("http://127.0.0.1:7733", "is a URL; give its address alone, 127.0.0.1:7733"),
        ("127.0.0.1:1,https://x/", "is a URL; give its address alone, x"),
        ("7733", "has no host"),
        ("localhost", "has no port"),
        ("::1:7733", "without brackets"),
        ("127.0.0.1:99999", "give 1 to 65535"),
        ("127.0.0.1:0", "give 1 to 65535"),
        ("unix:", "has no path"),
        ("unix:/" + "x" * 120, "has a path of 121 bytes"),
    ],
)
def test_a_malformed_target_is_refused_at_once(cpp_program: Path, target: str, told: str):
    result = run(cpp_program, "datasets", "--target", target, "--patience", 100_000)
    assert result.status == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("InvalidRequestError: target '")
    assert told in line


def test_text_of_others_moves_no_cursor(cpp_program: Path, server: ServerProcess):
    name = "a\x1b[2Jb\x9bc\u202edß東👩"
    result = run(cpp_program, "epoch", name, "--target", server.target)
    assert result.status == 1
    # The server has escaped it before.
    assert "value: a\\u001b[2Jb\\u009bc\\u202edß東👩" in result.stderr
    assert not set("\x1b\x9b\u202e") & set(result.stderr)


@pytest.mark.parametrize("kind", ["pseudo-typed", "pseudo_typed", "PSEUDOTYPED"])
def test_a_kind_has_one_spelling(cpp_program: Path, kind: str):
    result = run(cpp_program, "epoch", "world", "--kind", kind)
    assert result.status == 2
    assert "choose from basic, bernoulli, degree, mixture, pseudotyped, typed" in result.stderr


def test_patience_is_the_timeout_for_each_replica(cpp_program: Path):
    begin = time.monotonic()
    result = run(cpp_program, "datasets", "--target", "127.0.0.1:1,127.0.0.1:2", "--timeout", 1)
    assert result.status == 1
    assert 1.5 < time.monotonic() - begin < 30


def test_no_server(cpp_program: Path):
    begin = time.monotonic()
    result = run(cpp_program, "datasets", "--target", "127.0.0.1:1", "--patience", 0.5)
    assert 0.2 < time.monotonic() - begin < 20
    *tries, last = result.stderr.splitlines()
    assert result.status == 1
    assert last.startswith("UnavailableError: 127.0.0.1:1: ")
    assert len(tries) > 2, "it was asked once only"


def test_positives_of_another_id_space_are_told_once(cpp_program: Path, server: ServerProcess):
    positives = 2500 * ["1055,8,1055"]
    result = run(cpp_program, "sample", "world", *positives, "--target", server.target)
    assert result.status == 0, result.stderr
    assert result.stderr.count("of the first 1000 positives are triples of dataset 'world'") == 1
