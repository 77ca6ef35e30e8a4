"""Processes that are forked from this one, share its memory, and end with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

from negserve_server.errors import NegserveServerError

#: Tells the parent something; what it told is text.
Tell = Callable[[str], None]

#: Signals that a new process must not handle as its parent does.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FAILED = "failed: "


class Child:
    """A forked process, as its parent sees it.

    :ivar pid: its number
    :ivar reports: what it tells: a descriptor to read lines from, at its end once it has ended
    """

    def __init__(self, pid: int, reports: int) -> None:
        self.pid = pid
        self.reports = reports
        self._told = b""
        self._is_over = False

    @property
    def told(self) -> list[str]:
        """All complete lines that it has told."""
        return self._told.decode(errors="replace").split("\n")[:-1]

    @property
    def failure(self) -> str:
        """Why it failed, in its own words; empty if it did not say."""
        last = self.told[-1:]
        return last[0].removeprefix(_FAILED) if last and last[0].startswith(_FAILED) else ""

    def read(self) -> bool:
        """Read what it tells, and return whether more may come; waits for something."""
        if not self._is_over:
            data = os.read(self.reports, 1 << 16)
            self._told += data
            self._is_over = not data
        return not self._is_over

    def close(self) -> None:
        """Read the rest, once the process has ended."""
        while self.read():
            pass
        os.close(self.reports)

    def wait(self) -> int:
        """Wait for its end, and return its exit code; negative for a signal."""
        self.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Family:
    """Forks processes that end when this one ends, however it ends.

    Each holds the reading end of a pipe whose writing end only this process has. The system closes
    that one at its end, also after SIGKILL.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()

    def close(self) -> None:
        """End the processes that are left."""
        os.close(self._reader)
        os.close(self._writer)

    def fork(self, work: Callable[[Tell], None], closing: Iterable[int] = ()) -> Child:
        """Run a function in a new process, which ends with it.

        An exception ends it with code 1 and is told as :attr:`Child.failure`. No thread may be at
        work: it would be missing in the new process, with all that it has locked.

        :param work: called with a function that tells lines
        :param closing: descriptors of this process that the new one must not hold
        """
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal must meet either the parent's handlers in the parent, or the child's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with warnings.catch_warnings():
                # Of threads that libraries have started and that rest; see above.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                self._become_child(work, writer, (reader, *closing))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writer)
        return Child(pid, reader)

    def _become_child(
        self, work: Callable[[Tell], None], writer: int, closing: Iterable[int]
    ) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda number, _: os._exit(0 if number == 15 else 130))
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._writer)
            for descriptor in closing:
                os.close(descriptor)
            threading.Thread(target=self._end_with_parent, name="parent", daemon=True).start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

            def tell(text: str) -> None:
                os.write(writer, text.replace("\n", " ").encode() + b"\n")

            try:
                work(tell)
                code = 0
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else int(bool(end.code))
            except MemoryError as error:
                tell(f"{_FAILED}not enough memory{f': {error}' if str(error) else ''}")
            except Exception as error:
                if not isinstance(error, OSError | ValueError | NegserveServerError):
                    sys.excepthook(*sys.exc_info())
                tell(f"{_FAILED}{error or type(error).__name__}")
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)

    def _end_with_parent(self) -> None:
        os.read(self._reader, 1)
        os._exit(1)


def how_it_ended(code: int) -> str:
    """Say how a process ended, by its exit code, or the negative number of a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = str(-code)
    with suppress(ValueError):
        name = signal.Signals(-code).name
    hint = ", as the system does where memory is short" if code == -signal.SIGKILL else ""
    return f"was killed by {name}{hint}"
