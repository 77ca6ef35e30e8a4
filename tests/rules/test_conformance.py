"""``python -m negserve.conformance``: it passes right answers, and fails wrong ones."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import preloaded
from tests.support.children.lying_server import lying_server, setting
from tests.support.server_process import ServerProcess, server_process

_SECONDS = 170


def conformance(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return preloaded.run(["-m", "negserve.conformance", *map(str, arguments)], timeout=_SECONDS)


def sums(done: subprocess.CompletedProcess[str]) -> list[int]:
    """Return how many passed, failed, and were left out."""
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("total")]
    return [int(number) for number in line.split()[1:]]


@pytest.fixture(scope="module", autouse=True)
def without_server() -> Iterator[Future[subprocess.CompletedProcess[str]]]:
    """A run without a server, which waits for one while other tests run."""
    with ThreadPoolExecutor(1) as thread:
        yield thread.submit(conformance, "127.0.0.1:1")


@pytest.fixture(scope="module")
def wide() -> Iterator[ServerProcess]:
    """A server that has published the graph with the large id space."""
    with server_process("--allow-publish") as running:
        done = conformance(running.target, "--publish")
        assert done.returncode == 0, done.stdout + done.stderr
        passed, failed, left_out = sums(done)
        assert passed > 130
        assert failed == 0
        assert f"left out: {left_out} of GetSnapshot" in done.stdout
        yield running


def test_a_server_conforms(wide: ServerProcess):
    """A second run finds the graphs published, and does not publish them again."""
    done = conformance(wide.target, "--publish")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "left out: " in done.stdout
    assert "the server has toy or wide already" in done.stdout


def test_a_server_with_other_answers_does_not_conform(server: ServerProcess):
    with lying_server(server.target) as liar:
        liar.lies = {"Sample": setting("batch.num_saturated", 7, 1)}
        done = conformance(liar.target)
    assert done.returncode == 1
    assert "FAILED Sample, basic: answer 1 is" in done.stdout
    assert sums(done)[1] > 20


def test_the_client_in_typescript_conforms(wide: ServerProcess, node_program: Path):
    program = node_program.with_name("conformance.js")
    assert_conforms(conformance(wide.target, "--", "node", program))


def test_the_client_in_cpp_conforms(wide: ServerProcess, cpp_program: Path):
    program = cpp_program.with_name("negserve-conformance")
    assert_conforms(conformance(wide.target, "--", program))


def assert_conforms(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    passed, failed, left_out = sums(done)
    assert passed > 90
    assert failed == left_out == 0


#: Programs that are no clients, or bad ones, and what is said of them.
BAD = {
    "the program has ended": "raise SystemExit",
    "is not a JSON object": "print('hello', flush=True); input()",
    "result of task None, expected 1": "print({}, flush=True); input()",
    "batches is [], expected": """
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "batches": []}), flush=True)
""",
}


@pytest.mark.parametrize("complaint", BAD)
def test_a_program_that_is_no_client_does_not_conform(server: ServerProcess, complaint: str):
    done = conformance(server.target, "--", sys.executable, "-c", BAD[complaint])
    assert done.returncode == 1, done.stdout + done.stderr
    assert complaint in done.stdout


def test_a_client_that_does_not_resume_fails(server: ServerProcess, tmp_path: Path):
    """A relay that breaks streams fails a client that only knows the golden answers."""
    program = tmp_path / "client.py"
    program.write_text(
        "import json, sys\n"
        "from negserve.conformance.client_check import _result, _task\n"
        "from negserve.conformance.golden import golden_files\n"
        "known = {json.dumps(_task(case)): case\n"
        "         for file in golden_files() for case in file.cases}\n"
        "for line in sys.stdin:\n"
        "    task = json.loads(line)\n"
        "    number, _ = task.pop('id'), task.pop('target')\n"
        "    case = known.get(json.dumps(task))\n"
        "    result = _result(case) if case else {'leftOut': True}\n"
        "    print(json.dumps({'id': number, **result}), flush=True)\n",
        encoding="utf-8",
    )
    done = conformance(server.target, "--", sys.executable, program)
    assert done.returncode == 1
    assert "FAILED disturbances, Sample lost: the client did not call Sample" in done.stdout
    assert "FAILED Sample, bernoulli" not in done.stdout


def test_no_server(without_server: Future[subprocess.CompletedProcess[str]]):
    """Last, since it waits longest."""
    done = without_server.result()
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr
