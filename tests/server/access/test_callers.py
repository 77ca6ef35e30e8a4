"""The file of tokens: malformed files are refused, and changes take effect."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from pathlib import Path

import pytest

from negserve_server.access.caller import Caller, Quotas
from negserve_server.access.callers import Callers
from negserve_server.errors import MalformedFile

OLD, NEW = "old-0123456789abcdef", "new-0123456789abcdef"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "tokens"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def callers_of(path: Path, num_workers: int = 1, *, has_certificates: bool = False) -> Callers:
    return Callers(path, num_workers, has_certificates=has_certificates)


def has(callers: Callers, token: str) -> bool:
    return callers.with_token(token.encode()) is not None


def later_has(callers: Callers, token: str) -> bool:
    time.sleep(1.1)
    return has(callers, token)


def test_each_line_is_a_token(tmp_path: Path):
    callers = callers_of(written(tmp_path, f"# of team A\n{OLD}\n\n  {NEW}\t\r\n#{OLD}#\n"))
    for good in (OLD, NEW):
        assert has(callers, good)
    for bad in ("", "# of team A", OLD[:-1], OLD + "f", f"{OLD}\n{NEW}", f"#{OLD}#", OLD.upper()):
        assert not has(callers, bad)
    assert OLD not in repr(callers)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no token; give one a line"),
        ("\n# nothing\n", "holds no token; give one a line"),
        (f"{OLD}\nshort-secret\n", "line 2: a token has 12 characters, the minimum is 16"),
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
        callers_of(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert told in message
    assert "openssl rand" in message
    for secret in (OLD, "secret", "geheim"):
        assert secret not in message


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(MalformedFile, match="No such file"):
        callers_of(tmp_path / "tokens")


def test_a_changed_token_file_is_read(tmp_path: Path):
    path = written(tmp_path, OLD)
    callers = callers_of(path)
    path.write_text(f"{OLD}\n{NEW}\n")
    assert later_has(callers, NEW)
    assert has(callers, OLD)
    path.write_text(f"{NEW}\n")
    assert not later_has(callers, OLD)
    assert has(callers, NEW)


def test_a_change_of_equal_length_and_time_counts(tmp_path: Path):
    path = written(tmp_path, OLD)
    callers = callers_of(path)
    before = path.stat()
    replacement = tmp_path / "replacement"
    replacement.write_text(NEW)
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    replacement.rename(path)
    assert later_has(callers, NEW)
    assert not has(callers, OLD)


def test_a_bad_change_leaves_the_tokens_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    path = written(tmp_path, OLD)
    callers = callers_of(path)
    path.write_text("short-secret\n")
    assert later_has(callers, OLD)
    path.unlink()
    assert later_has(callers, OLD)
    assert later_has(callers, OLD)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(said) == 2, "each change is told of once"
    assert "line 1: a token has 12 characters" in said[0]
    assert "No such file" in said[1]
    path.write_text(NEW)
    assert later_has(callers, NEW)
    assert OLD not in caplog.text
    assert "secret" not in caplog.text
    assert NEW not in caplog.text


TEAM = """
# The team of the first floor.
[[token]]
name = "team-a"
token = "old-0123456789abcdef"
scopes = ["sample"]
datasets = ["fb15k-*", "world"]
max_streams = 8
negatives_per_second = 1_000_000
max_ahead_bytes = 4194304
max_published_triples = 1000

[[token]]
name = "operator"
sha256 = "SHA256"
scopes = ["admin", "publish"]

[[certificate]]
subject = "CN=trainer-a,O=Example"
scopes = ["sample"]

