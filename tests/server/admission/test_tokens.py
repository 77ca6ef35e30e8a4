"""The file of tokens: malformed files are refused, and changes take effect."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from negserve_server.admission.tokens import Tokens
from negserve_server.errors import MalformedFile

OLD, NEW = "old-0123456789abcdef", "new-0123456789abcdef"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "tokens"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def later_has(tokens: Tokens, token: str) -> bool:
    time.sleep(1.1)
    return tokens.has(token.encode())


def test_each_line_is_a_token(tmp_path: Path):
    tokens = Tokens(written(tmp_path, f"# of team A\n{OLD}\n\n  {NEW}\t\r\n#{OLD}#\n"))
    for good in (OLD, NEW):
        assert tokens.has(good.encode())
    for bad in ("", "# of team A", OLD[:-1], OLD + "f", f"{OLD}\n{NEW}", f"#{OLD}#", OLD.upper()):
        assert not tokens.has(bad.encode())
    assert OLD not in repr(tokens)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no token; give one a line"),
        ("\n# nothing\n", "holds no token; give one a line"),
        (f"{OLD}\nshort-secret\n", "line 2: a token has 12 characters, the least are 16"),
        ("# x\n\nsecret with a blank\n", "line 3: a token has a character that is not printable"),
        ("geheimer-schlüssel", "line 1: a token has a character that is not printable"),
        (b"\xff\xfe" + OLD.encode("utf-16-le"), "line 1: a token has a character that is not"),
        ("secret-\x00123456789abc", "line 1: a token has a character that is not printable"),
    ],
)
def test_a_malformed_file_is_refused_without_showing_it(
    tmp_path: Path, content: str | bytes, told: str
):
    path = written(tmp_path, content)
    with pytest.raises(MalformedFile) as caught:
        Tokens(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert told in message
    assert "openssl rand" in message
    for secret in (OLD, "secret", "geheim"):
        assert secret not in message


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(MalformedFile, match="No such file"):
        Tokens(tmp_path / "tokens")


def test_a_changed_token_file_is_read(tmp_path: Path):
    path = written(tmp_path, OLD)
    tokens = Tokens(path)
    path.write_text(f"{OLD}\n{NEW}\n")
    assert later_has(tokens, NEW)
    assert tokens.has(OLD.encode())
    path.write_text(f"{NEW}\n")
    assert not later_has(tokens, OLD)
    assert tokens.has(NEW.encode())


def test_a_change_of_equal_length_and_time_counts(tmp_path: Path):
    path = written(tmp_path, OLD)
    tokens = Tokens(path)
    before = path.stat()
    replacement = tmp_path / "replacement"
    replacement.write_text(NEW)
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    replacement.rename(path)
    assert later_has(tokens, NEW)
    assert not tokens.has(OLD.encode())


def test_a_bad_change_leaves_the_tokens_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    path = written(tmp_path, OLD)
    tokens = Tokens(path)
    path.write_text("short-secret\n")
    assert later_has(tokens, OLD)
    path.unlink()
    assert later_has(tokens, OLD)
    assert later_has(tokens, OLD)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 2, "each change is told of once"
    assert "line 1: a token has 12 characters" in said[0]
    assert "No such file" in said[1]
    path.write_text(NEW)
    assert later_has(tokens, NEW)
    assert OLD not in caplog.text
    assert "secret" not in caplog.text
    assert NEW not in caplog.text
