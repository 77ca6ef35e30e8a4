"""What streams are asked for: a dataset, and messages in their order."""

from __future__ import annotations

from typing import Any

from negserve_server.access.caller import CALLER
from negserve_server.access.usage import USE
from negserve_server.admission.server_stream import ServerStream
from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory
from negserve_server.logs.call import note_dataset
from negserve_server.publishing.datasets import Datasets


def find_dataset(datasets: Datasets, name: str, expected_fingerprint: str = "") -> TriplesFactory:
    """Return a graph that the caller may know of.

    :param expected_fingerprint: the fingerprint that it must have; empty for any
    :raises Refusal: with ``NOT_PERMITTED``
    :raises InvalidInput: with ``UNKNOWN_DATASET`` or ``FINGERPRINT_MISMATCH``
    """
    note_dataset(name)
    caller = CALLER.get()
    caller.check_dataset(name)
    factory = datasets.find(name, expected_fingerprint, caller.sees)
    USE.get().dataset = name
    return factory


async def read_configuration(stream: ServerStream[Any]) -> Any:
    """Read the configuration that a stream begins with; None if it ends without a message.

    :raises InvalidInput: with ``STREAM_OUT_OF_ORDER`` if it begins with something else
    """
    first = await stream.read()
    if first is None:
        return None
    expect(first.WhichOneof("message"), "configuration")
    return first.configuration


def expect(found: str | None, expected: str) -> None:
    """Refuse a message that is out of order.

    :param found: name of the message's alternative; None if it has none
    :raises InvalidInput: with ``STREAM_OUT_OF_ORDER``
    """
    if found != expected:
        raise InvalidInput(
            f"expected a message with {expected}, got {found or 'nothing'}: a stream begins with "
            f"one configuration or announcement, and has no second one",
            reason="STREAM_OUT_OF_ORDER",
            value=found or "nothing",
            expected=expected,
        )
