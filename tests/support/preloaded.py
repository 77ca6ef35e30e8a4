"""Python programs forked from a process that has imported and compiled everything: they start at
once.

That process is one for all that run tests, see :func:`start_for_workers`. Otherwise they are
processes like any other, with a number, memory, signals and output of their own, and can be killed.
A test that is about starting, importing or the environment of imports starts
:data:`sys.executable` instead. The process that forks is :mod:`tests.support.forking_process`.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, Any

from tests.support.graphs import REPOSITORY

#: The module that the process runs.
_FORKING = "tests.support.forking_process"
#: The variable that gRPC reads when it is imported: for each value there is a process that forks.
_READ_BY_IMPORTS = "GRPC_ENABLE_FORK_SUPPORT"
#: Names the abstract socket of the process that forks for all that run tests. Servers complain of
#: unknown variables that begin with NEGSERVE.
_SHARED = "TESTS_FORKED_BY"
_LOCK = threading.Lock()
_forking_pids: list[int] = []
_running: weakref.WeakSet[PreloadedProcess] = weakref.WeakSet()
_seconds_of_ended = 0.0

#: As of :class:`subprocess.Popen`: a file, PIPE, DEVNULL, or None for that of the tests.
Stream = IO[Any] | int | None


def used_seconds() -> float:
    """Return the processor time of programs, so far, and of what forks them, in seconds."""
    running = sum(_seconds_so_far(program.pid) for program in list(_running))
    forking = sum(seconds_of(pid, children=False) for pid in _forking_pids)
    return _seconds_of_ended + running + forking


def start_for_workers() -> None:
    """Start the process that forks for all processes that run tests; it ends with this process."""
    name = f"negserve-tests-{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(f"\0{name}")
    listener.listen(64)
    with listener:
        _start_forking(None, listener)
    os.environ[_SHARED] = name


def seconds_of(pid: int, *, children: bool = True) -> float:
    """Return the processor time of a process and of those that it waited for, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if children else 13])) / os.sysconf("SC_CLK_TCK")


def _seconds_so_far(pid: int) -> float:
    try:
        return seconds_of(pid)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has just ended, and its status is under way


class PreloadedProcess:
    """A running program, with what the tests need of :class:`subprocess.Popen`.

    :param command: arguments of Python: ``-m MODULE``, ``-c SOURCE`` or a path, then those of the
        program
    :param env: its environment; a variable that is read by an import has no effect, except for
        ``GRPC_ENABLE_FORK_SUPPORT``
    :param start_new_session: it leads a process group
    :param imports: modules that it imports, imported before the fork
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        start_new_session: bool = False,
        imports: Sequence[str] = (),
    ) -> None:
        request = {
            "command": [os.fspath(argument) for argument in command],
            "environment": dict(os.environ if env is None else env),
            "folder": os.fspath(cwd or os.getcwd()),
            "leads": start_new_session,
            "imports": list(imports),
        }
        status_reader, status_writer = os.pipe()
        with ExitStack() as ends:
            ends.callback(os.close, status_writer)
            theirs = []
            ours: list[IO[str] | None] = []
            for number, stream in enumerate((stdin, stdout, stderr)):
                kept = None
                if stream is None:
                    their = number
                elif stream == PIPE:
                    reader, writer = os.pipe()
                    their, own = (reader, writer) if number == 0 else (writer, reader)
                    ends.callback(os.close, their)
                    kept = os.fdopen(own, "w" if number == 0 else "r")
                elif stream == DEVNULL:
                    their = os.open(os.devnull, os.O_RDWR)
                    ends.callback(os.close, their)
                else:
                    their = stream if isinstance(stream, int) else stream.fileno()
                theirs.append(their)
                ours.append(kept)
            with _LOCK:
                forking = _forking(request["environment"].get(_READ_BY_IMPORTS))
                data = json.dumps(request).encode()
                socket.send_fds(forking, [data], [*theirs, status_writer])
        self.args = command
        self.stdin, self.stdout, self.stderr = ours
        self._status = os.fdopen(status_reader, "rb", buffering=0)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None
        _running.add(self)

    def poll(self) -> int | None:
        """Return the exit status if the program has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, once the program has ended."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(str(self.args), timeout or 0)
        return status

    def _ended(self, timeout: float | None) -> int | None:
        with _LOCK:
            if self.returncode is not None:
                return self.returncode
        if select.select([self._status], [], [], timeout)[0]:
            with _LOCK:
                if self.returncode is None:
                    status, seconds = self._status.readline().split()
                    self.returncode = os.waitstatus_to_exitcode(int(status))
                    self._status.close()
                    _running.discard(self)
                    global _seconds_of_ended  # noqa: PLW0603
                    _seconds_of_ended += float(seconds)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Read all output, until all that hold it have ended, and wait."""
        until = None if timeout is None else time.monotonic() + timeout
        if self.stdin is not None:
            self.stdin.close()
        read: list[list[str] | None] = []
        threads = []
        for stream in (self.stdout, self.stderr):
            read.append(None if stream is None else [])
            if stream is not None and not stream.closed:
                thread = threading.Thread(target=_read, args=(stream, read[-1]), daemon=True)
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join(None if until is None else max(0.0, until - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(str(self.args), timeout or 0)
        self.wait(None if until is None else max(0.0, until - time.monotonic()))
        stdout, stderr = (None if part is None else "".join(part) for part in read)
        return stdout, stderr

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            # It may have ended, and its status be under way.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _read(stream: IO[str], into: list[str]) -> None:
    with stream:
        into.append(stream.read())


def run(
    command: Sequence[str | os.PathLike[str]],
    *,
    timeout: float,
    input: str = "",  # noqa: A002
    check: bool = False,
    stdout: int | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, as :func:`subprocess.run` does, and return status and output.

    :param stdout: where its output goes if it is not to be returned
    :param options: of :class:`PreloadedProcess`
    """
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(3)]
        files[0].write(input)
        files[0].seek(0)
        process = PreloadedProcess(
            command,
            stdin=files[0],
            stdout=files[1] if stdout is None else stdout,
            stderr=files[2],
            **options,
        )
        try:
            status = process.wait(timeout)
        finally:
            process.kill()
            process.wait(30)
        said = []
        for file in files[1:]:
            file.seek(0)
            said.append(file.read())
    assert not (check and status), f"{command} ended with {status}\n{said[1]}"
    return subprocess.CompletedProcess(command, status, *said)


@functools.cache
def _forking(fork_support: str | None) -> socket.socket:
    """Return a connection to the process that forks, which is started if there is none."""
    name = os.environ.get(_SHARED)
    if name is None or fork_support is not None:
        return _start_forking(fork_support)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(f"\0{name}")
    atexit.register(connection.close)
    return connection


def _start_forking(
    fork_support: str | None, listener: socket.socket | None = None
) -> socket.socket:
    """Start a process that forks; it ends with this process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop(_READ_BY_IMPORTS, None)
    if fork_support is not None:
        environment[_READ_BY_IMPORTS] = fork_support
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        descriptors = [each.fileno() for each in (theirs, listener) if each is not None]
        process = subprocess.Popen(
            [sys.executable, "-m", _FORKING, *map(str, descriptors)],
            pass_fds=descriptors,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    _forking_pids.append(process.pid)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours
