"""Unread environment variables cause a warning, without their values."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from negserve.terminal.variables import mistyped_variables
from tests.support.server_process import server_process

OPTIONS = ("NEGSERVE_SERVE_LISTEN", "NEGSERVE_SERVE_TOKEN_FILE")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NEGSERVE_SERVE_LISTN", "did you mean NEGSERVE_SERVE_LISTEN?"),
        ("NEGSERVE_SERV_LISTEN", "did you mean NEGSERVE_SERVE_LISTEN?"),
        ("NEGSERVE_TOKENFILE", "did you mean NEGSERVE_TOKEN_FILE?"),
        ("NEGSERVE_SERVE_PORT", "there is no such option; see --help"),
        ("NEGSERVE_SERVE_LISTEN", None),
        ("NEGSERVE_TARGET", None),
        # What Kubernetes sets for a service of that name.
        ("NEGSERVE_SERVICE_HOST", None),
        ("NEGSERVE_PORT_7733_TCP_ADDR", None),
        ("NEGSERVE_PORT", None),
    ],
)
def test_mistyped_variables_are_reported(
    monkeypatch: pytest.MonkeyPatch, name: str, told: str | None
):
    for each in list(os.environ):
        if each.startswith("NEGSERVE_"):
            monkeypatch.delenv(each)
    monkeypatch.setenv(name, "secret")
    found = list(mistyped_variables(OPTIONS, "NEGSERVE_SERVE_"))
    assert found == ([] if told is None else [found[0]])
    if told is not None:
        assert found[0].startswith(f"{name} is set, but ")
        assert found[0].endswith(told)
        assert "secret" not in found[0]


@pytest.mark.parametrize(
    ("module", "arguments", "name"),
    [
        (
            "negserve.cli",
            ["info", "--target", "unix:/x", "--timeout", "0.1"],
            "NEGSERVE_TOKN",
        ),
        ("negserve_server.cli", ["inspect"], "NEGSERVE_SERVE_LISTN"),
    ],
)
def test_both_commands_warn(module: str, arguments: list[str], name: str):
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, name: "secret"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert f"{name} is set, but nothing reads it; did you mean {name[:-1]}" not in result.stdout
    assert f"{name} is set, but nothing reads it; did you mean NEGSERVE_" in result.stderr
    assert "secret" not in result.stderr


def test_serve_warns_in_its_log(tmp_path: Path):
    log = tmp_path / "log"
    with server_process(log=log, env={"NEGSERVE_SERVE_MAX_STREAM": "3"}):
        assert "did you mean NEGSERVE_SERVE_MAX_STREAMS?" in log.read_text()
