"""Log lines have one form; text of others in them moves no cursor and fakes no line."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from negserve_server.logs.call import CALL, LoggedCall
from negserve_server.logs.formatters import make_formatter

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: ")
TEXT = st.text(st.characters(exclude_categories=()))


CALL_ID = "0123456789abcdef"


def formatted(
    message: str,
    error: Exception | None = None,
    *,
    log_format: Any = "text",
    level: int = logging.INFO,
    process: str = "",
    **fields: object,
) -> str:
    information = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord(
        "negserve_server.x", level, "", 0, "dataset %s", (message,), information
    )
    vars(record).update(fields)
    return make_formatter(log_format, process).format(record)


@contextmanager
def in_call(caller: str = "", dataset: str = "") -> Iterator[None]:
    token = CALL.set(LoggedCall(CALL_ID, "Sample", "ipv4:127.0.0.1:4711", caller, dataset))
    try:
        yield
    finally:
        CALL.reset(token)


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


def test_warnings_and_errors_end_with_their_call():
    assert "call" not in formatted("x", level=logging.WARNING)
    with in_call():
        assert "call" not in formatted("x")
        for level in (logging.WARNING, logging.ERROR):
            line = formatted("x", level=level)
            assert line.endswith(f"dataset x [call {CALL_ID}, Sample, ipv4:127.0.0.1:4711]")


@given(TEXT, TEXT, TEXT)
def test_no_text_adds_a_line_or_a_field_to_json(message: str, caller: str, dataset: str):
    with in_call(caller, dataset):
        line = formatted(message, ValueError(message), log_format="json")
    assert line.isascii()
    assert line.isprintable()
    read = json.loads(line)
    expected = ["time", "level", "logger", "message", "call", "rpc", "peer"]
    expected += ["caller"] * bool(caller) + ["dataset"] * bool(dataset) + ["traceback"]
    assert list(read) == expected
    assert read["level"] == "info"
    assert read["call"] == CALL_ID
    if re.search("[\ud800-\udfff]", message) is None:
        assert read["message"] == f"dataset {message}"
    for text in read.values():
        text.encode()  # a lone surrogate, which many readers refuse, could not be


def test_what_the_text_of_others_says_stays_in_its_field():
    fake = '", "level": "critical", "caller": "ops"}\n{"time": "2026-01-31T12:00:00.123Z"}'
    read = json.loads(formatted(fake, log_format="json", dataset=fake, changes={fake: fake}))
    assert read["message"] == f"dataset {fake}"
    assert read["level"] == "info"
    assert "caller" not in read
    assert read["dataset"] == fake
    assert read["changes"] == {fake: fake}


def test_a_line_of_json_has_time_process_and_the_fields_of_its_event():
    before = datetime.now(UTC)
    with in_call("alice", "world"):
        line = formatted(
            "x",
            log_format="json",
            process="worker 2",
            event="call_ended",
            peer="unix",
            seconds=0.25,
            answers=0,
            unknown="left out",
        )
    read = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", read["time"])
    assert abs((datetime.fromisoformat(read.pop("time")) - before).total_seconds()) < 60
    assert read == {
        "level": "info",
        "logger": "negserve_server.x",
        "process": "worker 2",
        "event": "call_ended",
        "message": "dataset x",
        "call": CALL_ID,
        "rpc": "Sample",
        "peer": "unix",
        "caller": "alice",
        "dataset": "world",
        "seconds": 0.25,
        "answers": 0,
    }


def test_a_traceback_is_one_field():
    try:
        raise ValueError("bad\nluck")
    except ValueError as error:
        line = formatted("x", error, log_format="json")
    traceback = json.loads(line)["traceback"]
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.endswith("ValueError: bad\nluck")
