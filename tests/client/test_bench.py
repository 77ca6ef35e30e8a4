"""The command ``negserve bench``."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from negserve.cli.bench.bound import bound_of, conclusions
from negserve.cli.bench.cell import Cell, Figures, Network
from tests.support import preloaded
from tests.support.preloaded import PIPE, PreloadedProcess
from tests.support.programs.tcp_proxy import tcp_proxy
from tests.support.server_process import ServerProcess, server_process

SHORT = ("--seconds", "0.05")
SMALL = (*SHORT, "--k", "1", "--batch-size", "16", "--streams", "1")


def run(target: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = ["-m", "negserve.cli", "bench", "--target", target, *arguments]
    return preloaded.run(command, timeout=120, **options)


def measured(target: str, *arguments: str) -> dict[str, Any]:
    result = run(target, *arguments, "--json")
    assert result.returncode == 0, result.stderr
    values: dict[str, Any] = json.loads(result.stdout)
    return values


def test_every_combination_is_measured(server: ServerProcess):
    found = measured(
        server.target, *SHORT, "--k", "1,5", "--batch-size", "16", "--streams", "1,3"
    )  # fmt: skip
    assert found["complete"]
    assert found["dataset"] == "world"
    assert found["sampler"] == {"kind": "basic", "filter_splits": ["training"]}
    assert 0 < found["round_trip_ms"]["p50"] <= found["round_trip_ms"]["p99"]
    assert found["cheap_bytes_per_second"] > 0
    rows = found["measurements"]
    assert [(row["call"], row["k"], row["batch_size"], row["streams"]) for row in rows] == [
        (call, k, 16, streams)
        for call in ("Sample", "SampleEpoch") for k in (1, 5) for streams in (1, 3)
    ]  # fmt: skip
    for row in rows:
        assert row["calls"] >= row["streams"]
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 < row["slowest_to_fastest_stream"] <= 1
        assert row["client_cpu_ms"] > 0
        assert (row["round_trip_share"] is None) == (row["call"] == "SampleEpoch")
        assert row["received_bytes_per_second"] > 0
        if row["call"] == "Sample":
            # Two bytes for each id, and the counts of heads; five for a positive.
            received, sent, negatives = (
                row[f"{name}_per_second"] for name in ("received_bytes", "sent_bytes", "negatives")
            )
            assert 2 * negatives < received < (2 + 3 / row["k"]) * negatives
            assert 5 * negatives / row["k"] < sent < 8 * negatives / row["k"]
    assert found["conclusions"]


def test_the_table_has_a_line_for_each_and_says_what_bounds(server: ServerProcess):
    result = run(server.target, *SMALL, "--call", "Sample", "--unfiltered", "--kind", "bernoulli")
    assert result.returncode == 0, result.stderr
    assert "bernoulli, unfiltered" in result.stdout
    (line,) = re.findall(r".*Sample +│.*", result.stdout)
    call, k, batch, streams, *numbers, bound = (cell.strip() for cell in line.strip("│").split("│"))
    assert (call, k, batch, streams) == ("Sample", "1", "16", "1")
    assert all(re.fullmatch(r"[\d.,e+-]+%?", number) for number in numbers)
    assert bound in ("round trip", "client", "server", "bandwidth")
    assert "Round trip of a call that asks for nothing: " in result.stdout
    assert "bounds 1 of 1 measurements" in result.stdout
    assert result.stderr == ""


def test_no_leakage_is_warned_of_where_nothing_is_trained(server: ServerProcess):
    result = run(server.target, *SMALL, "--call", "SampleEpoch", "--split", "testing")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "never a triple of testing" in " ".join(result.stdout.split())


def test_a_slow_network_is_told_from_a_slow_server(server: ServerProcess):
    """The same server, behind a network that takes 0.1 s."""
    with tcp_proxy(server.target, delay_seconds=0.1) as proxy:
        found = measured(proxy.target, *SMALL, "--call", "Sample")
    (row,) = found["measurements"]
    assert found["round_trip_ms"]["p50"] >= 100
    assert row["p50_ms"] >= 100
    assert row["bound_by"] == "round trip"
    assert found["conclusions"][0].startswith("The round trip bounds 1 of 1")


CELL = Cell("Sample", 64, 1024, 1)
#: 4 ms a call, of which the client computes half a millisecond.
FIGURES = Figures(
    mean=0.004, p50=0.004, p99=0.005, calls=250, negatives_per_second=16e6, received=35e6,
    sent=1e6, slowest_to_fastest=1.0, client_cpu=0.0005, client_load=0.12, machine_load=0.3,
)  # fmt: skip
#: A round trip of 0.3 ms, and 1 GB/s.
NETWORK = Network(0.0003, 0.0004, 0.0001, 1e9)


@pytest.mark.parametrize(
    ("cell", "figures", "network", "bound"),
    [
        ({}, {}, {}, "server"),
        ({}, {}, {"round_trip": 0.002}, "round trip"),
        ({}, {}, {"round_trip": 0.002, "received": 40e6}, "round trip"),
        ({}, {}, {"received": 40e6}, "bandwidth"),
        ({}, {}, {"received": 60e6}, "bandwidth"),
        ({}, {"client_cpu": 0.003}, {}, "client"),
        ({}, {"client_load": 0.9}, {}, "client"),
        ({}, {"machine_load": 0.97}, {}, "client"),
        ({}, {"machine_load": None}, {}, "server"),
        ({"call": "SampleEpoch"}, {}, {}, "server"),
        ({"call": "SampleEpoch"}, {}, {"round_trip": 0.1}, "server"),
        ({"call": "SampleEpoch"}, {"received": 800e6}, {}, "bandwidth"),
        ({"call": "SampleEpoch"}, {"received": 2e9}, {}, "server"),
        ({"call": "SampleEpoch"}, {"received": 800e6, "client_load": 1.0}, {}, "client"),
        ({"call": "SampleEpoch"}, {"client_cpu": 0.003}, {}, "server"),
    ],
)
def test_what_bounds(
    cell: dict[str, Any], figures: dict[str, Any], network: dict[str, Any], bound: str
):
    changed = replace(CELL, **cell), replace(FIGURES, **figures), replace(NETWORK, **network)
    assert bound_of(*changed) == bound


def test_the_most_frequent_bound_is_told_first():
    told = conclusions(["client", "server", "server"], NETWORK)
    assert [sentence.split(" bounds ")[0] for sentence in told] == ["The server", "This machine"]
    assert "2 of 3 measurements" in told[0]
    assert conclusions([], NETWORK) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--dataset", "wrold"), "; did you mean 'world'?"),
        (("--k", "1,x"), "'x' in '1,x' is not a number from 1 to 1048576: give numbers"),
        (("--k", "0"), "'0' in '0' is not a number from 1"),
        (("--streams", "2000"), "'2000' in '2000' is not a number from 1 to 1024"),
        (("--batch-size", ""), "'' in '' is not a number"),
        (("--seconds", "0"), "0.0 is not in the range 0<x<=3600"),
        (("--call", "Contains"), "'Contains' is not one of 'Sample', 'SampleEpoch'"),
        (("--k", "1000000", "--batch-size", "1"), "is 1000000, the limit is 65536"),
        (("--k", "1000", "--batch-size", "1048576"), "batch_size"),
        (("--unfiltered", "--split", "testing"), "--split has no effect with --unfiltered"),
    ],
)  # fmt: skip
def test_errors_are_one_clear_line(server: ServerProcess, options: tuple[str, ...], told: str):
    result = run(server.target, *options)
    assert result.returncode != 0
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_no_server_is_one_clear_line():
    result = run("127.0.0.1:1", "--timeout", "2")
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr
    assert "Traceback" not in result.stderr


def test_streams_that_a_server_refuses_end_with_its_limit_and_what_was_measured():
    with server_process("--max-streams", "4", "--threads", "1") as few:
        result = run(
            few.target, *SHORT, "--timeout", "2", "--call", "Sample", "--k", "1",
            "--batch-size", "16", "--streams", "1,8", "--json",
        )  # fmt: skip
    assert result.returncode == 1
    assert "4" in result.stderr
    assert "ended after 1 of 2 measurements" in result.stderr
    found = json.loads(result.stdout)
    assert not found["complete"]
    assert [row["streams"] for row in found["measurements"]] == [1]


def test_ctrl_c_prints_what_is_done_and_leaves_no_process(server: ServerProcess):
    sizes = ",".join(map(str, range(1, 2001)))
    process = PreloadedProcess(
        ["-m", "negserve.cli", "bench", "--target", server.target, "--json", *SHORT,
         "--streams", "2", "--batch-size", sizes],
        stdout=PIPE, stderr=PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    done = re.match(r"measuring: (\d+) of 8000 done", process.stderr.readline())
    assert done
    workers = children(process.pid)
    assert len(workers) == min(2, os.cpu_count() or 1)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.wait(60) == 130
    assert stdout is not None
    assert stderr is not None
    found = json.loads(stdout)
    assert not found["complete"]
    assert len(found["measurements"]) >= int(done[1])
    assert "of 8000 measurements" in stderr
    assert "Traceback" not in stderr
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def test_a_terminal_gets_a_progress_bar(server: ServerProcess):
    terminal, own = pty.openpty()
    command = ["-m", "negserve.cli", "bench", "--target", server.target, *SMALL]
    process = PreloadedProcess(
        command, stdout=PIPE, stderr=own, env={**os.environ, "TERM": "xterm"}
    )
    os.close(own)
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except OSError:  # the program has ended, and with it the terminal's other end
        pass
    os.close(terminal)
    process.communicate(timeout=60)
    assert process.wait(60) == 0
    assert "measuring" in shown.decode()
    assert "/2" in shown.decode()


def test_help_teaches():
    result = preloaded.run(["-m", "negserve.cli", "bench", "--help"], timeout=60, check=True)
    for option in ("--target", "--dataset", "--call", "--k", "--batch-size", "--streams",
                   "--seconds", "--kind", "--split", "--unfiltered", "--json"):  # fmt: skip
        assert option in result.stdout
    for bound in ("round trip:", "bandwidth:", "client:", "server:"):
        assert bound in result.stdout
    assert "NEGSERVE_TARGET" in result.stdout
    assert "negserve bench --target" in result.stdout


def test_without_rich_it_says_what_to_install():
    hidden = (
        "import sys\nsys.modules['rich'] = None\nsys.argv = ['negserve', 'bench']\n"
        "from negserve.cli import main\nmain()"
    )
    result = subprocess.run(
        [sys.executable, "-c", hidden], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "negserve bench needs rich" in result.stderr
    assert "pip install 'negserve[client]'" in result.stderr
