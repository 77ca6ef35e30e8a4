"""The golden files: calls recorded on a server, with all bytes."""

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
#: Their folder in a checkout, from which packages are built.
_SOURCE = Path(__file__).parents[3] / "proto" / "testdata"


@dataclass(frozen=True)
class Case:
    """One recorded call.

    :ivar rpc: name of the RPC
    :ivar file: name of the golden file, without the suffix
    :ivar dataset: name of the dataset that it asks about
    :ivar name: unique in its file
    :ivar requests: bytes of the client's messages
    :ivar responses: bytes of the server's messages
    :ivar status: name of the canonical status
    :ivar error: domain, reason and metadata of a refusal; None for OK
    :ivar batches: the responses as triples: ``negatives`` and ``mask`` of each batch
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
        """Message class of the requests."""
        return GetMessageClass(METHODS[self.rpc].input_type)

    @property
    def response_class(self) -> type[Message]:
        """Message class of the responses."""
        return GetMessageClass(METHODS[self.rpc].output_type)


@dataclass(frozen=True)
class File:
    """A golden file.

    :ivar name: without the suffix
    :ivar dataset: name of the dataset that its calls ask about
    :ivar fingerprint: the dataset's fingerprint
    """

    name: str
    dataset: str
    fingerprint: str
    cases: list[Case]


def golden_files() -> Iterator[File]:
    """Read all files; a file that publishes datasets comes before the files about them."""
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