[anybody]
scopes = ["sample"]
datasets = ["world"]
""".replace("SHA256", hashlib.sha256(NEW.encode()).hexdigest())


def test_entries_say_who_may_do_what(tmp_path: Path):
    callers = callers_of(written(tmp_path, TEAM), 2, has_certificates=True)
    team, operator = callers.with_token(OLD.encode()), callers.with_token(NEW.encode())
    assert team is not None
    assert operator is not None
    assert (team.name, team.scopes) == ("team-a", {"sample"})
    assert [team.sees(name) for name in ("fb15k-237", "world", "worlds", "FB15K-237")] == [
        True, True, False, False,
    ]  # fmt: skip
    # Half of it for each of two workers; one of them takes all published graphs.
    assert team.quotas == Quotas(
        max_streams=4,
        negatives_per_second=500_000,
        max_ahead_bytes=2097152,
        max_published_triples=1000,
    )
    assert team.rate is not None
    assert team.rate.per_second == 500_000
    assert (operator.name, operator.scopes) == ("operator", {"admin", "publish"})
    assert operator.rate is None
    assert operator.sees("anything")
    trainer, anybody = callers.named("CN=trainer-a,O=Example"), callers.anybody
    assert trainer is not None
    assert anybody is not None
    assert (anybody.name, anybody.datasets) == ("anybody", ("world",))
    assert callers.named("CN=trainer-b,O=Example") is None
    assert OLD not in repr(callers)


def test_a_token_of_a_plain_file_may_do_what_all_could(tmp_path: Path):
    callers = callers_of(written(tmp_path, f"# of team A\n{OLD}\n"))
    caller = callers.with_token(OLD.encode())
    assert caller == Caller(name="line-2", scopes=frozenset({"sample", "publish"}))
    assert callers.anybody is None


def entry(**given: object) -> str:
    keys = {"name": "a", "token": OLD, "scopes": ["sample"], **given}
    lines = (f"{key} = {json.dumps(value)}" for key, value in keys.items() if value is not None)
    return "[[token]]\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[[token]]\nname = secret-of-somebody\n", "is not TOML (at line 2"),
        ("[[tokens]]\nname = 'a'\n", "has 'tokens'; write entries [[token]]"),
        ("[token]\nname = 'a'\n", "has 'token'; write entries [[token]]"),
        (f"[[token]]\n{OLD} = 1\n".replace("old", "secret"), "[[token]] 1 has no key"),
        (entry(name=None), "[[token]] 1 needs name"),
        (entry(name="a b"), "a name has 1 to 100 letters"),
        (entry(scopes=None), "[[token]] 1 (a) needs scopes"),
        (entry(scopes=[]), 'needs scopes = ["..."] with at least one text'),
        (entry(scopes=["root"]), "has the scope 'root'; give some of sample, publish, admin"),
        (entry(datasets="fb15k"), "needs datasets"),
        (entry(token=None), "needs either token"),
        (entry(sha256="0" * 64), "needs either token"),
        (entry(token="short-secret"), "a token has 12 characters, the minimum is 16"),
        (entry(token=None, sha256="0" * 63), "needs 64 digits"),
        (entry(max_streams=0), "needs a whole number of at least 1 as max_streams"),
        (entry(max_streams=1), "max_streams = 1, which 2 workers share; give at least 2"),
        (entry(negatives_per_second=1.5), "needs a whole number"),
        (entry() + entry(token=NEW), "two entries 'a'"),
        (entry() + entry(name="b"), "two entries with one token"),
        ("[[certificate]]\nsubject = 'CN=x'\nscopes = ['sample']\n", "give --tls-client-ca"),
    ],
)
def test_a_malformed_entry_is_refused_without_showing_a_token(
    tmp_path: Path, content: str, told: str
):
    path = written(tmp_path, content)
    with pytest.raises(MalformedFile) as caught:
        callers_of(path, 2)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert told in message
    for secret in (OLD, NEW, "short-secret", "secret-of-somebody"):
        assert secret not in message


def test_reading_again_does_not_fill_the_bucket(tmp_path: Path):
    path = written(tmp_path, entry(negatives_per_second=1000))
    callers = callers_of(path)

    def delay() -> float:
        caller = callers.with_token(OLD.encode())
        assert caller is not None
        assert caller.rate is not None
        return caller.rate.take(5000)

    assert delay() == 0.0
    callers.read()
    assert delay() > 1.0
    path.write_text(entry(negatives_per_second=2000))
    callers.read()
    assert delay() == 0.0
