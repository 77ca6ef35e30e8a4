"""The tables of messages in docs/protocol.md have every field and enum value of the proto."""

from __future__ import annotations

import re

from google.protobuf.descriptor import FieldDescriptor

from negserve.v1 import admin_pb2
from negserve.v1 import sampler_pb2 as pb
from tests.support.descriptors import ADMIN_SERVICE, messages_of_rpcs
from tests.support.protocol_document import DOCUMENT, cells, rows

_SCALARS = {
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_FIXED32: "fixed32",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


def declared_type(field: FieldDescriptor) -> str:
    named = field.message_type or field.enum_type
    name = named.name if named is not None else _SCALARS[field.type]
    if field.is_repeated:
        return f"repeated {name}"
    return f"optional {name}" if field.has_presence and named is None else name


def test_every_message_has_a_table_of_all_its_fields():
    sections = dict(
        re.findall(r"^#### `(\w+)`\n(.*?)(?=^#)", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
    )
    messages = messages_of_rpcs() | messages_of_rpcs(ADMIN_SERVICE)
    assert set(sections) == set(messages)
    for name, message in messages.items():
        lines = "".join(re.findall(r"^\| \d[^\n]*\n", sections[name], flags=re.MULTILINE))
        table = cells(lines)
        assert [row[:3] for row in table] == [
            [str(field.number), f"`{field.name}`", f"`{declared_type(field)}`"]
            for field in message.fields
        ], name
        assert all(len(row) == 4 and row[3] for row in table), name


def test_every_enum_value_is_named():
    table = {name.strip("`"): values for name, values in rows("enum")}
    enums = {**pb.DESCRIPTOR.enum_types_by_name, **admin_pb2.DESCRIPTOR.enum_types_by_name}
    assert set(table) == set(enums)
    for name, enum in enums.items():
        prefix = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).upper() + "_"
        assert enum.values[0].name == f"{prefix}UNSPECIFIED"
        assert table[name] == ", ".join(
            f"{value.number} {value.name.removeprefix(prefix)}" for value in enum.values[1:]
        )
