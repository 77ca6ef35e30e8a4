"""docs/protocol.md agrees with the proto, the code and a real server."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from negserve._graph.mapped_graph import MappedGraph
from negserve._protocol.publish_dialogue import PublishDialogue
from negserve.types.corrupted_batch import CorruptedBatch, num_rows
from negserve.types.fingerprint import graph_fingerprint, split_fingerprint, types_fingerprint
from negserve.v1 import errors_pb2
from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.status import DETAILS_KEY, DOMAIN, STATUS_OF_REASON
from negserve_server.config.limits import Limits
from negserve_server.graph import TypeConstraints
from negserve_server.service import SERVICE
from negserve_server.service.messages import encode_limits
from tests.support.graphs import REPOSITORY, load
from tests.support.protocol_document import DOCUMENT, block, rows
from tests.support.server_process import ServerProcess

PROTO = (REPOSITORY / "proto" / "negserve" / "v1" / "errors.proto").read_text(encoding="utf-8")
SAMPLE = f"/{SERVICE.full_name}/Sample"
SEED, K, POSITION = 42, 4, 7
POSITIVES = [
    ("Germany", "has_capital", "Berlin"),
    ("Kenya", "located_in_continent", "Africa"),
]


def hex_dump(name: str) -> bytes:
    lines = [line.partition("#")[0] for line in block(f"hex {name}").splitlines()]
    return bytes.fromhex(" ".join(lines))


def expected_positives() -> np.ndarray[Any, np.dtype[np.int64]]:
    graph = load("world")
    return np.array(
        [
            [graph.entity_to_id[head], graph.relation_to_id[relation], graph.entity_to_id[tail]]
            for head, relation, tail in POSITIVES
        ]
    )


@pytest.fixture(scope="module")
def channel(server: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as opened:
        yield opened


def sample(channel: grpc.Channel, *requests: bytes) -> list[bytes]:
    return list(channel.stream_stream(SAMPLE)(iter(requests), timeout=20))


def test_the_requests_are_the_stated_messages():
    triples = expected_positives()
    configuration = pb.SampleRequest(
        configuration=pb.SampleConfiguration(
            dataset="world",
            expected_fingerprint=load("world").fingerprint,
            sampler=pb.SamplerConfig(
                kind=pb.SAMPLER_KIND_BERNOULLI,
                num_negs_per_pos=K,
                filter_splits=[pb.SPLIT_TRAINING],
                seed=SEED,
            ),
        )
    )
    columns = [
        pb.Ids(data=triples[:, column].astype(f"<u{width}").tobytes(), width=width)
        for column, width in enumerate((2, 1, 2))
    ]
    positives = pb.SampleRequest(
        positives=pb.Positives(
            position=POSITION,
            triples=pb.Triples(heads=columns[0], relations=columns[1], tails=columns[2]),
        )
    )
    for name, message in (("configuration", configuration), ("positives", positives)):
        assert pb.SampleRequest.FromString(hex_dump(name)) == message
        assert hex_dump(name) == message.SerializeToString()


def test_a_server_answers_exactly_the_stated_bytes(channel: grpc.Channel):
    answers = sample(channel, hex_dump("configuration"), hex_dump("positives"))
    assert answers == [hex_dump("configured"), hex_dump("batch")], [a.hex(" ") for a in answers]


def test_the_json_of_the_example_is_the_same_request(channel: grpc.Channel):
    configuration, positives = (
        json_format.Parse(line, pb.SampleRequest()) for line in block("json").splitlines()
    )
    assert positives.SerializeToString() == hex_dump("positives")
    expected = pb.SampleRequest.FromString(hex_dump("configuration"))
    expected.configuration.ClearField("expected_fingerprint")
    assert configuration == expected
    assert sample(channel, configuration.SerializeToString())[0] == hex_dump("configured")


def test_the_annotations_tell_the_values():
    graph = load("world")
    configured = pb.SampleResponse.FromString(hex_dump("configured")).configured
    assert configured.fingerprint == graph.fingerprint
    assert list(configured.sampler.corruption_scheme) == [pb.SLOT_HEAD, pb.SLOT_TAIL]
    assert configured.sampler.algorithm_version == 2
    assert configured.sampler.filter_mode == pb.FILTER_MODE_EXACT
    assert configured.sampler.chunk_size == 1
    assert f"{graph.num_entities} entities and {graph.num_relations} relations" in DOCUMENT
    fields = {
        (field.number, field.name)
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
    }
    for name in ("configuration", "configured", "positives", "batch"):
        assert f"{len(hex_dump(name))} bytes" in DOCUMENT
        for line in block(f"hex {name}").splitlines():
            text, _, note = line.partition("#")
            data, note = bytes.fromhex(text), note.strip()
            if field := re.match(r"(\d+) (\w+): (.+)", note):
                number, field_name, value = int(field[1]), field[2], field[3]
                assert (number, field_name) in fields
                assert data[0] >> 3 == number, line
                if value.endswith(" bytes"):
                    assert data[-1] == int(value.removesuffix(" bytes")), line
                elif value.isdecimal():
                    assert data[-1] == int(value), line
                else:
                    named = [getattr(pb, part) for part in value.split(", ")]
                    assert list(data[-len(named) :]) == named, line
            elif note[0].isdecimal() and "," in note:
                values = [int(part) for part in note.split(",")]
                width = len(data) // len(values)
                assert np.frombuffer(data, dtype=f"<u{width}").tolist() == values, line
            else:
                assert note.strip('"').encode("ascii") == data, line


def test_the_rebuilt_negatives_are_those_of_the_bytes():
    graph = load("world")
    triples = expected_positives()
    batch = pb.SampleResponse.FromString(hex_dump("batch")).batch
    assert not batch.relation_counts.data
    assert not batch.mask
    assert not batch.num_saturated
    replaced = np.frombuffer(batch.replaced.data, dtype="<u2").reshape(-1, K)
    assert "| position | j | negative | labels |" in DOCUMENT
    entities, relations = list(graph.entity_to_id), list(graph.relation_to_id)
    for i, positive in enumerate(triples.tolist()):
        for j in range(K):
            head, relation, tail = positive
            if j < batch.head_counts.data[i]:
                head = int(replaced[i, j])
            else:
                tail = int(replaced[i, j])
            labels = f"{entities[head]}, {relations[relation]}, {entities[tail]}"
            row = f"| {POSITION + i} | {j} | {head}, {relation}, {tail} | {labels} |"
            assert row in DOCUMENT.splitlines()
            assert not graph.contains(np.array([[head, relation, tail]]), ("training",)).any()
    for i, positive in enumerate(triples.tolist()):
        labels = " | ".join(POSITIVES[i])
        assert f"| {POSITION + i} | {labels} | {', '.join(map(str, positive))} |" in DOCUMENT


def test_the_table_of_rows_is_right():
    for c, position, n, expected in rows("c"):
        batch = CorruptedBatch(
            position=int(position),
            replaced=np.empty((0, 1), dtype=np.uint8),
            head_counts=np.zeros(int(n), dtype=np.uint8),
            relation_counts=np.zeros(int(n), dtype=np.uint8),
            mask=None,
            num_saturated=0,
            chunk_size=int(c),
        )
        found = batch.row_of_positive().tolist()
        assert found == [int(row) for row in expected.split()]
        assert num_rows(int(position), int(n), int(c)) == found[-1] + 1
    assert num_rows(7, 0, 3) == 0


def test_the_checksum_is_that_of_a_chunk():
    (data, checksum) = re.findall(r"over the bytes `([^`]+)`, so (\d+)", DOCUMENT)[0]
    graph = MappedGraph.of([(1, 0, 2), (3, 1, 0)])
    dialogue = PublishDialogue("toy", graph)
    upload = pb.PublishUpload(max_triples_per_chunk=9)
    to_send, _ = dialogue.hear(pb.PublishResponse(upload=upload))
    (chunk,) = (request.chunk for request in to_send)
    columns = (chunk.triples.heads, chunk.triples.relations, chunk.triples.tails)
    assert b"".join(column.data for column in columns) == bytes.fromhex(data)
    assert chunk.crc32 == int(checksum)


def test_the_log_probability_is_that_of_a_server(channel: grpc.Channel):
    (value, data) = re.findall(r"= (-[\d.]+), bytes `([^`]+)`", DOCUMENT)[0]
    sampler = pb.SamplerConfig(kind=pb.SAMPLER_KIND_BASIC, num_negs_per_pos=2, log_q=True)
    configuration = pb.SampleConfiguration(dataset="world", sampler=sampler)
    request = pb.SampleRequest(configuration=configuration).SerializeToString()
    answer = pb.SampleResponse.FromString(sample(channel, request, hex_dump("positives"))[1])
    assert answer.batch.log_q == bytes.fromhex(data) * 4
    np.testing.assert_allclose(np.frombuffer(answer.batch.log_q, "<f4"), float(value), atol=5e-7)


def test_the_table_of_reasons_is_complete_and_right():
    table = {row[0].strip("`"): row[1:] for row in rows("reason")}
    reasons = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()}
    assert set(table) == reasons - {"UNSPECIFIED"}
    comments = re.findall(r"((?:^  //[^\n]*\n)+)^  ERROR_REASON_(\w+) =", PROTO, flags=re.MULTILINE)
    comment_of = {name: re.sub(r"\s*//\s*", " ", text).strip() for text, name in comments}
    for reason, (status, metadata, remedy) in table.items():
        assert status == f"`{STATUS_OF_REASON[reason].name}`", reason
        assert comment_of[reason].startswith(STATUS_OF_REASON[reason].name), reason
        _, _, keys = comment_of[reason].partition("Metadata:")
        assert re.findall(r"`(\w+)`", metadata) == re.findall(r"`(\w+)`", keys), reason
        assert remedy


def test_a_refusal_carries_what_the_document_says(channel: grpc.Channel):
    keys_of = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in rows("reason")}
    positives = pb.SampleRequest.FromString(hex_dump("positives"))
    positives.positives.triples.heads.data = b"\xff\xff\xff\xff"
    configuration, fingerprint = hex_dump("configuration"), load("world").fingerprint.encode()
    for requests, reason in (
        ([configuration, positives.SerializeToString()], "ENTITY_ID_OUT_OF_RANGE"),
        ([configuration, configuration], "STREAM_OUT_OF_ORDER"),
        ([b"\xff\xff\xff\xff"], "MALFORMED_MESSAGE"),
        ([configuration.replace(b"world", b"earth")], "UNKNOWN_DATASET"),
        ([configuration.replace(fingerprint, b"0" * 64)], "FINGERPRINT_MISMATCH"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            sample(channel, *requests)
        assert caught.value.code() == STATUS_OF_REASON[reason]
        trailers = dict(caught.value.trailing_metadata())
        status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
        assert status.code == STATUS_OF_REASON[reason].value[0]
        info = error_details_pb2.ErrorInfo()
        assert status.details[0].Unpack(info)
        assert (info.reason, info.domain) == (reason, DOMAIN)
        assert set(info.metadata) == keys_of[reason]
    assert f"`{DETAILS_KEY}`" in DOCUMENT
    assert f"`domain`: `{DOMAIN}`" in DOCUMENT


def test_every_rpc_and_limit_is_named(channel: grpc.Channel):
    assert [row[0].strip("`") for row in rows("RPC")] == [m.name for m in SERVICE.methods]
    stated = {row[0].strip("`"): int(row[1].replace(",", "")) for row in rows("limit")}
    answer = pb.GetDatasetResponse.FromString(
        channel.unary_unary(f"/{SERVICE.full_name}/GetDataset")(
            pb.GetDatasetRequest(dataset="world").SerializeToString(), timeout=20
        )
    )
    assert set(stated) == {field.name for field in pb.Limits.DESCRIPTOR.fields}
    encoded = encode_limits(Limits())
    for name, value in stated.items():
        assert value == getattr(encoded, name) == getattr(answer.limits, name)


def test_the_health_services_are_served(channel: grpc.Channel):
    names = [
        "" if row[0] == "empty" else re.findall(r"`([^`]+)`", row[0])[0] for row in rows("service")
    ]
    assert names == ["", SERVICE.full_name, "world"]
    for name in names:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service=name), timeout=20
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_the_fingerprint_program_prints_the_fingerprints():
    names: dict[str, Any] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(block("python"), names)  # the document's own program
    assert printed.getvalue() == block("text")
    toy, sizes = names["toy"], (3, 2)
    splits = {name: split_fingerprint(np.array(rows), *sizes) for name, rows in toy.items()}
    types = TypeConstraints(names["heads"], names["tails"])
    typed = types_fingerprint(types.heads, types.tails, *sizes)
    assert printed.getvalue().split() == [
        splits["training"],
        graph_fingerprint(splits),
        graph_fingerprint(splits, typed),
    ]
    graph = load("world")
    splits = {name: list(map(tuple, rows.tolist())) for name, rows in graph.splits.items()}
    assert graph.type_constraints is not None
    pairs = (graph.type_constraints.heads, graph.type_constraints.tails)
    heads, tails = (list(map(tuple, rows.tolist())) for rows in pairs)
    sizes = (graph.num_entities, graph.num_relations)
    assert names["types_fingerprint"](heads, tails, *sizes) == graph.type_constraints_fingerprint
    assert names["dataset_fingerprint"](splits, *sizes, heads, tails) == graph.fingerprint
    assert graph.fingerprint.encode() in hex_dump("configuration")
