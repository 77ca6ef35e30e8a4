"""A server process, for its operator."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from negserve import Client, OverloadedError
from negserve.sampling import BasicNegativeSampler
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import SamplerServiceStub
from tests.contract.conftest import Place
from tests.server.service.test_refusals import configuration, positives, refusal
from tests.support import preloaded
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

SERVING = health_pb2.HealthCheckResponse.SERVING


def health(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status
    return status


def test_health_overall_per_service_and_per_dataset(server: ServerProcess):
    with grpc.insecure_channel(server.target) as channel:
        for service in ("", "negserve.v1.SamplerService", "world"):
            assert health(channel, service) == SERVING
        with pytest.raises(grpc.RpcError) as caught:
            health(channel, "moon")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_describes_the_service(server: ServerProcess):
    with grpc.insecure_channel(server.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {"negserve.v1.SamplerService", "grpc.health.v1.Health"} <= set(
            database.get_services()
        )
        file = database.FindFileContainingSymbol("negserve.v1.SamplerService")
    assert {method.name for method in file.service[0].method} == {
        method.name for method in pb.DESCRIPTOR.services_by_name["SamplerService"].methods
    }


def test_tcp_and_unix_sockets_answer_alike(tmp_path: Path):
    listen = ("127.0.0.1:0", f"unix:{tmp_path / 'negserve.sock'}")
    triples = Place(load("world"), load("world")).positives(50)
    with server_process(listen=listen) as server:
        assert server.addresses[1] == listen[1]
        answers = []
        for target in server.addresses:
            with Client(target) as client:
                sampler = BasicNegativeSampler(client.triples_factory("world"), 4, True)
                answers.append(sampler.sample(triples)[0].tolist())
    assert answers[0] == answers[1]


def test_sigterm_drains():
    with server_process() as server, grpc.insecure_channel(server.target) as channel:
        stub = SamplerServiceStub(channel)
        requests: queue.SimpleQueue[pb.SampleRequest | None] = queue.SimpleQueue()
        answers = stub.Sample(iter(requests.get, None), timeout=60)
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == SERVING
        requests.put(configuration())
        requests.put(positives())
        assert next(answers).HasField("configured")
        assert next(answers).batch.num_positives == 1
        assert server.terminate() == 0
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        code, reason, _, _ = refusal(answers)
        requests.put(None)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


def test_connections_outlast_the_streams_that_sigterm_ends():
    """A proxy with a slow client drops what it has buffered once its server disconnects."""
    ready = grpc.ChannelConnectivity.READY
    with server_process() as server, grpc.insecure_channel(server.target) as channel:
        requests: queue.SimpleQueue[pb.SampleRequest | None] = queue.SimpleQueue()
        requests.put(configuration())
        answers = SamplerServiceStub(channel).Sample(iter(requests.get, None), timeout=60)
        assert next(answers).HasField("configured")
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        channel.subscribe(states.put)
        while states.get(timeout=10) is not ready:
            pass
        server.process.terminate()
        assert refusal(answers)[1] == "DRAINING"
        requests.put(None)
        with pytest.raises(queue.Empty):
            states.get(timeout=1)
        assert server.process.wait(30) == 0
        assert states.get(timeout=10) is not ready


def test_sigterm_while_a_graph_is_loading_ends_it(tmp_path: Path):
    fifo = tmp_path / "train.txt"
    os.mkfifo(fifo)  # nobody writes to it, so the load lasts
    command = [sys.executable, "-m", "negserve_server.cli", "serve", "--log-level", "debug"]
    process = subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0", "--dataset", "world", "--dataset", f"x={tmp_path}"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        while "dataset world" not in process.stderr.readline():
            pass
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(20)
        assert process.stderr is not None
        process.stderr.close()


def test_one_stream_too_many_is_refused_and_a_place_comes_free():
    with (
        server_process("--max-streams", "1") as server,
        Client(server.target, patience=0.5) as client,
    ):
        factory = client.triples_factory("world")
        sampler = BasicNegativeSampler(factory)
        with pytest.raises(OverloadedError, match="the limit is 1") as caught:
            BasicNegativeSampler(factory)
        assert caught.value.metadata["limit"] == "1"
        sampler.close()
        BasicNegativeSampler(factory)


def test_a_silent_stream_is_ended_and_its_client_does_not_notice():
    triples = Place(load("world"), load("world")).positives(3)
    with server_process("--idle-timeout", "0.2") as server:
        with grpc.insecure_channel(server.target) as channel:
            requests: queue.SimpleQueue[pb.SampleRequest | None] = queue.SimpleQueue()
            answers = SamplerServiceStub(channel).Sample(iter(requests.get, None), timeout=60)
            requests.put(configuration())
            next(answers)
            code, reason, metadata, _ = refusal(answers)
            requests.put(None)
        assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "STREAM_IDLE")
        assert metadata["limit"] == "0.2"
        with Client(server.target) as client:
            sampler = BasicNegativeSampler(client.triples_factory("world"))
            first = sampler.sample(triples, position=0)[0].tolist()
            time.sleep(1.0)
            assert sampler.sample(triples, position=0)[0].tolist() == first


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run(["-m", "negserve_server.cli", *arguments], timeout=120)


def test_a_taken_port_is_an_error_with_a_remedy():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run("serve", "--listen", address)
    assert result.returncode == 1
    assert f"can't listen on {address}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_unix_socket_is_not_taken_away_but_a_dead_one_is_used_again(tmp_path: Path):
    listen = f"unix:{tmp_path / 'negserve.sock'}"
    with server_process(listen=(listen,)) as server:
        result = run("serve", "--listen", listen)
        assert result.returncode == 1
        assert f"can't listen on {listen}" in result.stderr
        with Client(listen) as client:
            assert client.list_datasets() == ["world"]
        server.process.kill()
        server.process.wait()
    assert (tmp_path / "negserve.sock").exists()
    with server_process(listen=(listen,)), Client(listen) as client:
        assert client.list_datasets() == ["world"]


def test_options_come_from_the_environment_too(tmp_path: Path):
    graph = tmp_path / "a graph.tsv"
    graph.write_text("a\tr\tb\n")
    env = {"NEGSERVE_SERVE_DATASET": f"world{os.pathsep}toy={graph}"}
    with server_process(env=env) as server, Client(server.target) as client:
        assert client.list_datasets() == ["world", "toy"]


def test_without_a_place_to_keep_kernels_the_server_says_so_and_works(tmp_path: Path):
    program = (
        "from numba.core import caching\n"
        "def refuse(*_): raise RuntimeError('no locator available')\n"
        "caching.FunctionCache.__init__ = refuse\n"
        "from negserve_server.graph import TriplesFactory\n"
        "print(TriplesFactory.world().contains([[0, 0, 0]], ('training',)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.strip() == "[False]"
    assert "set NUMBA_CACHE_DIR to a writable folder" in result.stderr


@pytest.mark.parametrize(
    ("dataset", "told"),
    [
        ("x", "give NAME=PATH"),
        ("x=", "give NAME=PATH"),
        ("x=/nowhere", "/nowhere: no such file or folder"),
        ("x=BAD", "line 2: 2 tab-separated fields; expected 3"),
    ],
)
def test_a_bad_dataset_is_an_error_before_serving(tmp_path: Path, dataset: str, told: str):
    bad = tmp_path / "bad.tsv"
    bad.write_text("a\tr\tb\na\tr\n")
    result = run("serve", "--listen", "127.0.0.1:0", "--dataset", dataset.replace("BAD", str(bad)))
    assert result.returncode != 0
    assert told in result.stderr
    assert "listening" not in result.stdout
    assert "Traceback" not in result.stderr


def test_inspect_prints_counts_and_fingerprint():
    result = run("inspect")
    assert result.returncode == 0
    graph = load("world")
    for value in (f"{graph.num_entities:,}", f"{graph.num_triples:,}", graph.fingerprint):
        assert value in result.stdout


@pytest.mark.parametrize("arguments", [(), ("serve",), ("inspect",)])
def test_help_explains_and_has_examples(arguments: tuple[str, ...]):
    result = run(*arguments, "--help")
    assert result.returncode == 0
    expected = {(): "inspect", ("serve",): "unix:/run/negserve.sock", ("inspect",): "PATH"}
    assert expected[arguments] in result.stdout
