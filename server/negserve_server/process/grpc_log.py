"""gRPC's own log lines in our format, and by our level.

gRPC's core writes to the file descriptor of standard error, in a format of its own. So that
becomes a pipe, and a process reads it: ``python -m negserve_server.process.grpc_log LEVEL``. It
writes lines of gRPC anew and passes all others on as they are, also the last words of a server
that crashes, which a thread of the server would take with it.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

from negserve_server.process.logs import LEVELS, LogFormatter

logger = logging.getLogger(__name__)

#: What gRPC is told to write; its default is INFO, and there is no WARNING.
_VERBOSITY = {"debug": "DEBUG", "error": "ERROR"}
#: Severity, month, day, time, thread, place, message.
_LINE = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ ([\w./-]+:\d+)\] (.*)", re.DOTALL)
_SEVERITY = {
    "I": logging.INFO,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "F": logging.CRITICAL,
}
#: About the logging itself.
_IDLE_WORDS = ("WARNING: All log messages before absl::InitializeLog", "Log level DEBUG is not")
#: Begins a line of the server's that changes the level.
_LEVEL_IS = b"\0negserve level "
#: How long the end of a server waits until the last lines are written.
_LAST_LINES_SECONDS = 2.0


class GrpcLog:
    """While it is open, gRPC's lines come in our format; to be made before gRPC is used.

    Of the server itself, ``sys.stderr`` goes past the pipe.

    :param level: one of :data:`negserve_server.process.logs.LEVELS`
    """

    def __init__(self, level: str) -> None:
        if level in _VERBOSITY:
            os.environ.setdefault("GRPC_VERBOSITY", _VERBOSITY[level])
        self._stderr = os.dup(2)
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, level],
                stdin=reader,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                start_new_session=True,  # what ends the server does not end it before
            )
        except OSError as error:
            logger.warning("gRPC's lines come as gRPC writes them: %s", error)
            os.close(self._stderr)
            os.close(writer)
        else:
            os.dup2(writer, 2)
            os.close(writer)
            sys.stderr = os.fdopen(
                self._stderr, "w", buffering=1, errors="backslashreplace", closefd=False
            )
            atexit.register(self._close)
        finally:
            os.close(reader)

    def set_level(self, level: str) -> None:
        """Let less severe lines go; more than gRPC writes from the start on there are not."""
        os.write(2, _LEVEL_IS + level.encode() + b"\n")

    def _close(self) -> None:
        os.dup2(self._stderr, 2)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_LINES_SECONDS)


def main(level: str) -> None:
    """Write what comes on standard input to standard error."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the server does
    least = _number(level)
    formatter = LogFormatter()
    for raw in sys.stdin.buffer:
        if raw.startswith(_LEVEL_IS):
            least = _number(raw.removeprefix(_LEVEL_IS).decode().strip())
            continue
        text = raw.decode(errors="replace").rstrip("\n")
        found = _LINE.fullmatch(text)
        if found is None:
            if not text.startswith(_IDLE_WORDS):
                os.write(2, raw)
            continue
        severity, place, message = found.groups()
        importance = _SEVERITY[severity]
        if importance >= least and not message.startswith(_IDLE_WORDS):
            record = logging.LogRecord(
                "grpc.core", importance, "", 0, f"{message} ({place})", None, None
            )
            record.created = time.time()
            os.write(2, f"{formatter.format(record)}\n".encode())


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()] if level in LEVELS else logging.INFO


if __name__ == "__main__":
    main(sys.argv[1])
