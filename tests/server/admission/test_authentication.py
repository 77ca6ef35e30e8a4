"""A server that requires tokens, and one with TLS: for their operator and for strangers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.messages import (
    CODE,
    TIMEOUT,
    configuration,
    known_configuration,
    positives,
    refusal,
)
from tests.server.test_app import run
from tests.support import preloaded
from tests.support.certificates import Authority
from tests.support.server_process import ServerProcess, server_process

OLD, NEW = "old-0123456789abcdef", "new-0123456789abcdef"

CALLS: dict[str, Any] = {
    "Sample": lambda stub, **with_: stub.Sample(iter([configuration(), positives()]), **with_),
    "SampleEpoch": lambda stub, **with_: stub.SampleEpoch(
        pb.SampleEpochRequest(
            dataset="world", sampler=configuration().configuration.sampler, batch_size=4000
        ),
        **with_,
    ),
    "Contains": lambda stub, **with_: stub.Contains(
        iter([pb.ContainsRequest(configuration={"dataset": "world", "splits": [1]})]), **with_
    ),
    "Known": lambda stub, **with_: stub.Known(
        iter([known_configuration(), pb.KnownRequest(pairs={})]), **with_
    ),
    "GetServer": lambda stub, **with_: unary(stub.GetServer, pb.GetServerRequest(), **with_),
    "ListDatasets": lambda stub, **with_: stub.ListDatasets(pb.ListDatasetsRequest(), **with_),
    "GetDataset": lambda stub, **with_: unary(
        stub.GetDataset, pb.GetDatasetRequest(dataset="world"), **with_
    ),
    "GetRelationStatistics": lambda stub, **with_: stub.GetRelationStatistics(
        pb.GetRelationStatisticsRequest(dataset="world"), **with_
    ),
    "GetVocabulary": lambda stub, **with_: stub.GetVocabulary(
        pb.GetVocabularyRequest(dataset="world"), **with_
    ),
    "GetSnapshot": lambda stub, **with_: stub.GetSnapshot(
        pb.GetSnapshotRequest(dataset="world"), **with_
    ),
    "Publish": lambda stub, **with_: stub.Publish(
        iter([pb.PublishRequest(announcement={"name": "world"})]), **with_
    ),
}


def unary(method: Any, request: Any, **with_: Any) -> Iterator[Any]:
    yield method(request, **with_)


def bearing(value: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", value),)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"# old\n{OLD}\n# new\n{NEW}\n")
    return path


@pytest.fixture(scope="module")
def protected(tokens: Path) -> Iterator[ServerProcess]:
    with server_process("--token-file", str(tokens)) as running:
        yield running


@pytest.fixture(scope="module")
def channel(protected: ServerProcess) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(protected.target) as opened:
        yield opened


def test_every_method_is_tried():
    assert set(CALLS) == {m.name for m in pb.DESCRIPTOR.services_by_name["SamplerService"].methods}


@pytest.mark.parametrize("method", CALLS)
def test_without_a_token_every_method_is_refused(channel: grpc.Channel, method: str):
    answers = CALLS[method](SamplerServiceStub(channel), timeout=TIMEOUT)
    code, reason, metadata, details = refusal(answers)
    assert (code, reason) == (CODE.UNAUTHENTICATED, "CREDENTIALS_MISSING")
    assert metadata == {"key": "authorization", "expected": "Bearer TOKEN"}
    assert "authorization: Bearer TOKEN" in details
    assert "NEGSERVE_TOKEN" in details


@pytest.mark.parametrize("method", CALLS)
def test_with_another_token_every_method_is_refused(channel: grpc.Channel, method: str):
    wrong = "wrong-0123456789abcdef"
    answers = CALLS[method](
        SamplerServiceStub(channel), timeout=TIMEOUT, metadata=bearing(f"Bearer {wrong}")
    )
    code, reason, metadata, details = refusal(answers)
    assert (code, reason) == (CODE.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    assert metadata == {"key": "authorization", "expected": "Bearer TOKEN"}
    for secret in (wrong, OLD, NEW):
        assert secret not in details


@pytest.mark.parametrize("token", [OLD, NEW])
@pytest.mark.parametrize("method", sorted(set(CALLS) - {"Publish", "GetSnapshot"}))
def test_with_any_of_the_tokens_it_is_answered(channel: grpc.Channel, method: str, token: str):
    answers = CALLS[method](
        SamplerServiceStub(channel), timeout=TIMEOUT, metadata=bearing(f"Bearer {token}")
    )
    assert len(list(answers)) >= (method != "Contains")


@pytest.mark.parametrize(
    ("method", "reason"),
    [("Publish", "INVALID_CONFIGURATION"), ("GetSnapshot", "PULL_NOT_ALLOWED")],
)
def test_with_a_token_the_method_itself_refuses(channel: grpc.Channel, method: str, reason: str):
    answers = CALLS[method](
        SamplerServiceStub(channel), timeout=TIMEOUT, metadata=bearing(f"Bearer {NEW}")
    )
    assert refusal(answers)[1] == reason


@pytest.mark.parametrize(
    ("value", "is_good"),
    [
        (f"bearer {NEW}", True),
        (NEW, False),
        (f"Basic {NEW}", False),
        ("Bearer", False),
        ("Bearer ", False),
        (f"Bearer {NEW} {NEW}", False),
        (f"Bearer {NEW[:-1]}", False),
    ],
)
def test_the_header_in_other_forms(channel: grpc.Channel, value: str, is_good: bool):
    stub = SamplerServiceStub(channel)
    answers = CALLS["ListDatasets"](stub, timeout=TIMEOUT, metadata=bearing(value))
    if is_good:
        assert next(answers).datasets[0].name == "world"
    else:
        assert refusal(answers)[:2] == (CODE.UNAUTHENTICATED, "CREDENTIALS_INVALID")


def test_probes_need_no_token_but_watches_do(channel: grpc.Channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "world"):
        request = health_pb2.HealthCheckRequest(service=service)
        assert health.Check(request, timeout=TIMEOUT).status == 1
    watch = health.Watch(request, timeout=TIMEOUT)
    assert refusal(watch)[:2] == (CODE.UNAUTHENTICATED, "CREDENTIALS_MISSING")
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    answers = stub.ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=TIMEOUT
    )
    assert refusal(answers)[:2] == (CODE.UNAUTHENTICATED, "CREDENTIALS_MISSING")


def test_no_method_is_found_without_a_token(channel: grpc.Channel):
    method = channel.unary_unary("/negserve.v1.SamplerService/NoSuchMethod")
    assert refusal(method(b"", timeout=TIMEOUT) for _ in range(1))[0] is CODE.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as caught:
        method(b"", timeout=TIMEOUT, metadata=bearing(f"Bearer {NEW}"))
    assert caught.value.code() is CODE.UNIMPLEMENTED


def test_tokens_are_exchanged_without_a_restart(tmp_path: Path):
    path, log = tmp_path / "tokens", tmp_path / "log"
    path.write_text(OLD)
    with (
        server_process("--token-file", str(path), log=log) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = SamplerServiceStub(channel)

        def is_taken(token: str) -> bool:
            try:
                next(CALLS["ListDatasets"](stub, metadata=bearing(f"Bearer {token}"), timeout=9))
            except grpc.RpcError as error:
                assert error.code() is CODE.UNAUTHENTICATED
                return False
            return True

        assert is_taken(OLD)
        assert not is_taken(NEW)
        path.write_text(NEW)
        end = time.monotonic() + 10
        while not is_taken(NEW):
            assert time.monotonic() < end
            time.sleep(0.1)
        assert not is_taken(OLD)
    for secret in (OLD, NEW):
        assert secret not in log.read_text()


def test_refused_calls_are_counted_and_logged_now_and_then(tmp_path: Path, tokens: Path):
    log = tmp_path / "log"
    wrong = "wrong-0123456789abcdef"
    with (
        server_process("--token-file", str(tokens), log=log) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = SamplerServiceStub(channel)
        for number in range(300):
            metadata = bearing(f"Bearer {wrong}") if number % 3 else ()
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetDataset(pb.GetDatasetRequest(dataset="world"), metadata=metadata, timeout=9)
            assert caught.value.code() is CODE.UNAUTHENTICATED
        end = time.monotonic() + 60
        while "300 since the start" not in log.read_text():
            assert time.monotonic() < end
            time.sleep(0.1)
    lines = [line for line in log.read_text().splitlines() if "refused" in line]
    assert len(lines) <= 4, "a line for some 10 seconds"
    assert "1 without a token, the last from ipv4:127.0.0.1:" in lines[0]
    assert "WARNING" in lines[0]
    counts = [re.findall(r"(\d+) with", line) for line in lines]
    assert sum(int(count) for line in counts for count in line) == 300
    for secret in (wrong, OLD, NEW):
        assert secret not in log.read_text()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--token-file", "BAD"], "tokens, line 2: a token has 12 characters, the minimum is 16"),
        (["--token-file", "/nowhere"], "/nowhere: can't read the tokens"),
        (["--tls-cert", "CERT"], "--tls-cert without --tls-key; TLS needs both"),
        (["--tls-key", "KEY"], "--tls-key without --tls-cert; TLS needs both"),
        (["--tls-client-ca", "CA"], "--tls-client-ca without --tls-cert and --tls-key"),
        (["--tls-cert", "CERT", "--tls-key", "/nowhere"], "/nowhere: can't be read"),
        (["--tls-cert", "CA", "--tls-key", "KEY"], "not a certificate in PEM with its private key"),
        (
            ["--tls-cert", "BAD", "--tls-key", "KEY"],
            "not a certificate in PEM with its private key",
        ),
        (
            ["--tls-cert", "CERT", "--tls-key", "KEY", "--tls-client-ca", "BAD"],
            "tokens: no certificates in PEM",
        ),
    ],
)
def test_errors_are_reported_before_serving(tmp_path: Path, options: list[str], told: str):
    authority = Authority(tmp_path)
    cert, key = authority.issue("127.0.0.1")
    bad = tmp_path / "tokens"
    bad.write_text(f"{OLD}\nshort-secret\n")
    files = {"CERT": cert, "KEY": key, "CA": authority.ca, "BAD": str(bad)}
    result = run(
        "serve", "--listen", "127.0.0.1:0", *(files.get(option, option) for option in options)
    )
    assert result.returncode == 1
    assert told in result.stderr
    assert "listening" not in result.stdout
    for secret in ("Traceback", OLD, "short-secret"):
        assert secret not in result.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "127.0.0.1:0", "unix", "tls"])
def test_tokens_in_plain_text_over_a_network_are_warned_of(
    tmp_path: Path, tokens: Path, listen: str
):
    options = ["--token-file", str(tokens), "--log-level", "warning", "--insecure"]
    address = {"unix": f"unix:{tmp_path}/socket", "tls": "0.0.0.0:0"}.get(listen, listen)
    if listen == "tls":
        cert, key = Authority(tmp_path).issue("127.0.0.1")
        options += ["--tls-cert", cert, "--tls-key", key]
    log = tmp_path / "log"
    with server_process(*options, listen=(address,), log=log):
        warned = f"{address} takes tokens in plain text" in log.read_text()
    assert warned == (listen == "0.0.0.0:0")


@pytest.mark.parametrize("mutual", [False, True])
def test_the_probe_of_a_server_with_tls_and_tokens_asks_a_unix_socket(
    tmp_path: Path, tokens: Path, mutual: bool
):
    authority = Authority(tmp_path)
    cert, key = authority.issue("127.0.0.1")
    options = ["--token-file", str(tokens), "--tls-cert", cert, "--tls-key", key]
    options += ["--tls-client-ca", authority.ca] if mutual else []
    socket = f"unix:{tmp_path / 'socket'}"
    probe = ["-m", "negserve_server.health_check"]
    with server_process(*options, listen=("127.0.0.1:0", socket)) as server:
        for arguments, status in (([socket], 0), ([socket, "world"], 0), ([server.target], 1)):
            done = preloaded.run([*probe, *arguments], timeout=60)
            assert done.returncode == status, done.stdout + done.stderr
