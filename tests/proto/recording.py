"""Golden files: calls made on a real server, and their form as text."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve._protocol.messages import SLOTS, decode_ids
from negserve._protocol.sampler_answers import BatchReader, Columns
from negserve.types.config import SamplerConfig
from negserve.types.corrupted_batch import CorruptedBatch
from negserve.types.dataset import Dataset, Limits
from negserve.v1 import admin_pb2
from negserve.v1 import sampler_pb2 as pb
from tests.proto import snapshot_cases, wide_cases
from tests.proto.case import Case
from tests.proto.cases import CASES, MALFORMED
from tests.support.descriptors import ADMIN_SERVICE, SERVICE
from tests.support.graphs import REPOSITORY, load
from tests.support.server_process import server_process

FOLDER = REPOSITORY / "proto" / "testdata"

METHODS: dict[str, MethodDescriptor] = {method.name: method for method in SERVICE.methods}
ADMIN_METHODS: dict[str, MethodDescriptor] = {
    method.name: method for method in ADMIN_SERVICE.methods
}
Metadata = tuple[tuple[str, str], ...]
_SECONDS = 20.0
#: Of a longer message, a vocabulary's, there are only the bytes.
MOST_BYTES_WITH_JSON = 16_384
#: What a refusal's metadata say in the words of a library, not of the protocol.
_FREE_TEXT = {"MALFORMED_MESSAGE": "complaint"}


#: What stands in the file for the version of the server, which each release has another of.
_ANY_VERSION = "0.0.0"


@contextmanager
def server_of(file: str, channel: grpc.Channel) -> Iterator[grpc.Channel]:
    """Return a channel to the server for the cases of a file.

    :param file: its name, without the suffix
    :param channel: to that of the embedded graph alone; ``GetSnapshot`` needs one of a snapshot
        that clients may have; ``Publish`` one that takes graphs and
        has none yet, the files about the wide graph one that has that
    """
    if file == "GetSnapshot":
        with (
            tempfile.TemporaryDirectory() as folder,
            server_process(
                "--dataset", f"world={snapshot_cases.write(Path(folder))}", "--allow-pull",
                "--threads", "1",
            ) as server,
            grpc.insecure_channel(server.target) as opened,
        ):  # fmt: skip
            yield opened
        return
    if file != "Publish" and not file.endswith(f".{wide_cases.NAME}"):
        yield channel
        return
    with (
        server_process("--allow-publish", "--threads", "1") as server,
        grpc.insecure_channel(server.target) as opened,
    ):
        if file != "Publish":
            _, error = call(
                opened, "Publish", [_bytes(each) for each in wide_cases.publication().requests]
            )
            assert error is None
        yield opened


def call(
    channel: grpc.Channel, rpc: str, requests: list[bytes], metadata: Metadata = ()
) -> tuple[list[bytes], Any]:
    """Make a call with raw bytes; return the answers, and the error that ended it or None."""
    method = METHODS.get(rpc) or ADMIN_METHODS[rpc]
    path = f"/{method.containing_service.full_name}/{rpc}"
    kind = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }[method.client_streaming, method.server_streaming]
    request: Any = iter(requests) if method.client_streaming else requests[0]
    answers: list[bytes] = []
    try:
        answer = kind(path)(request, timeout=_SECONDS, metadata=metadata)
        if method.server_streaming:
            answers.extend(answer)
        else:
            answers.append(answer)
    except grpc.RpcError as error:
        return _stable(rpc, answers), error
    return _stable(rpc, answers), None


def _stable(rpc: str, answers: list[bytes]) -> list[bytes]:
    """Leave out keep-alive messages, which depend on time, and the version."""
    if rpc == "GetServer" and answers:
        answer = pb.GetServerResponse.FromString(answers[0])
        answer.version = _ANY_VERSION
        return [_bytes(answer)]
    if rpc == "GetServerStatus" and answers:
        return [_bytes(_stable_status(admin_pb2.GetServerStatusResponse.FromString(answers[0])))]
    if rpc == "GetSnapshot" and answers:
        first = pb.GetSnapshotResponse.FromString(answers[0])
        first.manifest.folder = snapshot_cases.FOLDER
        return [_bytes(first), *answers[1:]]
    if rpc != "Publish":
        return answers
    return [
        answer
        for answer in answers
        if pb.PublishResponse.FromString(answer).progress.stage
        in (pb.PublishProgress.STAGE_UNSPECIFIED, pb.PublishProgress.STAGE_UPLOADING)
    ]


def _stable_status(status: admin_pb2.GetServerStatusResponse) -> admin_pb2.GetServerStatusResponse:
    """Put fixed numbers in place of what depends on time, memory and the number of processes."""
    status.version = _ANY_VERSION
    status.uptime_seconds = 1.5
    status.num_workers, status.num_calls = 1, 2
    for field in ("resident", "ahead", "max_ahead", "table", "max_table"):
        setattr(status, f"{field}_bytes", 4096)
    for dataset in status.datasets:
        dataset.table_bytes = 512
        if dataset.num_messages:
            dataset.queue_seconds, dataset.make_seconds = 0.25, 0.5
    for peer in status.peers:
        peer.ahead_bytes, peer.oldest_stream_seconds = 256, 0.5
        peer.queue_seconds, peer.make_seconds = 0.25, 0.5
    return status


def refusal(error: grpc.RpcError) -> dict[str, Any]:
    """Describe how a call was refused."""
    status = rpc_status.from_call(error)
    assert status is not None, f"{error.code()}: {error.details()} carries no details"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    # The entries of a map have no order; here they have one, so that a file changes for a reason.
    status.details[0].Pack(info, deterministic=True)
    metadata: dict[str, str | None] = dict(sorted(info.metadata.items()))
    if info.reason in _FREE_TEXT:
        metadata[_FREE_TEXT[info.reason]] = None
    return {
        "domain": info.domain,
        "reason": info.reason,
        "metadata": metadata,
        "grpc-status-details-bin": status.SerializeToString(deterministic=True).hex(),
    }


def record(channel: grpc.Channel, rpc: str, case: Case, metadata: Metadata = ()) -> dict[str, Any]:
    """Make the call of a case, and describe its requests and answers."""
    method = METHODS.get(rpc) or ADMIN_METHODS[rpc]
    request_class = GetMessageClass(method.input_type)
    response_class = GetMessageClass(method.output_type)
    requests = [each if isinstance(each, bytes) else _bytes(each) for each in case.requests]
    answers, error = call(channel, rpc, requests, metadata)
    responses = [response_class.FromString(answer) for answer in answers]
    recorded: dict[str, Any] = {
        "name": case.name,
        "about": case.about,
        "requests": [_describe(request_class, data) for data in requests],
        "responses": [_describe(response_class, data) for data in answers],
        "status": "OK" if error is None else error.code().name,
    }
    if error is not None:
        recorded["error"] = refusal(error)
    rebuild = {"Sample": _sample_batches, "SampleEpoch": _epoch_batches}.get(rpc)
    if rebuild is not None:
        messages = [request_class.FromString(each) for each in requests if each != MALFORMED]
        recorded["batches"] = [_rebuilt(*batch) for batch in rebuild(messages, responses)]
    return recorded


def _bytes(message: Message) -> bytes:
    return message.SerializeToString(deterministic=True)


def _describe(message_class: type[Message], data: bytes) -> dict[str, Any]:
    if data == MALFORMED or len(data) > MOST_BYTES_WITH_JSON:
        return {"json": None, "hex": data.hex()}
    message = json_format.MessageToDict(message_class.FromString(data))
    return {"json": message, "hex": data.hex()}


def _reader(name: str, message: pb.SamplerConfig) -> BatchReader:
    """Return a decoder of a configuration's batches, which also checks them."""
    slots = {value: name for name, value in SLOTS.items()}
    config = SamplerConfig(
        num_negs_per_pos=message.num_negs_per_pos,
        corruption_scheme=tuple(slots[each] for each in message.corruption_scheme)
        or ("head", "tail"),
        filter_splits=("training",) if message.filter_splits else (),
        filter_mode="mask" if message.filter_mode == pb.FILTER_MODE_MASK else "exact",
        distinct=message.distinct,
        chunk_size=message.chunk_size or 1,
        log_q=message.log_q,
    )
    num_entities, num_relations = sizes(name)
    dataset = Dataset(
        name=name,
        fingerprint="",
        num_entities=num_entities,
        num_relations=num_relations,
        num_triples=1,
        has_vocabulary=False,
        limits=Limits(1, 1, 1, 1, 1),
    )
    return BatchReader(dataset, config)


