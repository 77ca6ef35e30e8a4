"""Programs forked from a process that has imported and compiled everything: they start at once.

Otherwise they are processes like any other, with a number, memory, signals and output of their
own, and can be killed. Run as a program, this is the process that forks.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from typing import IO, Any

from tests.support.graphs import REPOSITORY

_MOST_BYTES = 1 << 20


class PreloadedProcess:
    """A running program, with what the tests need of :class:`subprocess.Popen`.

    :param module: runs as ``python -m`` would run it
    :param arguments: its arguments
    :param stderr: where it writes errors; None for the standard error of the tests
    """

    def __init__(self, module: str, *arguments: str, stderr: IO[str] | None = None) -> None:
        out_reader, out_writer = os.pipe()
        status_reader, status_writer = os.pipe()
        request = {
            "module": module,
            "arguments": arguments,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
        }
        descriptors = [out_writer, 2 if stderr is None else stderr.fileno(), status_writer]
        socket.send_fds(_forking(), [json.dumps(request).encode()], descriptors)
        os.close(out_writer)
        os.close(status_writer)
        self.stdout = os.fdopen(out_reader)
        self._status = os.fdopen(status_reader, "rb", buffering=0)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit status if the program has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status, once the program has ended."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(self._status.readline()))
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the program has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


@functools.cache
def _forking() -> socket.socket:
    """Start the process that forks; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
        )
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _fork_on_request(requests: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait
    while True:
        data, descriptors, _, _ = socket.recv_fds(requests, _MOST_BYTES, 3)
        if not data:
            return
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _wait_for_program(json.loads(data), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _wait_for_program(request: dict[str, Any], stdout: int, stderr: int, status: int) -> None:
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _run(request, stdout, stderr)
    os.close(stdout)
    os.close(stderr)
    os.write(status, b"%d\n" % pid)
    _, ended = os.waitpid(pid, 0)
    os.write(status, b"%d\n" % ended)
    os._exit(0)


def _run(request: dict[str, Any], stdout: int, stderr: int) -> None:
    code = 1
    try:
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.close(stdout)
        if stderr > 2:
            os.close(stderr)
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = [request["module"], *request["arguments"]]
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        else:
            code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _preload() -> None:
    """Import and compile what servers need; without threads, which a fork would lose."""
    import negserve_server.app  # noqa: F401
    from negserve_server.warm_up import warm_up

    warm_up({})


if __name__ == "__main__":
    _preload()
    _fork_on_request(socket.socket(fileno=int(sys.argv[1])))
