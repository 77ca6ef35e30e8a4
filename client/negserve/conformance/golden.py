"""The golden files: calls that were recorded on a server, with all bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from negserve.v1 import sampler_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["SamplerService"]
METHODS: dict[str, MethodDescriptor] = {method.name: method for method in SERVICE.methods}

_INSTALLED = Path(__file__).parent / "testdata"
#: Where they are in a checkout, from which a package is built.
_SOURCE = Path(__file__).parents[3] / "proto" / "testdata"


@dataclass(frozen=True)
class Case:
    """A call.

    :ivar rpc: what is called
    :ivar file: that has it, without the suffix
    :ivar dataset: what it is about
    :ivar name: unique in its file
    :ivar requests: bytes of all messages of the client
    :ivar responses: bytes of all messages of the server
    :ivar status: name of the canonical status
    :ivar error: domain, reason and metadata of a refusal; None for OK
    :ivar batches: what a client makes of the responses: ``negatives`` and ``mask`` of each batch
    """

    rpc: str
    file: str
    dataset: str
    name: str
    requests: list[bytes]
    responses: list[bytes]
    status: str
    error: dict[str, Any] | None
    batches: list[dict[str, Any]]

    @property
    def request_class(self) -> type[Message]:
        """What a request is."""
        return GetMessageClass(METHODS[self.rpc].input_type)

    @property
    def response_class(self) -> type[Message]:
        """What a response is."""
        return GetMessageClass(METHODS[self.rpc].output_type)


@dataclass(frozen=True)
class File:
    """A golden file.

    :ivar name: without the suffix
    :ivar dataset: what its calls are about
    :ivar fingerprint: of that
    """

    name: str
    dataset: str
    fingerprint: str
    cases: list[Case]


def golden_files() -> Iterator[File]:
    """Read all files; the one that publishes comes before those about what it publishes."""
    folder = _INSTALLED if _INSTALLED.is_dir() else _SOURCE
    paths = sorted(
        folder.glob("*.json"),
        key=lambda path: (path.stem.count("."), path.stem == "Publish", path.stem),
    )
    assert paths, f"no golden files in {folder}"
    for path in paths:
        text = json.loads(path.read_text("utf-8"))
        cases = [
            Case(
                text["rpc"], path.stem, text["dataset"], case["name"],
                [bytes.fromhex(each["hex"]) for each in case["requests"]],
                [bytes.fromhex(each["hex"]) for each in case["responses"]],
                case["status"], case.get("error"), case.get("batches", []),
            )
            for case in text["cases"]
        ]  # fmt: skip
        yield File(path.stem, text["dataset"], text["fingerprint"], cases)
