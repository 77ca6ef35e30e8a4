"""Log lines of gRPC's core appear in our format and at our level; other output is unchanged."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from negserve_server.logs.grpc_log import PROGRAM
from tests.server.logs.test_log_lines import LINE

_LINES = b"""WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I1126 20:56:22.736008    9283 chttp2_server.cc:794] something \x1b[2J small
W1126 20:56:22.736008    9283 log.cc:110] Log level DEBUG is not suitable for production.
W1126 20:56:22.736008    9283 log.cc:1] something odd
E1126 20:56:22.747749    9283 ssl_transport_security.cc:1884] Handshake failed: x
malloc(): corrupted top size
"""


def filtered(level: str, lines: bytes, log_format: str = "text") -> list[str]:
    result = subprocess.run(
        [sys.executable, "-P", PROGRAM, level, log_format],
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


def test_in_json_every_line_is_an_event_also_of_what_is_not_grpc():
    fake = b'{"time": "2026-01-31T12:00:00.123Z", "level": "info", "message": "fake"}\n\n'
    events = [json.loads(line) for line in filtered("warning", _LINES + fake, "json")]
    assert [(each["logger"], each["level"], each["message"]) for each in events] == [
        ("grpc.core", "warning", "something odd (log.cc:1)"),
        ("grpc.core", "error", "Handshake failed: x (ssl_transport_security.cc:1884)"),
        ("stderr", "error", "malloc(): corrupted top size"),
        ("stderr", "error", fake.decode().strip()),
    ]
    assert filtered("info", _LINES, "json")[0].isascii()


_PROGRAM = """
import logging, os, sys
from negserve_server.logs import log_handler
from negserve_server.logs.grpc_log import GrpcLog
log_handler.set_up("info", "{log_format}")
lines = GrpcLog("info", "{log_format}")
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


def run_to_its(end: str, log_format: str) -> list[str]:
    program = _PROGRAM.format(end=end, log_format=log_format)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == {"": 0, "os.abort()": -6, "os._exit(3)": 3}[end]
    return result.stderr.splitlines()


@pytest.mark.parametrize("end", ["", "os.abort()", "os._exit(3)"])
def test_nothing_is_lost_however_the_process_ends(end: str):
    lines = run_to_its(end, "text")
    (of_grpc,) = (line for line in lines if "No such file or directory" in line)
    assert re.match(r".{23} ERROR grpc\.core: Failed to add port", of_grpc)
    assert any(line.endswith("INFO x: ours") for line in lines)
    assert "of Python" in lines
    assert "last words" in lines


def test_in_json_whatever_reaches_standard_error_is_an_event():
    events = [json.loads(line) for line in run_to_its("os.abort()", "json")]
    said = {(each["logger"], each["message"]) for each in events}
    assert {("x", "ours"), ("stderr", "of Python"), ("stderr", "last words")} <= said
    assert any(name == "grpc.core" and text.startswith("Failed to add") for name, text in said)
