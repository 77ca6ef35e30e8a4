"""What a token may do, and which datasets it may know of, at a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from negserve import Client, NotAllowedError, UnknownDatasetError
from negserve.v1 import admin_pb2
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.admin_pb2_grpc import AdminServiceStub
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.administration.test_admin import CALLS as ADMIN_CALLS
from tests.server.admission.test_authentication import CALLS, bearing
from tests.server.messages import CODE, TIMEOUT, refusal
from tests.server.publishing.test_publish import announcement
from tests.support.certificates import Authority
from tests.support.repositories import RepositoryOnDisk, graph, wait_for
from tests.support.server_process import ServerProcess, server_process

SAMPLER, PUBLISHER, OPERATOR, TENANT = (
    f"{name}-0123456789abcdef" for name in ("sampler", "publisher", "operator", "tenant")
)
TOKENS = f"""
[[token]]
name = "sampler"
token = "{SAMPLER}"
scopes = ["sample"]

[[token]]
name = "publisher"
token = "{PUBLISHER}"
scopes = ["publish"]
datasets = ["p-*"]

[[token]]
name = "operator"
token = "{OPERATOR}"
scopes = ["admin"]
datasets = ["g*"]

[[token]]
name = "tenant"
token = "{TENANT}"
scopes = ["sample", "publish", "admin"]
datasets = ["secret-?", "p-mine"]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    folder = tmp_path_factory.mktemp("served")
    repository = RepositoryOnDisk(folder / "graphs")
    repository.path.mkdir()
    for seed, name in enumerate(("g", "secret-1")):
        repository.put(name, graph(seed))
    tokens, log = folder / "tokens.toml", folder / "log"
    tokens.write_text(TOKENS)
    with server_process(
        "--dataset", "world", "--repository", str(repository.path), "--token-file", str(tokens),
        "--allow-publish", log=log,
    ) as server:  # fmt: skip
        yield server, log


@pytest.fixture
def channel(served: tuple[ServerProcess, Path]) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served[0].target) as opened:
        yield opened


def ask(channel: grpc.Channel, token: str, method: str) -> Any:
    with_ = {"timeout": TIMEOUT, "metadata": bearing(f"Bearer {token}")}
    if method in CALLS:
        return CALLS[method](SamplerServiceStub(channel), **with_)

    def answers() -> Iterator[Any]:
        yield from ADMIN_CALLS[method](AdminServiceStub(channel), **with_)

    return answers()


#: Scope that each method needs; without one any token will do.
NEEDED = {
    **dict.fromkeys(CALLS, "sample"),
    **dict.fromkeys(ADMIN_CALLS, "admin"),
    "Publish": "publish",
    "GetServer": "",
    "ListDatasets": "",
    "GetDataset": "",
}


@pytest.mark.parametrize(
    ("token", "scope"), [(SAMPLER, "sample"), (PUBLISHER, "publish"), (OPERATOR, "admin")]
)
@pytest.mark.parametrize("method", NEEDED)
def test_a_method_without_its_scope_is_refused(
    channel: grpc.Channel, token: str, scope: str, method: str
):
    try:
        list(ask(channel, token, method))
    except grpc.RpcError:
        code, reason, metadata, details = refusal(ask(channel, token, method))
    else:
        assert NEEDED[method] in {scope, ""}
        return
    if NEEDED[method] in {scope, ""}:  # refused for something else
        assert metadata.get("scope") is None
        return
    caller = token.partition("-")[0]
    assert (code, reason) == (CODE.PERMISSION_DENIED, "NOT_PERMITTED")
    assert metadata == {"caller": caller, "scope": NEEDED[method], "limit": scope}
    assert f"{caller} lacks the scope {NEEDED[method]}" in details
    assert "ask the operator" in details
    assert token not in details


