"""Processor time of each test file, with that of the programs that its tests start, and how long it
takes: a file that takes long and computes little waits.

``pytest --cpu-seconds`` prints a table. A program forked for the tests counts while it runs, along
with those of its own that have ended; any other once it has ended and was waited for: one that
outlives its parent is missing. What programs are forked from has a line of its own if several
processes run tests, and else counts for the file that needs it first, as what workers of loaders
are forked from always does.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any

import pytest

from tests.support import preloaded

_PROPERTY = "cpu_seconds"
_COLLECTION = "(imports and collection)"
_FORKING = "(what programs are forked from)"


class _Counter:
    """Runs in each process that runs tests."""

    def __init__(self) -> None:
        self._before = 0.0

    def take(self) -> float:
        """Return the seconds since the last call; at the first, since the process began."""
        times = os.times()
        now = sum(times[:4]) + preloaded.used_seconds()
        if (pid := forkserver._forkserver._forkserver_pid) is not None:  # type: ignore[attr-defined]
            now += preloaded.seconds_of(pid)
        taken, self._before = now - self._before, now
        return taken

    @pytest.hookimpl(wrapper=True)
    def pytest_collection(self) -> Iterator[None]:
        yield
        self.of_collection = self.take()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: Any) -> Iterator[None]:
        report: Any = yield
        if call.when == "teardown":
            report.user_properties.append((_PROPERTY, self.take()))
        return report  # type: ignore[return-value]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[_PROPERTY] = self.of_collection


class _Table:
    """Runs in the process that prints."""

    def __init__(self, counter: _Counter) -> None:
        self._counter = counter
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._taken: defaultdict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._taken[report.nodeid.partition("::")[0]] += report.duration
        for name, value in report.user_properties:
            if name == _PROPERTY and report.when == "teardown":
                assert isinstance(value, float)
                self._seconds[report.nodeid.partition("::")[0]] += value

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._seconds[_COLLECTION] += getattr(node, "workeroutput", {}).get(_PROPERTY, 0.0)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self._seconds[_COLLECTION] += self._counter.of_collection
        if terminalreporter.config.getoption("numprocesses"):
            self._seconds[_FORKING] = preloaded.used_seconds()
        terminalreporter.section("seconds of each file: of processors, and until its end")
        for name, seconds in sorted(self._seconds.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{seconds:8.1f} {self._taken[name]:8.1f}  {name}")
        both = [sum(times.values()) for times in (self._seconds, self._taken)]
        terminalreporter.write_line(f"{both[0]:8.1f} {both[1]:8.1f}  together")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cpu-seconds", action="store_true", help="print the processor time of each test file"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--cpu-seconds"):
        counter = _Counter()
        config.pluginmanager.register(counter)
        if not hasattr(config, "workerinput"):
            config.pluginmanager.register(_Table(counter))
