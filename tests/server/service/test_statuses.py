"""Refusals fit the header limits of clients and proxies, whatever a caller sent."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from negserve import Client, NegserveError, UnknownDatasetError
from negserve.types.checks.invalid import invalid_configuration
from negserve.types.checks.text import printable, shortened
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from negserve_server.admission.status import STATUS_OF_REASON, encode_status, message_of
from negserve_server.errors import IdOutOfRange, InvalidInput
from tests.server.messages import CODE, TIMEOUT, configuration, ids, known_configuration, refusal
from tests.support.server_process import server_process

MEGABYTE = 2**20
KEYS = ["field", "value", "limit", "row", "slot"]

texts = st.one_of(
    st.text(max_size=50),
    st.builds(
        lambda text, count: text * count,
        st.text(st.characters(codec=None), min_size=1, max_size=5),
        st.integers(0, 5000),
    ),
)


def header_bytes(text: str) -> int:
    """Count the bytes of a message as gRPC sends it: percent-encoded UTF-8."""
    encoded = text.encode("utf-8", "surrogatepass")
    return sum(1 if 0x20 <= byte <= 0x7E and byte != 0x25 else 3 for byte in encoded)


@example("x", "UNKNOWN_DATASET", {"limit": "\U0001f600" * 799, "value": "\U0001f600" * 999})
@example("\U0001f600" * 999, "UNKNOWN_DATASET", dict.fromkeys(KEYS, "\U0001f600" * 640))
@given(
    texts, st.sampled_from(sorted(STATUS_OF_REASON)), st.dictionaries(st.sampled_from(KEYS), texts)
)
def test_every_status_is_small_and_can_be_parsed(
    message: str, reason: str, metadata: dict[str, str]
):
    limit = metadata.pop("limit", None)
    error = InvalidInput(
        message, reason=reason, limit=None if limit is None else (limit,), **metadata
    )
    encoded = encode_status(error)
    text = message_of(error)
    assert len(base64.b64encode(encoded)) + header_bytes(text) <= 4096
    status = status_pb2.Status.FromString(encoded)
    assert status.message == text
    assert text == printable(text)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == reason
    assert set(info.metadata) >= set(metadata)
    # A name is there whole, or not at all.
    if limit is not None:
        assert info.metadata["limit"] in {"", shortened(limit, 800)}
    for key, value in metadata.items():
        assert info.metadata[key] == printable(info.metadata[key])
        if len(value) <= 20 and value == printable(value):
            assert info.metadata[key] == value


@given(texts, st.integers(8, 200))
def test_long_values_are_shortened_in_the_middle(text: str, most: int):
    written = shortened(text, most)
    assert len(written) <= most
    assert written == printable(written)
    if text == printable(text):
        half = (most - 3) // 2
        assert written == (text if len(text) <= most else f"{text[:half]}...{text[-half:]}")


def test_a_list_of_a_million_values_is_shortened():
    assert len(str(invalid_configuration("candidates", tuple(range(10**6)), "fewer"))) < 200
    told = IdOutOfRange(row=10**9, slot="tail", value=2**64 - 1, limit=2**32)
    assert "18446744073709551615" in str(told)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server of 60 datasets with long names."""
    file = tmp_path_factory.mktemp("graphs") / "toy.tsv"
    file.write_text("a\tr\tb\nb\tr\tc\n")
    options = [f"--dataset={number:02}-{'x' * 97}={file}" for number in range(60)]
    with server_process(*options, "--threads", "1") as server:
        yield server.target


def test_an_unknown_dataset_is_told_where_60_have_long_names(many: str):
    with Client(many, patience=5) as client, pytest.raises(UnknownDatasetError) as caught:
        client.triples_factory("moon")
    assert caught.value.reason == "UNKNOWN_DATASET"
    assert caught.value.metadata["value"] == "moon"
    names = caught.value.metadata["limit"].split(", ")
    assert all(len(name) == 100 for name in names)
    assert int(caught.value.metadata["num_omitted"]) == 60 - len(names)
    assert "and 55 more" in str(caught.value)
    assert "00-xxx" in str(caught.value)


def test_names_of_a_megabyte_are_refused_by_their_ends(many: str):
    name = "begin" + "é" * (MEGABYTE // 2) + "end"
    with Client(many, patience=5) as client, pytest.raises(UnknownDatasetError) as caught:
        client.triples_factory(name)
    assert caught.value.metadata["value"].startswith("begin")
    assert caught.value.metadata["value"].endswith("end")
    assert len(str(caught.value)) < 4096


LONG = "x" * MEGABYTE
CASES: dict[str, tuple[str, list[Any]]] = {
    "dataset": ("Sample", [configuration(dataset=LONG)]),
    "fingerprint": ("Sample", [configuration(dataset=f"00-{'x' * 97}", expected_fingerprint=LONG)]),
    "candidates": (
        "Sample",
        [
            configuration(
                dataset=f"00-{'x' * 97}",
                sampler={"candidates": ids(*range(2**18)), "filter_mode": 77},
            )
        ],
    ),
    "name to publish": (
        "Publish",
        [pb.PublishRequest(announcement=pb.PublishAnnouncement(name=LONG))],
    ),
    "splits that are known": (
        "Known",
        [known_configuration(splits=[9] * 10**5, dataset=f"00-{'x' * 97}")],
    ),
    "splits to look in": (
        "Contains",
        [
            pb.ContainsRequest(
                configuration=pb.ContainsConfiguration(
                    dataset=f"00-{'x' * 97}",
                    splits=[9] * 10**5,  # type: ignore[list-item]
                )
            )
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_details_and_metadata_of_refusals_are_short(many: str, case: str):
    method, requests = CASES[case]
    with grpc.insecure_channel(many) as channel:
        call = getattr(SamplerServiceStub(channel), method)(iter(requests), timeout=TIMEOUT)
        code, _, metadata, details = refusal(call)
    assert code in (CODE.NOT_FOUND, CODE.FAILED_PRECONDITION, CODE.INVALID_ARGUMENT)
    assert len(metadata.pop("limit", "")) <= 800
    assert max(map(len, metadata.values())) <= 200
    assert len(details) <= 1000


def test_log_lines_are_short(tmp_path: Path):
    log = tmp_path / "log"
    with (
        server_process("--threads", "1", "--log-level", "debug", log=log) as server,
        Client(server.target, patience=2) as client,
    ):
        with pytest.raises(NegserveError):
            client.triples_factory(LONG)
        with pytest.raises(NegserveError):
            client.publish("x" * 101, [[0, 0, 1]])
    assert max(map(len, log.read_text().splitlines())) < 2000
