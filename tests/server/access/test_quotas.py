"""How much a token may have, at a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from negserve import Client, EpochConfig, LimitExceededError, OverloadedError, SamplerConfig
from negserve.v1 import admin_pb2, sampler_pb2
from negserve.v1.admin_pb2_grpc import AdminServiceStub
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.server.admission.test_authentication import CALLS, bearing
from tests.server.admission.test_call_limiter import Talk, connections
from tests.server.messages import CODE, TIMEOUT, configuration, positives, refusal
from tests.server.test_app import run
from tests.support.certificates import Authority
from tests.support.graphs import load
from tests.support.repositories import graph, wait_for
from tests.support.server_process import ServerProcess, server_process

GREEDY, MODEST = "greedy-0123456789abcdef", "modest-0123456789abcdef"
OPERATOR = "operator-0123456789abcdef"


@contextmanager
def server_with(folder: Path, quotas: str, *options: str) -> Iterator[ServerProcess]:
    """Run a server with a token that has quotas, one that has none, and an administrator's."""
    tokens = folder / "tokens.toml"
    tokens.write_text(
        f'[[token]]\nname = "greedy"\ntoken = "{GREEDY}"\nscopes = ["sample", "publish"]\n'
        f"{quotas}\n"
        f'[[token]]\nname = "modest"\ntoken = "{MODEST}"\nscopes = ["sample", "publish"]\n'
        f'[[token]]\nname = "operator"\ntoken = "{OPERATOR}"\nscopes = ["admin"]\n'
    )
    with server_process("--token-file", str(tokens), *options) as server:
        yield server


