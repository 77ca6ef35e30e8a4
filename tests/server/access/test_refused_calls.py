"""Refused calls are logged at once, then together, and never as part of a call that has ended."""

from __future__ import annotations

import asyncio
import logging

import pytest

from negserve_server.access import refused_calls
from negserve_server.access.caller import Caller
from negserve_server.logs.call import CALL, LoggedCall


class Lines(logging.Handler):
    """Keeps the lines of the audit log, with the call in which each was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[logging.LogRecord, LoggedCall | None]] = []
        self.has_two = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append((record, CALL.get()))
        if len(self.kept) == 2:
            self.has_two.set()


def test_later_refusals_are_one_line_which_is_of_no_call(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(refused_calls, "_LINE_SECONDS", 0.01)
    logger = logging.getLogger("negserve_server.audit")

    async def main() -> Lines:
        lines = Lines()
        logger.addHandler(lines)
        try:
            CALL.set(LoggedCall("id", "Sample", "peer 0", ""))
            refused = refused_calls.RefusedCalls()
            refused.note("peer 0", "CREDENTIALS_MISSING", None)
            refused.note("peer 1", "CREDENTIALS_INVALID", None)
            refused.note("peer 2", "NOT_PERMITTED", Caller(name="alice"))
            async with asyncio.timeout(60):
                await lines.has_two.wait()
        finally:
            logger.removeHandler(lines)
        return lines

    (first, in_call), (second, in_none) = asyncio.run(main()).kept
    assert vars(first)["refused"] == {"CREDENTIALS_MISSING": 1}
    assert in_call is not None
    assert in_none is None
    assert vars(second)["refused"] == {"CREDENTIALS_INVALID": 1, "NOT_PERMITTED": 1}
    assert (vars(second)["peer"], vars(second)["caller"]) == ("peer 2", "alice")
    assert "the last from alice at peer 2; 3 since the start" in second.getMessage()
