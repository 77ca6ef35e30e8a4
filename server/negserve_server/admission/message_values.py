"""How many values the bytes of a message hold: what they cost, before they are parsed.

Protobuf parses with Python's lock, and gives each value an object: 16 MiB of values of two bytes
stop all threads for a third of a second, and take half a gigabyte. This is slower a value, but
stops after so many, and other threads go on meanwhile.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

_VARINT, _FIXED64, _DELIMITED, _BEGIN, _END, _FIXED32 = range(6)
_SIZES = {
    FieldDescriptor.CPPTYPE_DOUBLE: 8,
    FieldDescriptor.CPPTYPE_FLOAT: 4,
}
_MOST_VARINT_BYTES = 10


def count_values(descriptor: Any, data: bytes, limit: int) -> int:
    """Count values, those of messages in messages too; at least ``limit`` + 1 if it is exceeded.

    Unknown fields count as well.

    :param descriptor: of the message, in either of protobuf's implementations
    :raises ValueError: if the bytes are no message
    """
    count = 0
    parts: list[tuple[Any, int, int]] = [(descriptor, 0, len(data))]
    while parts:
        message, at, end = parts.pop()
        fields = message.fields_by_number
        while at < end:
            tag, at = _varint(data, at, end)
            count += 1
            kind = tag & 7
            if kind == _VARINT:
                _, at = _varint(data, at, end)
            elif kind == _FIXED64:
                at += 8
            elif kind == _FIXED32:
                at += 4
            elif kind == _DELIMITED:
                size, at = _varint(data, at, end)
                field = fields.get(tag >> 3)
                if at + size > end:
                    raise ValueError("a value ends after its message")
                if field is None or field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
                    pass
                elif field.message_type is not None:
                    parts.append((field.message_type, at, at + size))
                else:  # packed: of the others, a value may take a byte
                    count += size // _SIZES.get(field.cpp_type, 1)
                at += size
            elif kind not in (_BEGIN, _END):
                raise ValueError(f"there is no wire type {kind}")
            if count > limit:
                return count
        if at > end:
            raise ValueError("a value ends after its message")
    return count


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Give a number, and where it ends."""
    number = 0
    for i in range(min(_MOST_VARINT_BYTES, end - at)):
        byte = data[at + i]
        number |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return number, at + i + 1
    raise ValueError("a number does not end")
