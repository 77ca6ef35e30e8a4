"""Log records as lines: of text for people, of JSON for programs."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Literal, get_args

from negserve.types.checks.text import printable
from negserve_server.logs.call import CALL, TRACE, LoggedCall
from negserve_server.logs.fields import FIELDS

LogFormat = Literal["text", "json"]
FORMATS: tuple[LogFormat, ...] = get_args(LogFormat)

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def make_formatter(log_format: LogFormat, process: str = "") -> logging.Formatter:
    """Make the formatter of a format.

    :param process: which process it is, where there are several; empty where there is one
    """
    return JsonFormatter(process) if log_format == "json" else TextFormatter(process)


class TextFormatter(logging.Formatter):
    """Formats a record as one line with control characters escaped, and tracebacks indented.

    So no name or label can steer a terminal or look like a log line. Warnings and errors end with
    the call in which they were logged.

    :param process: as of :func:`make_formatter`
    """

    def __init__(self, process: str = "") -> None:
        super().__init__(
            _TEXT.replace("%(name)s", f"{process}: %(name)s" if process else "%(name)s")
        )

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the line of a record."""
        line = super().formatMessage(record)
        call = CALL.get() if record.levelno >= logging.WARNING else None
        if call is not None:
            line += f" [call {call.id}, {call.rpc}, {call.peer}]"
        return printable(line)

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Format a traceback."""
        return _indented(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Format a stack."""
        return _indented(super().formatStack(stack_info))


def _indented(lines: str) -> str:
    return "\n".join(f"  {printable(line)}" for line in lines.split("\n"))


class JsonFormatter(logging.Formatter):
    r"""Formats a record as a line with a JSON object, whose fields are those of ``FIELDS``.

    The line is ASCII, all else is escaped: so no text from outside can end the line or the string
    that it is in, or steer a terminal.

    :param process: as of :func:`make_formatter`
    """

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        values: dict[str, object] = {
            "time": _utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "message": record.getMessage(),
        }
        call = CALL.get()
        if call is not None:
            values |= _fields_of(call)
        given = vars(record)
        values |= {name: given[name] for name in _EVENT_FIELDS & given.keys()}
        traceback = [
            *([self.formatException(record.exc_info)] if record.exc_info else ()),
            *([self.formatStack(record.stack_info)] if record.stack_info else ()),
        ]
        values["traceback"] = "\n".join(traceback)
        ordered = {
            name: _encodable(value)
            for name in FIELDS
            if (value := values.get(name)) not in ("", None)
        }
        return json.dumps(ordered, separators=(", ", ": "))


#: What a record may have besides what every record has.
_EVENT_FIELDS = FIELDS.keys() - {
    *("time", "level", "logger", "process", "message", "trace", "traceback")
}


def _fields_of(call: LoggedCall) -> dict[str, object]:
    return {
        "call": call.id,
        "rpc": call.rpc,
        "peer": call.peer,
        "caller": call.caller,
        "dataset": call.dataset,
        "trace": TRACE.get(),
    }


def _utc(seconds: float) -> str:
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def _encodable(value: object) -> object:
    """Replace lone surrogates, which many readers of JSON refuse."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in value.items()}
    return value
