"""A call is one trace through client and server, whose spans reach a collector by OTLP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.rules.test_missing_extras import RUN, tried
from tests.server.test_app import run as run_command
from tests.support.preloaded import run
from tests.support.repositories import wait_for
from tests.support.server_process import ServerProcess, server_process

pytest.importorskip("opentelemetry.sdk", reason="needs the extra otel")

_CALLS = """
import asyncio, json, sys
import numpy as np
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import negserve
from negserve import SamplerConfig, EpochConfig, NegserveError, aio

target, what, *options = sys.argv[1:]
if "instrumented" in options:
    from opentelemetry.instrumentation.grpc import GrpcAioInstrumentorClient, GrpcInstrumentorClient
    GrpcInstrumentorClient().instrument()
    GrpcAioInstrumentorClient().instrument()
exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
positives = np.array([[0, 0, 1], [1, 0, 2]])

def block():
    with negserve.Client(target) as client:
        factory = client.triples_factory("world")
        sampler = factory.open_sampler(num_negs_per_pos=2)
        sampler.sample(positives, 0)
        sampler.close()
        assert factory.relation_statistics
        epochs = factory.epochs(SamplerConfig(seed=1), EpochConfig(batch_size=4000))
        next(iter(epochs))
        try:
            client.triples_factory("none")
        except NegserveError:
            pass

async def suspend():
    async with aio.Client(target) as client:
        factory = await client.triples_factory("world")
        sampler = await factory.open_sampler(num_negs_per_pos=2)
        await sampler.sample(positives, 0)
        await sampler.close()
        assert await factory.relation_statistics()
        epochs = factory.epochs(SamplerConfig(seed=1), EpochConfig(batch_size=4000))
        await anext(aiter(epochs))
        try:
            await client.triples_factory("none")
        except NegserveError:
            pass

with trace.get_tracer("training").start_as_current_span("training"):
    block() if what == "block" else asyncio.run(suspend())
print(json.dumps([
    {
        "name": span.name,
        "trace": trace.format_trace_id(span.context.trace_id),
        "id": trace.format_span_id(span.context.span_id),
        "kind": span.kind.name,
        "code": span.attributes.get("rpc.grpc.status_code"),
        "is_error": span.status.status_code is trace.StatusCode.ERROR,
    }
    for span in exporter.get_finished_spans()
]))
"""


class Collector:
    """A collector of OTLP over HTTP.

    :ivar endpoint: its address
    :ivar spans: received so far
    :ivar services: names of the services that sent them
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.endpoint = f"http://127.0.0.1:{server.server_port}"
        self.spans: list[Any] = []
        self.services: set[str] = set()

    def take(self, body: bytes) -> None:
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            self.services |= {
                each.value.string_value
                for each in resource.resource.attributes
                if each.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans

    def children_of(self, span: dict[str, Any]) -> list[Any]:
        """Give the spans below a client's."""
        return [
            each
            for each in self.spans
            if each.trace_id.hex() == span["trace"] and each.parent_span_id.hex() == span["id"]
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            collector.take(body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def traced_server(collector: Collector, *options: str, **variables: str) -> Iterator[ServerProcess]:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        **variables,
    }
    log = Path(options[-1])
    with server_process("--tracing", *options[:-1], env=env, log=log) as server:
        yield server


@pytest.mark.parametrize("instrumented", [(), ("instrumented",)], ids=("plain", "instrumented"))
@pytest.mark.parametrize("what", ["block", "suspend"])
def test_each_call_is_one_trace_through_client_and_server(
    tmp_path: Path, what: str, instrumented: tuple[str, ...]
):
    log = tmp_path / "log"
    options = ("--access-log", "--log-format", "json", str(log))
    with collecting() as collector, traced_server(collector, *options) as server:
        result = run(["-c", _CALLS, server.target, what, *instrumented], timeout=120)
        assert result.returncode == 0, result.stderr
        *calls, training = json.loads(result.stdout)
        assert training["name"] == "training"
        names = [each["name"].removeprefix("negserve.v1.SamplerService/") for each in calls]
        assert {"GetDataset", "Sample", "GetRelationStatistics", "SampleEpoch"} <= set(names)
        wait_for(lambda: all(collector.children_of(call) for call in calls))
        for call in calls:
            assert call["kind"] == "CLIENT"
            assert call["trace"] == training["trace"]
            (child,) = collector.children_of(call)
            assert child.name == f"/{call['name']}"
            attributes = {each.key: each.value for each in child.attributes}
            if call["code"] != 1:  # CANCELLED, which a client may do to what the server completes
                assert attributes["rpc.grpc.status_code"].int_value == call["code"]
        assert {call["code"] for call in calls if call["is_error"]} == {5}  # NOT_FOUND
        assert collector.services == {"negserve-server"}
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        ended = [line for line in lines if line.get("event") == "call_ended"]
        assert {line["trace"] for line in ended} == {training["trace"]}


def test_the_last_spans_are_sent_and_the_environment_names_the_service(tmp_path: Path):
    with collecting() as collector:
        variables = {
            "OTEL_BSP_SCHEDULE_DELAY": "3600000",
            "OTEL_RESOURCE_ATTRIBUTES": "service.name=draws",
        }
        options = ("--workers", "2", str(tmp_path / "log"))
        with traced_server(collector, *options, **variables) as server:
            result = run(["-c", _CALLS, server.target, "block"], timeout=120)
            assert result.returncode == 0, result.stderr
            assert collector.spans == []
            assert server.terminate() == 0
        *calls, _ = json.loads(result.stdout)
        assert all(collector.children_of(call) for call in calls)
        assert collector.services == {"draws"}


def test_health_checks_are_no_spans(tmp_path: Path):
    with collecting() as collector:
        with traced_server(collector, str(tmp_path / "log")) as server:
            for _ in range(2):
                checked = run(["-m", "negserve_server.health_check", server.target], timeout=60)
                assert checked.returncode == 0, checked.stderr
            assert server.terminate() == 0
        assert collector.spans == []


def test_an_end_does_not_wait_for_a_collector_that_is_gone(tmp_path: Path):
    with collecting() as collector:
        pass
    with traced_server(collector, str(tmp_path / "log")) as server:
        result = run(["-c", _CALLS, server.target, "block"], timeout=120)
        assert result.returncode == 0, result.stderr
        assert server.terminate() == 0  # within 30 seconds


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "asks for zipkin; give one that is installed (console",
        ),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon"}, "asks for otlp by carrier pigeon"),
    ],
)
def test_an_exporter_that_is_not_there_is_refused_at_the_start(
    variables: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    result = run_command("serve", "--tracing", "--listen", "127.0.0.1:0")
    assert result.returncode == 1
    assert told in result.stderr.replace("\n", " ")


def test_without_the_extra_the_option_is_refused_with_what_to_install():
    arguments = ("serve", "--tracing", "--listen", "127.0.0.1:0")
    result = tried(RUN.format("negserve_server.cli"), {"opentelemetry"}, *arguments)
    assert result.returncode == 1
    assert "--tracing needs opentelemetry, which is not installed" in result.stderr
    assert "pip install 'negserve[otel]'" in result.stderr
