"""The commands of docs/protocol.md for generic tools, against a real server."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from negserve_server.service import SERVICE
from tests.support.programs.node import BUF, require_node_modules
from tests.support.protocol_document import DOCUMENT, block
from tests.support.server_process import ServerProcess

ADDRESS = "127.0.0.1:7733"
GRPCURL = re.findall(r"^grpcurl (.+)$", DOCUMENT, flags=re.MULTILINE)
#: What has to be in the answer, by the end of the command.
EXPECTED = {
    "list": ["negserve.v1.SamplerService", "grpc.health.v1.Health"],
    "describe negserve.v1.SamplerService": ["Sample", "SampleEpoch", "GetVocabulary"],
    "describe negserve.v1.SamplerConfig": ["num_negs_per_pos", "log_q"],
    "Check": ["SERVING"],
    "ListDatasets": ["world"],
    "GetDataset": ["world", "maxTriplesPerMessage"],
    "SampleEpoch": ["configured", "numBatches", "replaced"],
    "Sample": ["configured", "/ghBBFkDAwnDACUHbwTCBw=="],
}


class ReflectionClient:
    """Does what grpcurl does, knowing only what the server tells."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._database = ProtoReflectionDescriptorDatabase(channel)
        self._pool = DescriptorPool(self._database)

    def run(self, arguments: list[str], stdin: str) -> str:
        data = arguments[arguments.index("-d") + 1] if "-d" in arguments else "{}"
        *_, verb_or_address, symbol = ["", *arguments]
        if symbol == "list":
            return "\n".join(self._database.get_services())
        if verb_or_address == "describe":
            return self._describe(symbol)
        return self._call(symbol, stdin if data == "@" else data)

    def _describe(self, symbol: str) -> str:
        file = self._pool.FindFileContainingSymbol(symbol)
        name = symbol.rpartition(".")[2]
        if name in file.services_by_name:
            return "\n".join(method.name for method in file.services_by_name[name].methods)
        return "\n".join(field.name for field in file.message_types_by_name[name].fields)

    def _call(self, symbol: str, text: str) -> str:
        service, _, name = symbol.partition("/")
        method = self._pool.FindServiceByName(service).methods_by_name[name]
        request_class = GetMessageClass(method.input_type)
        response_class = GetMessageClass(method.output_type)
        requests = [
            json_format.Parse(line, request_class()).SerializeToString()
            for line in text.splitlines()
        ]
        kind = f"{'stream' if method.client_streaming else 'unary'}_" + (
            "stream" if method.server_streaming else "unary"
        )
        answers: Any = getattr(self._channel, kind)(f"/{symbol}")(
            iter(requests) if method.client_streaming else requests[0], timeout=20
        )
        return "\n".join(
            json.dumps(json_format.MessageToDict(response_class.FromString(answer)))
            for answer in (answers if method.server_streaming else [answers])
        )


@pytest.fixture(scope="module")
def reflection(server: ServerProcess) -> Iterator[ReflectionClient]:
    with grpc.insecure_channel(server.target) as channel:
        yield ReflectionClient(channel)


def assert_expected(command: str, answer: str) -> None:
    end = command.partition(" < ")[0]
    (expected,) = [EXPECTED[key] for key in EXPECTED if re.search(rf"[ /]{key}$", f" {end}")]
    for text in expected:
        assert text in answer


@pytest.mark.parametrize("command", GRPCURL)
def test_the_commands_of_grpcurl(reflection: ReflectionClient, command: str):
    before, _, file = command.partition(" < ")
    arguments = shlex.split(before)
    assert arguments[0] == "-plaintext"
    assert ADDRESS in arguments
    assert file in {"", "sample.jsonl"}
    assert_expected(command, reflection.run(arguments, block("json")))


def test_every_kind_of_command_is_there():
    assert len(GRPCURL) == len(EXPECTED)


def test_the_server_describes_itself_by_the_stated_reflection(reflection: ReflectionClient):
    names = reflection.run(["list"], "").split()
    assert SERVICE.full_name in names
    (stated,) = re.findall(r"^Reflection is `([\w.]+)`", DOCUMENT, flags=re.MULTILINE)
    assert stated in names
    assert "grpc.reflection.v1.ServerReflection" not in names, "say so in the document"


@pytest.mark.parametrize("command", block("sh buf").splitlines())
def test_the_commands_of_buf(server: ServerProcess, command: str):
    require_node_modules()
    before, _, file = command.partition(" < ")
    name, *arguments = shlex.split(before.replace(ADDRESS, server.target))
    assert name == "buf"
    done = subprocess.run(
        [BUF, *arguments],
        input=block("json") if file else "", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if "--list-methods" in arguments:
        for method in SERVICE.methods:
            assert f"{SERVICE.full_name}/{method.name}" in done.stdout.split()
    else:
        assert_expected(command, done.stdout)
