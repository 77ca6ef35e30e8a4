"""Errors of the engine, by who must act.

    NegserveServerError
    ├── InvalidInput (ValueError)     the caller must send something else
    │   ├── IdOutOfRange              an id of a triple is not in the id space
    │   ├── InvalidConfiguration      a field of a configuration is not legal
    │   ├── PositionOutOfRange        positions would pass 2^64 - 1
    │   └── TablesFull                a configuration needs more memory than there is room for
    ├── MalformedFile (ValueError)    the operator must mend a file
    └── UnusableAddress (OSError)     the operator must give another address to listen on

Each names the value, the limit and the remedy in its message; ``reason`` and
``metadata`` say the same to a program (over RPC as ``google.rpc.ErrorInfo``). What callers sent is
repeated in part only, see :func:`shortened`: names may be megabytes long.
"""

from __future__ import annotations

from collections.abc import Iterable

from negserve.terminal.printable import printable

#: Characters of a value that an error repeats.
MOST_CHARACTERS = 160
#: Characters of a whole message.
_MOST_OF_A_MESSAGE = 900
#: Characters of the names that a limit consists of.
_MOST_OF_NAMES = 800
#: Things of a list that an error names.
_MOST_NAMED = 5


def shortened(value: object, most: int = MOST_CHARACTERS) -> str:
    """Write a value for people: on one line, and if it is long, without its middle.

    :param most: characters that the text has at most
    """
    text = value if isinstance(value, str) else str(_few(value))
    return _without_middle(printable(_without_middle(text, most)), most)


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


def _whole(names: Iterable[str]) -> tuple[str, int]:
    """Give the first names of a list, none of them shortened, and how many are left out."""
    names = list(names)
    kept = 0
    num_characters = 0
    for name in names:
        num_characters += len(name) + 2
        if num_characters > _MOST_OF_NAMES:
            break
        kept += 1
    return ", ".join(names[:kept]), len(names) - kept


class NegserveServerError(Exception):
    """Base of all errors that this package raises on purpose."""


class InvalidInput(NegserveServerError, ValueError):
    """The caller sent something that can't be answered.

    :param message: a sentence for a person: the value, the limit, the remedy
    :param reason: name of the reason, a value of ``ErrorReason`` in
        ``proto/negserve/v1/errors.proto`` without its prefix
    :param limit: what is legal, for a program: a number, or names; None where it takes words,
        which are ``expected``. Names without room are left out; ``num_omitted`` counts them
    :param metadata: the offending value and what else the reason documents; as text they are
        ``metadata``, together with ``limit``, names of which are separated by ", "
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        limit: float | tuple[object, ...] | None = None,
        **metadata: object,
    ) -> None:
        super().__init__(shortened(message, _MOST_OF_A_MESSAGE))
        self.reason = reason
        self.metadata = {key: shortened(value) for key, value in metadata.items()}
        if limit is not None:
            names = limit if isinstance(limit, tuple) else (limit,)
            self.metadata["limit"], omitted = _whole(
                shortened(str(name), _MOST_OF_NAMES) for name in names
            )
            if omitted:
                self.metadata["num_omitted"] = str(omitted)


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
    """A field of a configuration has a value that is not legal.

    :param field: its name, as in the proto
    :param expected: what is legal, or why this is not, for a person
    :param limit: likewise for a program: the largest number, or the names to choose from
    """

    def __init__(
        self,
        field: str,
        value: object,
        expected: str,
        *,
        limit: float | tuple[object, ...] | None = None,
    ) -> None:
        super().__init__(
            f"{field}={quoted(value) if isinstance(value, str) else shortened(value)} is not "
            f"legal: {expected}",
            reason="INVALID_CONFIGURATION",
            limit=limit,
            field=field,
            value=value,
            expected=expected,
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


class TablesFull(InvalidInput):
    """The tables of a configuration have no room beside those that others hold."""

    def __init__(self, *, num_bytes: int, in_use: int, limit: int) -> None:
        super().__init__(
            f"the configuration needs a table of {num_bytes} bytes, tables in use take {in_use}, "
            f"the limit is {limit}; close samplers of other configurations, or ask the "
            f"operator to raise --max-table-bytes",
            reason="LIMIT_EXCEEDED",
            resource="table_bytes",
            value=num_bytes,
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


class UnusableAddress(NegserveServerError, OSError):
    """Nobody can listen on an address; names it, the cause and the remedy."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"can't listen on {address}: {why}")
        self.address = address
        self.why = why
