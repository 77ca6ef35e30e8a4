"""Log lines of gRPC's core appear in our format and at our level; other output is unchanged."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.server.process.test_logs import LINE

_LINES = b"""WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I1126 20:56:22.736008    9283 chttp2_server.cc:794] something \x1b[2J small
W1126 20:56:22.736008    9283 log.cc:110] Log level DEBUG is not suitable for production.
W1126 20:56:22.736008    9283 log.cc:1] something odd
E1126 20:56:22.747749    9283 ssl_transport_security.cc:1884] Handshake failed: x
malloc(): corrupted top size
"""


def filtered(level: str, lines: bytes) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-m", "negserve_server.process.grpc_lines", level],
        input=lines,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return result.stderr.decode().splitlines()


@pytest.mark.parametrize(("level", "num_lines"), [("debug", 3), ("warning", 2), ("error", 1)])
def test_lines_are_written_anew(level: str, num_lines: int):
    *lines, words = filtered(level, _LINES)
    assert words == "malloc(): corrupted top size"
    assert len(lines) == num_lines
    assert all(LINE.match(line) for line in lines)
    assert re.fullmatch(
        r".{23} ERROR grpc\.core: Handshake failed: x \(ssl_transport_security\.cc:1884\)",
        lines[-1],
    )
    if level == "debug":
        assert lines[0].endswith(
            r"INFO grpc.core: something \u001b[2J small (chttp2_server.cc:794)"
        )


def test_the_level_may_change():
    lines = filtered("error", _LINES + b"\0negserve level info\n" + _LINES)
    assert [line.split()[2] for line in lines if LINE.match(line)] == [
        *("ERROR", "INFO", "WARNING", "ERROR")
    ]


_PROGRAM = """
import logging, os, sys
from negserve_server.process import logs
from negserve_server.process.grpc_lines import GrpcLines
logs.set_up("info")
lines = GrpcLines("info")
import grpc
server = grpc.server(None)
try:
    server.add_insecure_port("unix:/no/such/folder/socket")
except RuntimeError:
    pass
logging.getLogger("x").info("ours")
sys.stderr.write("of Python\\n")
os.write(2, b"last words")
{end}
"""


@pytest.mark.parametrize("end", ["", "os.abort()", "os._exit(3)"])
def test_nothing_is_lost_however_the_process_ends(end: str):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM.format(end=end)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == {"": 0, "os.abort()": -6, "os._exit(3)": 3}[end]
    lines = result.stderr.splitlines()
    (of_grpc,) = (line for line in lines if "No such file or directory" in line)
    assert re.match(r".{23} ERROR grpc\.core: Failed to add port", of_grpc)
    assert any(line.endswith("INFO x: ours") for line in lines)
    assert "of Python" in lines
    assert "last words" in lines
