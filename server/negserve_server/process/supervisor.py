"""Keeps several processes of one kind at work: starts them again, and ends them in order."""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from negserve_server.errors import WorkerFailed
from negserve_server.process.command import INTERRUPTED, stop_watching
from negserve_server.process.control_line import ControlLine
from negserve_server.process.family import Child, Family, Tell, how_it_ended
from negserve_server.process.orders import Chief, Follower, Orders
from negserve_server.process.reloading import Reloading

logger = logging.getLogger(__name__)

#: A worker that ends sooner than this after its start is started again only after a pause.
_SOON_SECONDS = 10.0
#: The first of these pauses, doubled each time, and the longest.
_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 30.0
#: Starts of one worker that may fail in a row, after the first one succeeded.
_MOST_FAILED_STARTS = 5
#: How long workers may take to end after they should have, on a busy machine.
_END_SECONDS = 10.0


@dataclass
class _Worker:
    """One of the places; a process has it, or will have it.

    :ivar due: when a process is to be started
    :ivar num_early_ends: processes in a row that ended soon
    :ivar num_failed_starts: those among them that never were ready
    """

    number: int
    child: Child | None = None
    line: ControlLine | None = None
    is_ready: bool = False
    started_at: float = 0.0
    due: float = 0.0
    num_early_ends: int = 0
    num_failed_starts: int = 0


