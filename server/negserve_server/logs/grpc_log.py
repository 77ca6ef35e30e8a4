"""gRPC's own log lines in our format, and by our level.

gRPC's core writes to the file descriptor of standard error, in a format of its own. So that
becomes a pipe, and a process reads it: ``python grpc_log_process.py LEVEL FORMAT``. It writes
lines of gRPC anew, also the last words of a server that crashes, which a thread of the server
would take with it. All other lines it passes on as they are; in JSON, each is the message of an
event, so that every line of the log is JSON and none can be faked.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, cast

from negserve_server.logs import log_handler
from negserve_server.logs.formatters import LogFormat, make_formatter
from negserve_server.logs.log_level import LEVELS

logger = logging.getLogger(__name__)

#: The file that the process runs.
PROGRAM = Path(__file__).with_name("grpc_log_process.py")
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

    The log of the server itself goes past the pipe; so does ``sys.stderr``, if the log is text.

    :param level: one of :data:`negserve_server.logs.log_level.LEVELS`
    :param log_format: one of :data:`negserve_server.logs.formatters.FORMATS`
    """

    def __init__(self, level: str, log_format: LogFormat = "text") -> None:
        if level in _VERBOSITY:
            os.environ.setdefault("GRPC_VERBOSITY", _VERBOSITY[level])
        self._stderr = os.dup(2)
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", PROGRAM, level, log_format],
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
            stream = os.fdopen(
                self._stderr, "w", buffering=1, errors="backslashreplace", closefd=False
            )
            if log_format == "json":
                log_handler.write_to(stream)
            else:
                sys.stderr = stream
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


def rewrite_lines(lines: BinaryIO, level: str, log_format: str) -> None:
    """Write what a server and its gRPC write, until its end, to standard error."""
    least = _number(level)
    formatter = make_formatter(cast("LogFormat", log_format))

    def write(name: str, importance: int, message: str) -> None:
        record = logging.LogRecord(name, importance, "", 0, "%s", (message,), None)
        os.write(2, f"{formatter.format(record)}\n".encode())

    for raw in lines:
        if raw.startswith(_LEVEL_IS):
            least = _number(raw.removeprefix(_LEVEL_IS).decode().strip())
            continue
        text = raw.decode(errors="replace").rstrip("\n")
        found = _LINE.fullmatch(text)
        if text.startswith(_IDLE_WORDS):
            continue
        if found is not None:
            severity, place, message = found.groups()
            if _SEVERITY[severity] >= least and not message.startswith(_IDLE_WORDS):
                write("grpc.core", _SEVERITY[severity], f"{message} ({place})")
        elif log_format == "text":
            os.write(2, raw)
        elif text.strip():
            write("stderr", logging.ERROR, text)


def _number(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()] if level in LEVELS else logging.INFO