def sizes(name: str) -> tuple[int, int]:
    """Return the numbers of entities and relations of a golden file's graph."""
    if name == wide_cases.NAME:
        return wide_cases.NUM_ENTITIES, wide_cases.NUM_RELATIONS
    return load("world").num_entities, load("world").num_relations


def _columns(triples: pb.Triples) -> Columns:
    return Columns(
        *(decode_ids(each) for each in (triples.heads, triples.relations, triples.tails))
    )


def _sample_batches(requests: list[Any], responses: list[Any]) -> Iterator[tuple[Any, Any]]:
    for request, response in zip(requests[1:], responses[1:], strict=False):
        configuration = requests[0].configuration
        reader = _reader(configuration.dataset, configuration.sampler)
        positives = _columns(request.positives.triples)
        due = request.positives.position, len(positives.heads)
        (batch,) = reader.read("batch", [response.batch], [due], positives)
        yield np.stack(positives, axis=1), batch


def _epoch_batches(requests: list[Any], responses: list[Any]) -> Iterator[tuple[Any, Any]]:
    for response in responses[1:]:
        (request,) = requests
        for message in response.batches.batches:
            positives = _columns(message.positives)
            due = message.negatives.position, len(positives.heads)
            reader = _reader(request.dataset, request.sampler)
            (batch,) = reader.read("", [message.negatives], [due], positives)
            yield np.stack(positives, axis=1).astype(np.int64), batch


