"""Facts from the proto's descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from google.protobuf.descriptor import Descriptor, ServiceDescriptor

from negserve.v1 import admin_pb2
from negserve.v1 import sampler_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]
ADMIN_SERVICE = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]


def messages_of_rpcs(service: ServiceDescriptor = SERVICE) -> dict[str, Descriptor]:
    """Return the messages of the RPCs of a service, and all within them, by name."""
    found: dict[str, Descriptor] = {}

    def visit(message: Descriptor) -> None:
        if message.name not in found:
            found[message.name] = message
            for field in message.fields:
                if field.message_type is not None:
                    visit(field.message_type)

    for method in service.methods:
        visit(method.input_type)
        visit(method.output_type)
    return found


#: A number, or names separated by a comma and a blank.
_LIMIT = re.compile(r"[^,\s]+(, [^,\s]+)*")


def assert_parsable(metadata: Mapping[str, str | None], request: Descriptor | None = None) -> None:
    """Check a refusal's metadata against what ``errors.proto`` documents.

    :param request: the RPC's message, of which ``field`` is a field; None for that of any RPC
    """
    limit, field = metadata.get("limit"), metadata.get("field")
    assert limit is None or _LIMIT.fullmatch(limit), metadata
    requests = [method.input_type for method in SERVICE.methods] if request is None else [request]
    paths = {f".{path}" for message in requests for path in _field_paths(message)}
    assert field is None or any(path.endswith(f".{field}") for path in paths), metadata


def _field_paths(message: Descriptor) -> Iterator[str]:
    for field in message.fields:
        yield field.name
        if field.message_type is not None:
            yield from (f"{field.name}.{path}" for path in _field_paths(field.message_type))
