"""The process that programs are forked from, see :mod:`tests.support.preloaded`: it has imported
and compiled everything.

Run as ``python -m tests.support.forking_process DESCRIPTOR...``: of a socket over which requests
come, and of one that listens for more of them.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import selectors
import signal
import socket
import sys
import tempfile
import threading
import types
import weakref
from contextlib import suppress
from importlib import import_module
from typing import Any, NoReturn

_MOST_BYTES = 1 << 20


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