@pytest.mark.parametrize("name", ["world", "g", "no-such-dataset"])
@pytest.mark.parametrize("method", sorted(set(CALLS) - {"GetServer", "ListDatasets"}))
def test_a_hidden_dataset_is_refused_whether_it_exists_or_not(
    channel: grpc.Channel, name: str, method: str
):
    stub, with_ = (
        SamplerServiceStub(channel),
        {"timeout": TIMEOUT, "metadata": bearing(f"Bearer {TENANT}")},
    )
    requests: dict[str, Any] = {
        "Sample": pb.SampleRequest(configuration={"dataset": name}),
        "SampleEpoch": pb.SampleEpochRequest(dataset=name),
        "Contains": pb.ContainsRequest(configuration={"dataset": name, "splits": [1]}),
        "Known": pb.KnownRequest(configuration={"dataset": name, "splits": [1], "slot": 1}),
        "GetDataset": pb.GetDatasetRequest(dataset=name),
        "GetRelationStatistics": pb.GetRelationStatisticsRequest(dataset=name),
        "GetVocabulary": pb.GetVocabularyRequest(dataset=name),
        "GetSnapshot": pb.GetSnapshotRequest(dataset=name),
        "Publish": announcement(name=name),
    }
    request, call = requests[method], getattr(stub, method)

    def answers() -> Iterator[Any]:
        if method in {"Sample", "Contains", "Known", "Publish"}:
            yield from call(iter([request]), **with_)
        elif method == "GetDataset":
            yield call(request, **with_)
        else:
            yield from call(request, **with_)

    code, reason, metadata, details = refusal(answers())
    assert (code, reason) == (CODE.PERMISSION_DENIED, "NOT_PERMITTED")
    assert metadata == {"caller": "tenant", "value": name, "limit": "secret-?, p-mine"}
    assert f"tenant has no access to a dataset '{name}'" in details