def _rebuilt(positives: Any, batch: CorruptedBatch) -> dict[str, Any]:
    """Return a batch as a client rebuilds it: whole triples, and one flag for each."""
    triples = batch.triples(positives)
    mask = np.ones(triples.shape[:2], dtype=np.bool_) if batch.mask is None else batch.mask
    return {"negatives": triples.tolist(), "mask": mask.astype(int).tolist()}


def golden_files(channel: grpc.Channel) -> dict[str, str]:
    """Record all golden files on a server of the embedded graph; text by name."""
    texts = {}
    for file, cases in CASES.items():
        rpc, _, name = file.partition(".")
        with server_of(file, channel) as served:
            recorded = [record(served, rpc, case) for case in cases]
        texts[f"{file}.json"] = text_of(head(rpc, name or "world"), recorded)
    return texts


def head(rpc: str, name: str) -> dict[str, Any]:
    """Return the head of a file, before its cases."""
    world = load("world").fingerprint
    num_entities, num_relations = sizes(name)
    return {
        "service": SERVICE.full_name,
        "rpc": rpc,
        "dataset": name,
        "fingerprint": wide_cases.FINGERPRINT if name == wide_cases.NAME else world,
        "num_entities": num_entities,
        "num_relations": num_relations,
    }


def text_of(head: dict[str, Any], cases: list[dict[str, Any]]) -> str:
    """Format JSON with one message, batch or scalar a line."""
    lines = [
        "{",
        *(f" {_json(key)}: {_json(value)}," for key, value in head.items()),
        ' "cases": [',
    ]
    for case in cases:
        fields = []
        for key, value in case.items():
            if isinstance(value, list) and value:
                items = ",\n".join(f"    {_json(item)}" for item in value)
                fields.append(f"   {_json(key)}: [\n{items}\n   ]")
            else:
                fields.append(f"   {_json(key)}: {_json(value)}")
        lines.append(
            "  {\n" + ",\n".join(fields) + "\n  }" + ("," if case is not cases[-1] else "")
        )
    return "\n".join([*lines, " ]", "}"]) + "\n"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
