"""What an answer must be before it is used, and what is said of one that is not.

The checks raise :class:`negserve.InvalidAnswerError` with the field, what came and what is due.
Whoever knows the replica and the RPC adds them, with :func:`said_by`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from negserve.errors import InvalidAnswerError
from negserve.v1 import sampler_pb2 as pb

WIDTHS = (1, 2, 4, 8)
_MOST_CHARACTERS = 80
_HEXADECIMAL = frozenset("0123456789abcdef")


def invalid(field: str, value: object, limit: object) -> InvalidAnswerError:
    """Give what it means that a field of an answer is not what is due.

    :param value: what came
    :param limit: what is due
    """
    texts = [str(each) for each in (value, limit)]
    came, due = (
        text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."
        for text in texts
    )
    return InvalidAnswerError(
        f"{field} is {came}, due is {due}", metadata={"field": field, "value": came, "limit": due}
    )


@contextmanager
def said_by(target: str, rpc: str) -> Iterator[None]:
    """Name the replica and the RPC in what is raised of an answer.

    :raises InvalidAnswerError: for what the body raises of it
    """
    try:
        yield
    except InvalidAnswerError as error:
        if error.target:
            raise
        raise InvalidAnswerError(
            f"{target}: the answer to {rpc} can't be true: {error}; its operator must look into "
            f"it, or into what is between",
            metadata={"rpc": rpc, **error.metadata},
            target=target,
        ) from None


def check_equal(field: str, value: object, due: object) -> None:
    """Refuse what is not as asked for."""
    if value != due:
        raise invalid(field, value, due)


def check_range(field: str, value: float, lowest: float, highest: float) -> None:
    """Refuse a number outside lowest to highest, and NaN."""
    if not lowest <= value <= highest:
        raise invalid(field, value, f"{lowest} to {highest}")


def check_fingerprint(field: str, text: str) -> None:
    """Refuse what is no SHA-256."""
    if len(text) != 64 or not _HEXADECIMAL.issuperset(text):
        raise invalid(field, repr(text), "64 hexadecimal digits in lower case")


def check_member(field: str, message: object, *due: str) -> str:
    """Give which of a message's alternatives it has; refuse others, and none."""
    found = message.WhichOneof("message")  # type: ignore[attr-defined]
    if found not in due:
        raise invalid(field, found or "nothing that this client knows", " or ".join(due))
    return str(found)


def check_flags(field: str, data: bytes, count: int) -> None:
    """Refuse flags, 8 a byte, that are not so many, or whose unused bits are not 0."""
    check_equal(f"{field}, bytes", len(data), (count + 7) // 8)
    if count % 8 and data[-1] >> count % 8:
        raise invalid(f"{field}, unused bits of the last byte", data[-1] >> count % 8, 0)


def join_ids(
    field: str, tensors: Sequence[pb.Ids], lengths: Sequence[int]
) -> NDArray[np.unsignedinteger]:
    """Decode tensors of ids that must have these lengths, one behind the other; read-only.

    :return: in the width that they came in, mostly one for all
    """
    pieces: list[bytes] = []
    widths: list[int] = []
    for tensor, length in zip(tensors, lengths, strict=True):
        data, width = tensor.data, tensor.width
        if width not in WIDTHS and (data or width):
            raise invalid(f"{field}.width", width, "1, 2, 4 or 8")
        if len(data) != length * (width or 1):
            raise invalid(f"{field}.data, bytes", len(data), f"{length} ids of width {width}")
        if data:
            pieces.append(data)
            widths.append(width)
    if not pieces:
        return np.empty(0, dtype=f"<u{tensors[0].width or 1}" if tensors else np.uint8)
    if len(set(widths)) == 1:
        return np.frombuffer(
            pieces[0] if len(pieces) == 1 else b"".join(pieces), dtype=f"<u{widths[0]}"
        )
    return np.concatenate(
        [
            np.frombuffer(piece, dtype=f"<u{width}")
            for piece, width in zip(pieces, widths, strict=True)
        ]
    )


def check_ids(field: str, ids: NDArray[np.unsignedinteger], num_ids: int) -> None:
    """Refuse ids that are not below a number."""
    if ids.size and num_ids < 1 << 8 * ids.itemsize:
        largest = int(ids.max())
        if largest >= num_ids:
            raise invalid(field, largest, f"below {num_ids}")