class Supervisor:
    """Runs a function in several forked processes until SIGTERM or SIGINT.

    :param num_workers: how many
    :param work: what each does, called with its number, from 1 on, a function that tells that it is
        ready, and a line about that, and its end of the line of orders; it drains and returns after
        SIGTERM
    :param chief: decides what all workers do together
    :param drain_seconds: how long it may take for that
    :param reloading: what SIGHUP reads again; SIGHUP is passed on, too
    :param on_restart: called with the number of a worker that has ended and is started again
    """

    def __init__(
        self,
        num_workers: int,
        work: Callable[[int, Tell, ControlLine], None],
        chief: Chief,
        *,
        drain_seconds: float,
        reloading: Reloading,
        on_restart: Callable[[int], None],
    ) -> None:
        self._on_restart = on_restart
        self._work = work
        self._orders = Orders(chief)
        self._drain_seconds = drain_seconds
        self._reloading = reloading
        self._family = Family()
        self._workers = [_Worker(number) for number in range(1, num_workers + 1)]
        self._is_begun = False
        self._stopped_at: float | None = None
        self._failure = ""
        self._signals: list[int] = []

    def run(self, on_ready: Callable[[list[str]], None]) -> int:
        """Start the workers, keep them at work, and return the exit status once all have ended.

        :param on_ready: called once all are ready, with what the first one told
        :raises WorkerFailed: if one can't start
        """
        stop_watching()
        self._wake_reader, wake_writer = os.pipe()
        os.set_blocking(wake_writer, False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._note)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self._own = (self._wake_reader, wake_writer)
        try:
            while self._stopped_at is None or self._running:
                self._handle_signals()
                self._start_those_due()
                self._wait()
                if not self._is_begun and all(each.is_ready for each in self._workers):
                    self._is_begun = True
                    first = self._workers[0].child
                    on_ready(first.told if first is not None else [])
                self._bury()
        except _Interrupted:
            return INTERRUPTED
        finally:
            for child in self._running:
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
        if self._failure:
            raise WorkerFailed(self._failure)
        return 0

    @property
    def _running(self) -> list[Child]:
        return [each.child for each in self._workers if each.child is not None]

    def _note(self, number: int, _: object) -> None:
        self._signals.append(number)

    def _handle_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGINT and self._stopped_at is not None:
                raise _Interrupted
            if number in {signal.SIGTERM, signal.SIGINT}:
                self._stop()
            elif number == signal.SIGHUP:
                if self._reloading.has_lost_terminal:
                    self._stop()
                else:
                    self._reloading.read()  # for those that are started later
                    self._send(signal.SIGHUP)
                    self._orders.reload()

    def _stop(self) -> None:
        if self._stopped_at is None:
            self._stopped_at = time.monotonic()
        self._send(signal.SIGTERM)

    def _send(self, number: signal.Signals) -> None:
        for child in self._running:
            os.kill(child.pid, number)  # not yet buried, so the number is still its own

    def _start_those_due(self) -> None:
        now = time.monotonic()
        for each in self._workers:
            if each.child is None and self._stopped_at is None and now >= each.due:
                each.started_at = now
                number = each.number
                ours, theirs = ControlLine.pair()
                lines = (ours, *self._orders.lines)
                each.child = self._family.fork(
                    lambda tell, number=number, line=theirs: self._work(number, tell, line),  # type: ignore[misc]
                    (
                        *self._own,
                        *(child.reports for child in self._running),
                        *(line.fileno() for line in lines),
                    ),
                )
                theirs.close()
                each.line = ours
                self._orders.join(Follower(f"worker {number}", each.child.pid, ours))

    def _wait(self) -> None:
        """Wait for a signal, a report, or the next thing to do."""
        now = time.monotonic()
        until = [each.due - now for each in self._workers if each.child is None]
        if self._stopped_at is not None:
            rest = self._stopped_at + self._drain_seconds + _END_SECONDS - now
            if rest <= 0:
                self._fail("a worker did not end in time after SIGTERM, and was killed")
                self._send(signal.SIGKILL)
            until = [max(rest, 0.1)]
        telling = {
            each.child.reports: each
            for each in self._workers
            if each.child is not None and not each.is_ready
        }
        left = self._orders.seconds_left()
        until += [] if left is None else [left]
        lines = {line.fileno(): line for line in self._orders.lines if not line.is_over}
        found, writable, _ = select.select(
            [self._wake_reader, *telling, *lines],
            [number for number, line in lines.items() if line.has_unsent],
            [],
            max(min(until), 0.0) if until else None,
        )
        for descriptor in writable:
            lines[descriptor].flush()
        self._orders.read([lines[descriptor] for descriptor in found if descriptor in lines])
        self._orders.check()
        for descriptor in found:
            if descriptor in lines:
                continue
            if descriptor == self._wake_reader:
                os.read(descriptor, 4096)
            elif (child := telling[descriptor].child) is not None:
                if not child.read():
                    time.sleep(0.01)  # it is about to end
                telling[descriptor].is_ready = bool(child.told) and not child.failure

    def _bury(self) -> None:
        """Take note of workers that have ended."""
        for each in self._workers:
            child = each.child
            if child is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                child.close()
                if each.line is not None:
                    self._orders.leave(each.line)
                    each.line = None
                was_ready, each.child, each.is_ready = each.is_ready, None, False
                self._note_end(each, child, os.waitstatus_to_exitcode(status), was_ready)

    def _note_end(self, worker: _Worker, child: Child, code: int, was_ready: bool) -> None:
        what = f"worker {worker.number} (process {child.pid}) {how_it_ended(code)}"
        if child.failure:
            what += f": {child.failure}"
        if self._stopped_at is not None:
            if code:
                logger.error("%s while it drained", what)
            return
        if not self._is_begun and not was_ready:
            self._fail(child.failure or f"{what} before it could answer requests")
            return
        is_early = time.monotonic() - worker.started_at < _SOON_SECONDS
        worker.num_failed_starts = 0 if was_ready else worker.num_failed_starts + 1
        if worker.num_failed_starts == _MOST_FAILED_STARTS:
            self._fail(f"{what}; its start failed {_MOST_FAILED_STARTS} times in a row")
            return
        worker.num_early_ends = worker.num_early_ends + 1 if is_early else 0
        pause = 0.0
        if worker.num_early_ends > 1:
            pause = _PAUSE_SECONDS * 2.0 ** min(worker.num_early_ends - 2, 16)
        pause = min(pause, _LONGEST_PAUSE_SECONDS)
        worker.due = time.monotonic() + pause
        self._on_restart(worker.number)
        logger.error("%s; it is started again%s", what, f" in {pause:g} s" if pause else "")

    def _fail(self, why: str) -> None:
        self._failure = self._failure or why
        self._stop()


class _Interrupted(Exception):
    """SIGINT came once more during the drain."""
