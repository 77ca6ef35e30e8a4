"""What the descriptors of the proto say."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor

from negserve.v1 import sampler_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]


def messages_of_rpcs() -> dict[str, Descriptor]:
    """Give the messages that the RPCs carry, and all within them, by name."""
    found: dict[str, Descriptor] = {}

    def visit(message: Descriptor) -> None:
        if message.name not in found:
            found[message.name] = message
            for field in message.fields:
                if field.message_type is not None:
                    visit(field.message_type)

    for method in SERVICE.methods:
        visit(method.input_type)
        visit(method.output_type)
    return found
