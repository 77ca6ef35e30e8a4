"""Errors of the engine, by who must act.

    NegserveServerError
    ├── InvalidInput (ValueError)     the caller must send something else
    │   ├── IdOutOfRange              an id of a triple is not in the id space
    │   ├── InvalidConfiguration      a field of a configuration is not legal
    │   └── PositionOutOfRange        positions would pass 2^64 - 1
    ├── MalformedFile (ValueError)    the operator must mend a file
    └── UnusableAddress (OSError)     the operator must give another address to listen on

Each names the value, the limit and the remedy in its message; ``reason`` and
``metadata`` say the same to a program (over RPC as ``google.rpc.ErrorInfo``).
"""

from __future__ import annotations


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
        super().__init__(message)
        self.reason = reason
        self.metadata = {key: str(value) for key, value in metadata.items()}


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
        super().__init__(
            f"{field}={value!r} is not legal: {limit}",
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


class UnusableAddress(NegserveServerError, OSError):
    """Nobody can listen on an address; names it, the cause and the remedy."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"can't listen on {address}: {why}")
        self.address = address
        self.why = why
