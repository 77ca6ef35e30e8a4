"""Mapping of statuses to errors: a server's by its reason, others as those of gRPC or a proxy."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from negserve import (
    ChecksumError,
    Client,
    CredentialsError,
    InvalidRequestError,
    LimitExceededError,
    NegserveError,
    NotAllowedError,
    OverloadedError,
    ServerFaultError,
    StalledError,
    StorageFailedError,
    UnavailableError,
    UnknownDatasetError,
    aio,
)
from negserve._protocol import messages
from negserve._transport.statuses import from_rpc_error

CODE = grpc.StatusCode
KEY = "grpc-status-details-bin"


class Failure(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str | None, **trailers: bytes) -> None:
        super().__init__()
        self._code, self._details, self._trailers = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, bytes], ...]:
        return tuple((name.replace("_", "-"), value) for name, value in self._trailers.items())


def status(code: grpc.StatusCode, reason: str, domain: str = "negserve.dev") -> bytes:
    info = any_pb2.Any()
    info.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"value": "7"}))
    message = status_pb2.Status(code=code.value[0], message="so it is", details=[info])
    encoded: bytes = message.SerializeToString()
    return encoded


def said(code: grpc.StatusCode, trailer: bytes, details: str = "so it is") -> NegserveError:
    return from_rpc_error(Failure(code, details, grpc_status_details_bin=trailer), "host:1")


@pytest.mark.parametrize(
    ("code", "reason", "error_class"),
    [
        (CODE.UNAVAILABLE, "DRAINING", UnavailableError),
        (CODE.DEADLINE_EXCEEDED, "STREAM_IDLE", UnavailableError),
        (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", OverloadedError),
        (CODE.RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED", OverloadedError),
        (CODE.RESOURCE_EXHAUSTED, "GRAPH_TOO_LARGE", LimitExceededError),
        (CODE.INVALID_ARGUMENT, "SHAPE_MISMATCH", InvalidRequestError),
        (CODE.NOT_FOUND, "UNKNOWN_DATASET", UnknownDatasetError),
        (CODE.PERMISSION_DENIED, "PUBLISH_NOT_ALLOWED", NotAllowedError),
        (CODE.PERMISSION_DENIED, "NOT_PERMITTED", NotAllowedError),
        (CODE.UNAUTHENTICATED, "CREDENTIALS_INVALID", CredentialsError),
        (CODE.DATA_LOSS, "CHECKSUM_MISMATCH", ChecksumError),
        (CODE.INTERNAL, "INTERNAL_FAULT", ServerFaultError),
        (CODE.RESOURCE_EXHAUSTED, "STORAGE_FAILED", StorageFailedError),
        (CODE.INVALID_ARGUMENT, "OF_A_NEWER_SERVER", InvalidRequestError),
    ],
)
def test_a_servers_reason_decides(
    code: grpc.StatusCode, reason: str, error_class: type[NegserveError]
):
    error = said(code, status(code, reason))
    assert type(error) is error_class
    assert (str(error), error.reason, error.target) == ("host:1: so it is", reason, "host:1")
    assert error.metadata == {"value": "7"}


def test_a_newer_temporary_reason_is_retried():
    trailer = status_pb2.Status.FromString(status(CODE.RESOURCE_EXHAUSTED, "OF_A_NEWER_SERVER"))
    assert type(said(CODE.RESOURCE_EXHAUSTED, trailer.SerializeToString())) is LimitExceededError
    trailer.details.add().Pack(error_details_pb2.RetryInfo())
    error = said(CODE.RESOURCE_EXHAUSTED, trailer.SerializeToString())
    assert type(error) is UnavailableError
    assert error.reason == "OF_A_NEWER_SERVER"


@pytest.mark.parametrize(
    "trailer",
    [
        status(CODE.INTERNAL, "INTERNAL_FAULT", domain="proxy.example"),
        status(CODE.NOT_FOUND, "UNKNOWN_DATASET"),  # not the status that came
        b"\xff\xff\xff",
    ],
    ids=["of another", "of another status", "broken"],
)
def test_no_other_trailer_does(trailer: bytes):
    error = said(CODE.INTERNAL, trailer)
    assert type(error) is UnavailableError
    assert (error.reason, error.metadata) == ("", {})


@pytest.mark.parametrize("code", [code for code in CODE if code is not CODE.OK])
def test_every_code_without_a_reason_is_retried(code: grpc.StatusCode):
    error = from_rpc_error(Failure(code, "reset by peer"), "host:1")
    expected = StalledError if code is CODE.DEADLINE_EXCEEDED else UnavailableError
    assert type(error) is expected
    assert "reset by peer" in str(error)
    # Who gets it in the end, after its patience, reads who said it, and how.
    if code is not CODE.UNAVAILABLE:
        assert f"a proxy on the way, ended the call: reset by peer ({code.name})" in str(error)


def test_a_proxys_error_is_explained():
    def told(code: grpc.StatusCode, details: str | None) -> str:
        return str(from_rpc_error(Failure(code, details), "host:1"))

    assert "a proxy" in told(CODE.UNAVAILABLE, "Received http2 header with status: 502")
    assert told(CODE.UNAVAILABLE, "refused") == "host:1: refused"
    assert told(CODE.PERMISSION_DENIED, "no").endswith("ED); does a proxy forbid it?")
    assert "no words (UNKNOWN)" in told(CODE.UNKNOWN, None)


@pytest.fixture
def large() -> Iterator[tuple[str, list[int]]]:
    """A server whose answers are larger than a client accepts, and the calls that it received."""
    calls = []

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        calls.append(threading.get_ident())
        return b"\x12" + bytes(65 * 1024 * 1024)

    method = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(futures.ThreadPoolExecutor(1))
    handlers = {"ListDatasets": method}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("negserve.v1.SamplerService", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", calls
    server.stop(None).wait()


def test_a_message_that_is_too_large_fails_at_once(large: tuple[str, list[int]]):
    target, calls = large

    async def ask() -> None:
        async with aio.Client(target, patience=60) as client:
            await client.list_datasets()

    begin = time.monotonic()
    with (
        Client(target, patience=60) as client,
        pytest.raises(LimitExceededError, match=r"larger than max .*less at once"),
    ):
        client.list_datasets()
    with pytest.raises(LimitExceededError, match="larger than max"):
        asyncio.run(ask())
    assert len(calls) == 2
    assert time.monotonic() - begin < 30


def test_long_values_of_callers_are_not_repeated():
    with pytest.raises(InvalidRequestError) as caught:
        messages.encode_splits(["x" * 10**6])
    assert len(str(caught.value)) < 3000
    assert str(InvalidRequestError("begin" + "x" * 10**6 + "remedy")).endswith("remedy")
    assert str(InvalidRequestError("begin" + "x" * 10**6 + "remedy")).startswith("beginxxx")
    assert str(InvalidRequestError("x" * 2000)) == "x" * 2000
