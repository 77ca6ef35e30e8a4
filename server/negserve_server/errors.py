"""Errors of the engine, by who must act.

    negserve.InvalidRequestError
    └── InvalidInput                  the caller must send something else
        ├── IdOutOfRange              an id of a triple is not in the id space
        └── PositionOutOfRange        positions would pass 2^64 - 1
    NegserveServerError
    ├── Refusal                       the call is not answered, though the caller did nothing wrong
    │   └── TablesFull                a configuration needs more memory than there is room for
    ├── MalformedFile (ValueError)    the operator must mend a file
    │   └── MalformedSnapshot         a snapshot is incomplete, altered, or of another format
    ├── UnusableAddress (OSError)     the operator must give another address to listen on
    │   └── InsecureAddress           traffic could be read there; the operator must say that it may
    └── WorkerFailed                  a process that the server forked has failed; it says why

Each names the value, the limit and the remedy in its message; ``reason`` and
``metadata`` say the same to a program (over RPC as ``google.rpc.ErrorInfo``). What callers sent is
repeated in part only, see :func:`shortened`: names may be megabytes long.
"""

from __future__ import annotations

from negserve.errors import InvalidRequestError
from negserve.types.checks.invalid import MOST_OF_A_MESSAGE, metadata_of
from negserve.types.checks.text import shortened


class NegserveServerError(Exception):
    """Base of all errors that this package raises on purpose."""


class Refusal(NegserveServerError):
    """The call is not answered, though the caller did nothing wrong.

    :param message: a sentence for a person: the value, the limit, the remedy
    :param reason: name of the reason, a value of ``ErrorReason`` in
        ``proto/negserve/v1/errors.proto`` without its prefix
    :param limit: what is legal, for a program: a number, or names; None where words say it, which
        are ``expected``
    :param retry_seconds: after which the same call may succeed; None for what the reason says
    :param metadata: the offending value and what else the reason documents
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        limit: float | tuple[object, ...] | None = None,
        retry_seconds: float | None = None,
        **metadata: object,
    ) -> None:
        super().__init__(shortened(message, MOST_OF_A_MESSAGE))
        self.reason = reason
        self.retry_seconds = retry_seconds
        self.metadata = metadata_of(limit, **metadata)


class InvalidInput(InvalidRequestError):
    """The caller must send something else; parameters as of :class:`Refusal`."""

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        limit: float | tuple[object, ...] | None = None,
        **metadata: object,
    ) -> None:
        super().__init__(
            shortened(message, MOST_OF_A_MESSAGE),
            reason=reason,
            metadata=metadata_of(limit, **metadata),
        )


class IdOutOfRange(InvalidInput):
    """An id of a triple is negative or not below the size of its id space."""

    def __init__(self, *, row: int, slot: str, value: int, limit: int) -> None:
        self._row, self._slot, self._value, self._limit = row, slot, value, limit
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

    def after(self, num_rows: int) -> IdOutOfRange:
        """Make the same error for a message in which so many rows come before."""
        return IdOutOfRange(
            row=self._row + num_rows, slot=self._slot, value=self._value, limit=self._limit
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


class TablesFull(Refusal):
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


class MalformedSnapshot(MalformedFile):
    """A snapshot is incomplete, altered, or of another format; names the array and the reason.

    :ivar array: name of the array; None for the manifest
    """

    def __init__(self, path: object, array: str | None, why: str) -> None:
        super().__init__(path, None, f"{f'array {array}' if array else 'manifest.json'} {why}")
        self.array = array


class UnusableAddress(NegserveServerError, OSError):
    """Nobody can listen on an address; names it, the cause and the remedy."""

    def __init__(self, address: str, why: str) -> None:
        super().__init__(f"can't listen on {address}: {why}")
        self.address = address
        self.why = why


class InsecureAddress(UnusableAddress):
    """An address beyond this machine, in plain text, which nobody has allowed."""

    def __init__(self, address: str) -> None:
        super().__init__(
            address,
            "whoever can read the network could read tokens, labels and triples there; give "
            "--tls-cert and --tls-key, an address of loopback, or --insecure if a proxy or a mesh "
            "does the TLS or the network is yours alone",
        )


class WorkerFailed(NegserveServerError):
    """A process that the server forked has failed: a worker, or one that read a graph.

    Its message has the cause.
    """
