"""Errors of the engine, by who must act.

    NegserveServerError
    ├── InvalidInput (ValueError)     the caller must send something else
    │   ├── IdOutOfRange              an id of a triple is not in the id space
    │   ├── InvalidConfiguration      a field of a configuration is not legal
    │   └── PositionOutOfRange        positions would pass 2^64 - 1
    └── MalformedFile (ValueError)    the operator must mend a file

Each names the value, the limit and the remedy in its message; ``reason`` and
``metadata`` say the same to a program (over RPC as ``google.rpc.ErrorInfo``). What callers sent is
repeated in part only, see :func:`shortened`: names may be megabytes long.
"""

from __future__ import annotations

from collections.abc import Iterable

#: Characters of a value that an error repeats.
MOST_CHARACTERS = 160
#: Characters of a whole message.
_MOST_OF_A_MESSAGE = 900
#: Things of a list that an error names.
_MOST_NAMED = 5


def shortened(value: object, most: int = MOST_CHARACTERS) -> str:
    """Write a value for people: on one line, and if it is long, without its middle.

    :param most: characters that the text has at most
    """
    text = value if isinstance(value, str) else str(_few(value))
    text = _without_middle(text, most)
    if text.isprintable():
        return text
    return _without_middle(
        "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text), most
    )


def _without_middle(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    half = max((most - 3) // 2, 1)
    return f"{text[:half]}...{text[-half:]}"


def _few(value: object) -> object:
    """Give a list as long as it may be written, anything else as it is."""
    if isinstance(value, list | tuple) and len(value) > MOST_CHARACTERS:
        return f"{len(value)} values, {list(value[:_MOST_NAMED])} and so on"
    return value


def quoted(text: str) -> str:
    """Write a text that a caller sent: as :func:`shortened`, in quotes."""
    return f"'{shortened(text)}'"


def listed(names: Iterable[str]) -> str:
    """Name the first few of a list, and how many more there are."""
    names = list(names)
    text = ", ".join(
        shortened(name, MOST_CHARACTERS // _MOST_NAMED) for name in names[:_MOST_NAMED]
    )
    more = len(names) - _MOST_NAMED
    return f"{text} and {more} more" if more > 0 else text


class NegserveServerError(Exception):
    """Base of all errors that this package raises on purpose."""


class InvalidInput(NegserveServerError, ValueError):
    """The caller sent something that can't be answered.

    :param message: a sentence for a person: the value, the limit, the remedy
    :param reason: name of the reason, a value of ``ErrorReason`` in
        ``proto/negserve/v1/errors.proto`` without its prefix
    :param metadata: the offending value, the limit and what else the reason
        documents, as text
    """

    def __init__(self, message: str, *, reason: str, **metadata: object) -> None:
        super().__init__(shortened(message, _MOST_OF_A_MESSAGE))
        self.reason = reason
        self.metadata = {key: shortened(value) for key, value in metadata.items()}


class IdOutOfRange(InvalidInput):
    """An id of a triple is negative or not below the size of its id space."""

    def __init__(self, *, row: int, slot: str, value: int, limit: int) -> None:
        kind = "relation" if slot == "relation" else "entity"
        super().__init__(
            f"{slot} id {value} of row {row} is out of range: the graph has {limit} "
            f"{'relations' if kind == 'relation' else 'entities'}, ids 0 to {limit - 1}; "
            f"check that the ids come from this dataset's vocabulary",
            reason=f"{kind.upper()}_ID_OUT_OF_RANGE",
            row=row,
            slot=slot,
            value=value,
            limit=limit,
        )


class InvalidConfiguration(InvalidInput):
    """A field of a configuration has a value that is not legal."""

    def __init__(self, field: str, value: object, limit: str) -> None:
        written = quoted(value) if isinstance(value, str) else shortened(value)
        super().__init__(
            f"{field}={written} is not legal: {limit}",
            reason="INVALID_CONFIGURATION",
            field=field,
            value=value,
            limit=limit,
        )


class PositionOutOfRange(InvalidInput):
    """The positions of a batch would leave the 64-bit range."""

    def __init__(self, *, position: int, num_positives: int) -> None:
        limit = 2**64 - 1
        super().__init__(
            f"{num_positives} positives from position {position} on leave the range 0 to "
            f"{limit}; start at a smaller position",
            reason="POSITION_OUT_OF_RANGE",
            value=position,
            limit=limit,
        )


class MalformedFile(NegserveServerError, ValueError):
    """A file does not hold what it should; names file, line and reason."""

    def __init__(self, path: object, line: int | None, why: str) -> None:
        where = f"{path}, line {line}" if line is not None else f"{path}"
        super().__init__(f"{where}: {why}")
        self.path = str(path)
        self.line = line
        self.why = why
