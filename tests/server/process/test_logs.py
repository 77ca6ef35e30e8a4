"""Log lines have one form; text of others in them moves no cursor and fakes no line."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negserve_server.errors import MalformedFile
from negserve_server.process.logs import LogFormatter, LogLevel
from tests.server.test_app import run

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ")
TEXT = st.text(st.characters(exclude_categories=()))


def formatted(message: str, error: Exception | None = None) -> str:
    information = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(
        "negserve_server.x", logging.INFO, "", 0, "dataset %s", (message,), information
    )
    return LogFormatter().format(record)


@given(TEXT)
def test_a_record_is_one_printable_line(text: str):
    line = formatted(text)
    assert LINE.match(line)
    assert len(line.splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", line)
    line.encode()


@given(TEXT)
def test_no_line_of_a_traceback_looks_like_another_record(text: str):
    first, *others = formatted("x", ValueError(f"bad\n{text}")).split("\n")
    assert LINE.match(first)
    assert others
    for line in others:
        assert line.startswith("  ")
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", line)


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
        ("inof", "no log level, which are debug, info, warning, error, nor a file"),
        ("inof", "did you mean 'info'?"),
        ("/no/such/file", "No such file"),
    ],
)
def test_an_unknown_level_is_reported(given_level: str, told: str):
    result = run("serve", "--log-level", given_level)
    assert result.returncode == 2
    assert told in result.stderr.replace("\n", " ")
