"""Python programs forked from a process that has imported and compiled everything: they start at
once.

That process is one for all that run tests, see :func:`start_for_workers`. Otherwise they are
processes like any other, with a number, memory, signals and output of their own, and can be killed.
A test that is about starting, importing or the environment of imports starts
:data:`sys.executable` instead. Run as a program, this is the process that forks.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import types
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import IO, Any, NoReturn

from tests.support.graphs import REPOSITORY

_MOST_BYTES = 1 << 20
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
            [sys.executable, "-m", __name__, *map(str, descriptors)],
            pass_fds=descriptors,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    _forking_pids.append(process.pid)
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _fork_on_request(first: socket.socket, listener: socket.socket | None = None) -> None:
    """Fork what is requested and tell how it ended, until the first connection ends."""
    selector = selectors.PollSelector()
    for each in filter(None, (first, listener)):
        selector.register(each, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            connection = key.fileobj
            if isinstance(connection, int):
                _tell_end(connection, selector)
                continue
            assert isinstance(connection, socket.socket)
            if connection is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
            elif not _fork_one(connection, selector):
                if connection is first:
                    return
                selector.unregister(connection)
                connection.close()


def _fork_one(connection: socket.socket, selector: selectors.BaseSelector) -> bool:
    """Read a request and fork; return whether there was one."""
    data, descriptors, _, _ = socket.recv_fds(connection, _MOST_BYTES, 4)
    if not data:
        return False
    request = json.loads(data)
    if new := set(request["imports"]) - sys.modules.keys():
        for name in new:
            import_module(name)
        _share()
    *streams, status = descriptors
    pid = os.fork()
    if pid == 0:
        for key in list(selector.get_map().values()):
            if isinstance(key.fileobj, int):
                os.close(key.fileobj)
                os.close(key.data[1])
            else:
                key.fileobj.close()  # type: ignore[union-attr]
        selector.close()
        if request["leads"]:
            os.setsid()
        os.write(status, b"%d\n" % os.getpid())
        os.close(status)
        _become(request, *streams)
    for descriptor in streams:
        os.close(descriptor)
    selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, status))
    return True


def _tell_end(pidfd: int, selector: selectors.BaseSelector) -> None:
    """Write how a program ended to the one that asked for it, who may be gone."""
    pid, status = selector.unregister(pidfd).data
    os.close(pidfd)
    _, ended, usage = os.wait4(pid, 0)
    with suppress(BrokenPipeError):
        os.write(status, b"%d %f\n" % (ended, usage.ru_utime + usage.ru_stime))
    os.close(status)


def _become(request: dict[str, Any], *streams: int) -> NoReturn:
    """Be the program until its end."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    for stream in streams:
        os.close(stream)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(  # noqa: SIM115
        2, "w", buffering=1, errors="backslashreplace", closefd=False
    )
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None  # an import may have looked for it
    named = [name for name in os.environ.get("PYTHONPATH", "").split(os.pathsep) if name]
    sys.path[1:1] = [name for name in named if name not in sys.path[1:]]
    code: int | None = 1
    try:
        _execute(*request["command"])
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        else:
            code = end.code or 0
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        code = None
    except BaseException:
        sys.excepthook(*sys.exc_info())
    # As Python ends, but for what frees memory, which takes long with so much imported.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        try:
            file.flush()
        except (OSError, ValueError):
            code = code or 120
    if code is None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code or 0)


def _execute(first: str, *arguments: str) -> None:
    if first == "-m":
        sys.argv = list(arguments)
        sys.path[0] = os.getcwd()
        runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *arguments[1:]]
        sys.path[0] = ""
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(arguments[0], "<string>", "exec"), main.__dict__)
    else:
        sys.argv = [first, *arguments]
        sys.path[0] = os.path.dirname(os.path.abspath(first))
        runpy.run_path(first, run_name="__main__")


def _preload() -> None:
    """Import and compile what programs need; without threads, which a fork would lose."""
    gc.disable()  # it would go through all of it again and again while it comes
    # Not what only a few programs import: see `imports`.
    names = (
        "encodings.idna",
        "rich.console",
        "negserve.data",
        "negserve.cli",
        "negserve_server.cli",
    )
    for name in names:
        import_module(name)
    del sys.modules["negserve_server.cli"]  # it is run, and so imported anew
    import_module("negserve_server.warm_up").warm_up({})
    gc.enable()
    _share()


def _share() -> None:
    """Keep programs from copying what is imported."""
    # Or each program's collector would go through all of it.
    gc.freeze()
    # And its end would free the kernels.
    for kept in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        kept.atexit = False


if __name__ == "__main__":
    _preload()
    _fork_on_request(*[socket.socket(fileno=int(number)) for number in sys.argv[1:]])
