"""deploy/envoy/envoy.yaml as it is, but for addresses and files: TLS, two replicas, no error."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from negserve import Client, UnavailableError
from tests.faults.conftest import (
    NUM_TRIPLES,
    Servers,
    expected_digest,
    open_stream,
    pieces_of,
)
from tests.faults.stopping_ranks import LARGE, StoppingRanks
from tests.support.certificates import Authority
from tests.support.epochs import union_digest
from tests.support.programs.proxies import envoy
from tests.support.workers import wait_for

PATIENCE = 60.0


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    made = Authority(tmp_path / "certificates")
    monkeypatch.setenv("NEGSERVE_CA_FILE", made.ca)
    return made


def test_one_replica_is_killed_and_the_other_drains(
    servers: Servers, authority: Authority, tmp_path: Path
):
    first, second = servers.start_two()
    targets = [first.target, second.target]
    certificate = authority.issue("127.0.0.1")
    with (
        envoy(targets, tmp_path, certificate) as (proxy, clusters),
        ThreadPoolExecutor(2) as threads,
    ):
        ranks = StoppingRanks(threads, proxy.target, 2, {3, 12})
        with ranks.stopped():
            num_streams = clusters.num_requests()
            assert all(num_streams[target] for target in targets), num_streams
            first.kill()
            # Two failed health checks leave it out.
            wait_for(lambda: clusters.counter("membership_healthy") == 1, "that one is left out")
            assert clusters.counter("health_check.failure") >= 2
        with ranks.stopped():
            servers.start(listen=first.target)
            wait_for(lambda: clusters.counter("membership_healthy") == 2, "that one is back")
            num_failures = clusters.counter("health_check.failure")
            assert second.terminate() == 0
            wait_for(lambda: clusters.counter("membership_healthy") == 1, "the other is left out")
            assert clusters.counter("health_check.failure") > num_failures
        assert ranks.digest() == expected_digest(LARGE)
        # It was found again, and took the streams of the one that drained.
        assert clusters.num_requests()[first.target] >= num_streams[first.target] + 2


class _Refusing(grpc.GenericRpcHandler):
    """Ends every call at once with UNAVAILABLE, as a replica does whose disk or memory is gone."""

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def refuse(_: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            context.abort(grpc.StatusCode.UNAVAILABLE, "out of order")
            yield b""

        return grpc.stream_stream_rpc_method_handler(refuse)


@pytest.fixture
def out_of_order() -> Iterator[str]:
    """The address of a replica that says it is healthy, and fails all streams."""
    server = grpc.server(ThreadPoolExecutor(8))
    says = health.HealthServicer()
    says.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(says, server)
    server.add_generic_rpc_handlers((_Refusing(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_a_replica_that_fails_streams_is_ejected_although_it_says_it_is_healthy(
    servers: Servers, out_of_order: str, authority: Authority, tmp_path: Path
):
    good = servers.start()
    certificate = authority.issue("127.0.0.1")
    with envoy([good.target, out_of_order], tmp_path, certificate) as (proxy, clusters):

        def count(name: str) -> int:
            return clusters.counter(f"outlier_detection.{name}")

        def read_epoch() -> None:
            with Client(proxy.target, patience=PATIENCE) as client:
                batches = list(open_stream(client))
            assert union_digest(pieces_of(batches), NUM_TRIPLES) == expected_digest()

        wait_for(lambda: clusters.counter("membership_healthy") == 2, "two health checks")
        for _ in range(20):
            read_epoch()
            if count("ejections_enforced_total"):
                break
        assert count("ejections_active") == 1
        assert count("ejections_enforced_consecutive_gateway_failure") == 1
        num_checks = clusters.counter("health_check.success")
        num_calls = clusters.num_requests()
        assert num_calls[out_of_order] >= 3
        wait_for(lambda: count("ejections_active") == 0, "the end of the ejection")
        # Checks of its health, which all succeed, have not ended it: there were several.
        assert clusters.counter("health_check.success") >= num_checks + 3
        assert clusters.counter("health_check.failure") == 0
        # Nobody but health checks called it meanwhile; now it is tried again.
        for _ in range(20):
            read_epoch()
            if clusters.num_requests()[out_of_order] > num_calls[out_of_order]:
                break
        assert clusters.num_requests()[out_of_order] > num_calls[out_of_order]


def test_a_renewed_certificate_is_taken(servers: Servers, authority: Authority, tmp_path: Path):
    folder = tmp_path / "secret"
    folder.mkdir()
    former = Authority(tmp_path / "former")
    files = ("tls.crt", "tls.key")

    def give(issuer: Authority) -> None:
        for issued, name in zip(issuer.issue("127.0.0.1"), files, strict=True):
            (folder / "next").write_bytes(Path(issued).read_bytes())
            (folder / "next").replace(folder / name)

    give(former)
    certificate = (str(folder / files[0]), str(folder / files[1]))
    with envoy([servers.start().target], tmp_path, certificate) as (proxy, _):
        with pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
            Client(proxy.target, patience=0.5).list_datasets()
        give(authority)
        with Client(proxy.target, patience=PATIENCE) as client:
            assert list(client.list_datasets()) == ["world"]