def test_streams_of_a_token_are_bounded_by_its_entry(tmp_path: Path):
    with server_with(tmp_path, "max_streams = 2") as server, connections(server.target, 4) as some:
        talks = [Talk(channel, token=GREEDY).open() for channel in some[:2]]
        code, reason, metadata, said = refusal(Talk(some[2], token=GREEDY).answers)
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert metadata == {
            "resource": "max_streams_per_token", "value": "2", "limit": "2", "caller": "greedy"
        }  # fmt: skip
        assert GREEDY not in said
        talks += [Talk(channel, token=MODEST).open() for channel in some]
        talks[0].close()
        Talk(some[2], token=GREEDY).open().draw()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_streams_of_a_certificate_are_bounded_by_its_entry(tmp_path: Path, workers: str):
    authority, log = Authority(tmp_path), tmp_path / "log"
    cert, key = authority.issue("127.0.0.1")
    bounded, free = (authority.issue("client", common_name=name) for name in ("bounded", "free"))
    tokens = tmp_path / "tokens.toml"
    limit = 2 * int(workers)
    tokens.write_text(
        f'[[certificate]]\nsubject = "{Authority.subject(bounded[0])}"\n'
        f'scopes = ["sample"]\nmax_streams = {limit}\n'
        f'[[certificate]]\nsubject = "{Authority.subject(free[0])}"\nscopes = ["sample"]\n'
    )

    def connect(client: tuple[str, str]) -> grpc.Channel:
        pem = [Path(path).read_bytes() for path in (authority.ca, client[1], client[0])]
        return stack.enter_context(
            grpc.secure_channel(
                server.target,
                grpc.ssl_channel_credentials(*pem),
                (("grpc.use_local_subchannel_pool", 1),),
            )
        )

    with (
        server_process(
            "--tls-cert", cert, "--tls-key", key, "--tls-client-ca", authority.ca,
            "--token-file", str(tokens), "--workers", workers, "--access-log", log=log,
        ) as server,
        ExitStack() as stack,
    ):  # fmt: skip
        channel = connect(bounded)  # one connection, so one worker
        talks = [Talk(channel).open() for _ in range(2)]
        code, reason, metadata, said = refusal(Talk(channel).answers)
        assert (code, reason) == (CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        subject = Authority.subject(bounded[0])
        assert metadata == {
            "resource": "max_streams_per_token", "value": "2", "limit": "2", "caller": subject
        }  # fmt: skip
        assert f"2 streams of '{subject}' are open, the limit is 2" in said
        other = connect(free)
        others = [Talk(other).open() for _ in range(3)]
        for talk in (*talks, *others):
            talk.draw()
        talks[0].close()
        Talk(channel).open().draw()
        wait_for(lambda: "TOO_MANY_STREAMS" in log.read_text())
    (line,) = [each for each in log.read_text().splitlines() if "TOO_MANY_STREAMS" in each]
    assert subject in line


def test_answers_made_ahead_for_a_token_are_bounded_by_its_entry(tmp_path: Path):
    """Those of readers that stop: the bound, and a message for each stream."""
    bound, num_streams, k = 2**20, 6, 1000
    message = 2 * 2**19  # 384 KiB and a part of a batch, in memory twice
    num_triples = len(load("world").mapped_triples)
    request = sampler_pb2.SampleEpochRequest(
        dataset="world", sampler={"kind": 1, "num_negs_per_pos": k}, batch_size=64
    )

    def read(channel: grpc.Channel, token: str) -> Any:
        return SamplerServiceStub(channel).SampleEpoch(
            request, timeout=3 * TIMEOUT, metadata=bearing(f"Bearer {token}")
        )

    with (
        server_with(tmp_path, f"max_ahead_bytes = {bound}") as server,
        connections(server.target, num_streams + 2) as (*some, other, administrator),
    ):

        def ahead(caller: str) -> int:
            status = AdminServiceStub(administrator).GetServerStatus(
                admin_pb2.GetServerStatusRequest(),
                timeout=TIMEOUT,
                metadata=bearing(f"Bearer {OPERATOR}"),
            )
            return sum(each.ahead_bytes for each in status.peers if each.caller == caller)

        stopped = [read(channel, GREEDY) for channel in some]
        for answers in stopped:
            next(answers)
        peak = max(ahead("greedy") for _ in range(100))
        assert 0 < peak <= bound + num_streams * message
        assert sum(each.ByteSize() for each in read(other, MODEST)) > num_triples * k
        assert 0 < ahead("greedy") <= bound + num_streams * message


def test_negatives_of_all_streams_are_spread_over_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A running stream is delayed, not ended, and its bytes are the usual ones."""
    rate, k = 20_000, 100
    monkeypatch.setenv("NEGSERVE_TOKEN", GREEDY)
    triples = load("world").mapped_triples[:100]
    expected = load("world").open_sampler(num_negs_per_pos=k, seed=3)
    with (
        server_with(tmp_path, f"negatives_per_second = {rate}") as server,
        Client(server.target, timeout=30) as client,
    ):
        factory = client.triples_factory("world")
        samplers = [factory.open_sampler(num_negs_per_pos=k, seed=3) for _ in range(2)]
        begin = time.monotonic()
        for number in range(4):
            for sampler in samplers:
                drawn = sampler.sample(triples, 100 * number).replaced
                wanted = expected.sample(triples, 100 * number).replaced
                assert np.array_equal(drawn, wanted)
        # All but a second of the rate, and but the last message, were waited for.
        assert time.monotonic() - begin > (7 * len(triples) * k) / rate - 1.0


def test_an_epoch_is_spread_over_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NEGSERVE_TOKEN", GREEDY)
    world, k = load("world"), 640  # some messages
    total = world.num_triples * k
    rate = total // 4
    with (
        server_with(tmp_path, f"negatives_per_second = {rate}") as server,
        Client(server.target, timeout=30) as client,
    ):
        epochs = client.triples_factory("world").epochs(
            SamplerConfig(num_negs_per_pos=k), EpochConfig(batch_size=128)
        )
        begin = time.monotonic()
        drawn = sum(batch.negatives.replaced.size for batch in epochs)
        assert drawn == total
        assert time.monotonic() - begin > 1.0


def test_a_turn_too_far_away_is_refused_with_the_time_until_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with server_with(tmp_path, "negatives_per_second = 1") as server:
        with grpc.insecure_channel(server.target) as channel:
            stub = SamplerServiceStub(channel)
            first = configuration(sampler={"num_negs_per_pos": 500})
            answers = stub.Sample(
                iter([first, positives(), positives()]),
                timeout=TIMEOUT,
                metadata=bearing(f"Bearer {GREEDY}"),
            )
            assert [next(answers).WhichOneof("message") for _ in range(2)] == [
                "configured", "batch",
            ]  # fmt: skip
            with pytest.raises(grpc.RpcError) as caught:
                next(answers)
            assert caught.value.code() is CODE.RESOURCE_EXHAUSTED
            status = rpc_status.from_call(caught.value)
            assert status is not None
            info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
            assert status.details[0].Unpack(info)
            assert status.details[1].Unpack(retry)
            assert info.reason == "QUOTA_EXCEEDED"
            assert (info.metadata["caller"], info.metadata["limit"]) == ("greedy", "1.0")
            assert 300 < retry.retry_delay.seconds <= 500
        monkeypatch.setenv("NEGSERVE_TOKEN", GREEDY)
        with Client(server.target, timeout=5, patience=0.5) as client:
            sampler = client.triples_factory("world").open_sampler()
            with pytest.raises(OverloadedError, match=r"greedy has drawn more.*given up") as failed:
                sampler.sample(load("world").mapped_triples[:1], 0)
            assert failed.value.reason == "QUOTA_EXCEEDED"
        monkeypatch.setenv("NEGSERVE_TOKEN", MODEST)
        with Client(server.target, timeout=20) as client:
            sampler = client.triples_factory("world").open_sampler()
            assert sampler.sample(load("world").mapped_triples[:1], 0).replaced.size == 1


@pytest.mark.parametrize("workers", ["1", "2"])
def test_triples_that_a_token_publishes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
):
    options = ("--allow-publish", "--workers", workers)
    with server_with(tmp_path, "max_published_triples = 7000", *options) as server:
        monkeypatch.setenv("NEGSERVE_TOKEN", GREEDY)
        left = 7000 - graph(0).num_triples - graph(1).num_triples
        for seed in range(2):
            with Client(server.target, timeout=20) as client:
                client.publish(f"p{seed}", graph(seed))
        with Client(server.target, timeout=20) as client:
            with pytest.raises(LimitExceededError, match=f"greedy has room for {left}") as caught:
                client.publish("p3", graph(3))
            assert caught.value.reason == "GRAPH_TOO_LARGE"
            assert caught.value.metadata == {
                "caller": "greedy",
                "resource": "triples",
                "value": str(graph(3).num_triples),
                "limit": str(left),
            }
            client.publish("p0", graph(0))  # which is served
        monkeypatch.setenv("NEGSERVE_TOKEN", MODEST)
        with Client(server.target, timeout=20) as client:
            client.publish("p3", graph(3))


def test_quotas_too_small_for_the_workers_end_the_start(tmp_path: Path):
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(
        f'[[token]]\nname = "a"\ntoken = "{GREEDY}"\nscopes = ["sample"]\nmax_streams = 1\n'
    )
    listen = ("--listen", "127.0.0.1:0")
    result = run("serve", *listen, "--workers", "2", "--token-file", str(tokens))
    assert result.returncode == 1
    assert "a has max_streams = 1, which 2 workers share; give at least 2" in result.stderr


def test_one_message_always_fits(tmp_path: Path):
    with (
        server_with(tmp_path, "max_ahead_bytes = 1") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = SamplerServiceStub(channel)
        for token in (GREEDY, MODEST):
            answers = CALLS["SampleEpoch"](
                stub, timeout=TIMEOUT, metadata=bearing(f"Bearer {token}")
            )
            assert len(list(answers)) > 1
