"""The log level is a word, or a file with one that may change; anything else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from negserve_server.errors import MalformedFile
from negserve_server.logs.log_level import LogLevel
from tests.server.test_app import run


@pytest.mark.parametrize("content", ["debug", "warning\n", "  ERROR \n"])
def test_a_level_may_be_in_a_file(tmp_path: Path, content: str):
    path = tmp_path / "level"
    path.write_text(content)
    level = LogLevel(str(path))
    assert level.level == content.strip().lower()
    path.write_text("info\n")
    assert level.read() == "info"
    path.write_text("loud\n")
    with pytest.raises(MalformedFile, match="holds 'loud'; give one of debug, info"):
        level.read()
    assert level.level == "info"


@pytest.mark.parametrize(
    ("given_level", "told"),
    [
        ("inof", "neither a log level (debug, info, warning, error) nor a readable file"),
        ("inof", "did you mean 'info'?"),
        ("/no/such/file", "No such file"),
    ],
)
def test_an_unknown_level_is_reported(given_level: str, told: str):
    result = run("serve", "--log-level", given_level)
    assert result.returncode == 2
    assert told in result.stderr.replace("\n", " ")