def test_a_client_sees_its_datasets_only(
    served: tuple[ServerProcess, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEGSERVE_TOKEN", TENANT)
    with Client(served[0].target, timeout=20) as client:
        assert client.list_datasets() == ["secret-1"]
        factory = client.triples_factory("secret-1")
        assert factory.fingerprint == graph(1).fingerprint
        sampler = factory.open_sampler(num_negs_per_pos=3)
        assert sampler.sample(graph(1).mapped_triples[:4], 0).replaced.size == 12
        with pytest.raises(NotAllowedError, match="only to names like") as caught:
            client.triples_factory("world")
        assert caught.value.reason == "NOT_PERMITTED"
        with pytest.raises(UnknownDatasetError) as unknown:
            client.triples_factory("secret-2")
        assert unknown.value.metadata["limit"] == "secret-1"
        assert "world" not in str(unknown.value)


def test_administrators_change_their_datasets_only_and_the_log_names_them(
    served: tuple[ServerProcess, Path], channel: grpc.Channel
):
    stub = AdminServiceStub(channel)
    with_ = {"timeout": TIMEOUT, "metadata": bearing(f"Bearer {OPERATOR}")}

    def refused(method: str, **request: str) -> tuple[Any, dict[str, str]]:
        call = getattr(stub, method)
        request_class = {
            "LoadDataset": "LoadDatasetRequest",
            "UnloadDataset": "UnloadDatasetRequest",
            "ReloadDatasets": "ReloadDatasetsRequest",
        }[method]
        message = getattr(admin_pb2, request_class)(**request)

        def answers() -> Iterator[Any]:
            answer = call(message, **with_)
            yield from answer if method == "ReloadDatasets" else [answer]

        code, reason, metadata, _ = refusal(answers())
        assert code is CODE.PERMISSION_DENIED
        return reason, metadata

    for method in ("LoadDataset", "UnloadDataset"):
        reason, metadata = refused(method, name="secret-1")
        assert (reason, metadata["value"]) == ("NOT_PERMITTED", "secret-1")
    reason, metadata = refused("ReloadDatasets")
    assert (reason, metadata["value"], metadata["limit"]) == ("NOT_PERMITTED", "*", "g*")
    versions = [
        version.name
        for answer in stub.ListVersions(admin_pb2.ListVersionsRequest(), **with_)
        for version in answer.versions
    ]
    assert versions == ["g"]
    stub.UnloadDataset(admin_pb2.UnloadDatasetRequest(name="g"), **with_)
    stub.LoadDataset(admin_pb2.LoadDatasetRequest(name="g"), **with_)
    log = served[1].read_text()
    assert re.search(r"unload by operator at \S+: unloaded g\n", log)
    assert re.search(r" load by operator at \S+: loaded g\n", log)


def test_who_publishes_is_in_the_log(
    served: tuple[ServerProcess, Path], monkeypatch: pytest.MonkeyPatch
):
    server, log = served
    monkeypatch.setenv("NEGSERVE_TOKEN", PUBLISHER)
    with Client(server.target, timeout=20) as client:
        with pytest.raises(NotAllowedError, match="'other'"):
            client.publish("other", graph(5))
        client.publish("p-1", graph(5))
    assert re.search(r"published p-1: .*, by publisher at \S+\n", log.read_text())


def test_refused_scopes_are_logged_with_the_name_and_no_token(
    served: tuple[ServerProcess, Path], channel: grpc.Channel
):
    assert refusal(ask(channel, SAMPLER, "ListVersions"))[1] == "NOT_PERMITTED"
    wait_for(lambda: "without the scope" in served[1].read_text())
    log = served[1].read_text()
    for secret in (SAMPLER, PUBLISHER, OPERATOR, TENANT):
        assert secret not in log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_subject_of_a_certificate_is_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
):
    """Without a token the certificate decides, also for calls that a worker passes on."""
    authority, log = Authority(tmp_path), tmp_path / "log"
    cert, key = authority.issue("127.0.0.1")
    tokens = tmp_path / "tokens.toml"
    issued = authority.issue("client", common_name="trainer-a")
    subject = Authority.subject(issued[0])
    tokens.write_text(
        f'[[certificate]]\nsubject = "{subject}"\nscopes = ["sample", "publish"]\n'
        f'[[token]]\nname = "operator"\ntoken = "{OPERATOR}"\nscopes = ["admin"]\n'
    )
    monkeypatch.setenv("NEGSERVE_CA_FILE", authority.ca)

    def use(issued: tuple[str, str]) -> None:
        for variable, path in zip(("CERT", "KEY"), issued, strict=True):
            monkeypatch.setenv(f"NEGSERVE_{variable}_FILE", path)

    with server_process(
        "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority.ca,
        "--token-file", str(tokens), "--allow-publish", "--workers", workers, log=log,
    ) as server:  # fmt: skip
        use(issued)
        for seed in range(4):  # some reach the worker that takes graphs, others the other one
            with Client(server.target, timeout=20) as client:
                assert "world" in client.list_datasets()
                client.publish(f"p-{seed}", graph(seed))
        use(other := authority.issue("client", common_name="trainer-b"))
        with Client(server.target, timeout=20) as client, pytest.raises(PermissionError) as caught:
            client.list_datasets()
        assert f"no entry for the certificate '{Authority.subject(other[0])}'" in str(caught.value)
    assert re.search(rf"published p-0: .*, by {re.escape(subject)} at \S+\n", log.read_text())


def test_anybody_may_have_less_than_who_has_a_token(tmp_path: Path):
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(TOKENS + '[anybody]\nscopes = ["sample"]\ndatasets = ["world"]\n')
    with (
        server_process("--token-file", str(tokens)) as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = SamplerServiceStub(channel)
        assert list(CALLS["Sample"](stub, timeout=TIMEOUT))
        code, reason, metadata, _ = refusal(CALLS["Publish"](stub, timeout=TIMEOUT))
        assert (code, reason) == (CODE.PERMISSION_DENIED, "NOT_PERMITTED")
        assert metadata["caller"] == "anybody"
        wrong = bearing("Bearer wrong-0123456789abcdef")
        answers = CALLS["Sample"](stub, timeout=TIMEOUT, metadata=wrong)
        assert refusal(answers)[1] == "CREDENTIALS_INVALID"
