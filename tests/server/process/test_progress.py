"""A first start reports the kernels that compile, and the graphs that load."""

from __future__ import annotations

import logging
import os
import pty
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from negserve_server.jit.compiled import count_kernels
from negserve_server.process import progress
from negserve_server.warm_up import warm_up
from tests.server.logs.test_log_lines import LINE

INSPECT = [sys.executable, "-m", "negserve_server.cli", "inspect"]
COMPILING = "compiling the sampling kernels, which takes some 20 s"


def test_every_kernel_is_counted_and_compiled_before_serving():
    warm_up({})
    num_ready, num_kernels = count_kernels()
    assert num_ready == num_kernels > 10


def test_the_first_use_on_a_machine_is_told_of_once(tmp_path: Path):
    """Also in a library; a second process finds the cached kernels."""
    program = (
        "from negserve_server.graph import TriplesFactory\n"
        "print(TriplesFactory.world().contains([[0, 0, 0]], ('training',)))\n"
    )
    said = []
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=280,
            check=True,
        )
        said.append(result.stderr)
    (line,) = said[0].splitlines()
    assert COMPILING in line
    assert f"only this once, as they are kept in {tmp_path}" in line
    assert said[1] == ""


def test_inspect_says_so_at_a_terminal_with_a_bar(tmp_path: Path):
    terminal, own = pty.openpty()
    process = subprocess.Popen(
        INSPECT,
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "TERM": "xterm", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=own,
        text=True,
    )
    os.close(own)
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 10_000)
        except OSError:  # nobody writes any more
            break
    os.close(terminal)
    stdout, _ = process.communicate(timeout=280)
    assert process.returncode == 0
    assert "fingerprint" in stdout
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert COMPILING in text
    assert b"\x1b[?25l" not in shown, "Ctrl-C would leave the cursor hidden"
    assert re.search(r"compiling the kernel \w+, \d+ of \d+ are ready .*━.* 0:0", text)


def test_without_a_terminal_there_is_a_line_every_few_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    with progress.show_progress("loading dataset huge"):
        until = time.monotonic() + 60
        while len(caplog.records) < 3:
            assert time.monotonic() < until
            time.sleep(0.01)
    assert all(
        re.fullmatch(r"loading dataset huge, for \d+ s now", record.getMessage())
        for record in caplog.records
    )
    num_lines = len(caplog.records)
    assert not [t for t in threading.enumerate() if t.name == "negserve-progress"]
    time.sleep(0.2)
    assert len(caplog.records) == num_lines


def test_a_start_that_compiles_logs_how_far_it_is(tmp_path: Path):
    """Not until the end, which would take a minute on a busy machine."""
    process = subprocess.Popen(
        [sys.executable, "-m", "negserve_server.cli", "serve", "--listen", "127.0.0.1:0"],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    try:
        while len(said) < 2:
            line = process.stderr.readline()
            assert line, "the server is gone"
            assert LINE.match(line)
            if "compiling" in line:
                said.append(line)
    finally:
        process.kill()
        process.wait(30)
        process.stderr.close()
    assert COMPILING in said[0]
    assert re.search(r"compiling the kernel \w+, \d+ of \d+ are ready, for \d+ s now", said[1])


def test_counted_work_has_a_rate_and_time_left(monkeypatch: pytest.MonkeyPatch):
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.01)
    monkeypatch.setattr(progress.logger, "info", lambda text, *each: lines.put(text % each))
    with progress.show_progress("building") as work:
        assert lines.get(timeout=60).startswith("building, for ")
        work.advance("writing triples", 0, 4_000)
        work.advance("indexing heads", 3_000, 4_000)
        line = ""
        while not line.startswith("indexing"):
            line = lines.get(timeout=60)
    number = r"[\d,]+"
    assert re.match(
        rf"indexing heads, 3,000 of 4,000, {number}/s, {number} s left, for \d+ s now", line
    )
