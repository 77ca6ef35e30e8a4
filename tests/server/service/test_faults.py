"""What a caller receives when the server itself fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import pytest

from negserve import Client, SamplerConfig, ServerFaultError
from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.admission_control import AdmissionControl
from negserve_server.config.limits import Limits
from negserve_server.graph import TriplesFactory
from negserve_server.publishing.datasets import Datasets
from negserve_server.service import SamplerServicer, make_handler

CALLS: dict[str, Callable[[Client], object]] = {
    "unary": lambda client: client.triples_factory("broken"),
    "stream": lambda client: client.triples_factory("x").entity_to_id,
    "admitted stream": lambda client: list(client.triples_factory("x").epochs(SamplerConfig())),
    "stream of requests": lambda client: client.triples_factory("x").open_sampler(),
}


class Broken:
    """Answers a client's first requests, and fails at everything else."""

    def get_dataset(self, request: pb.GetDatasetRequest) -> pb.GetDatasetResponse:
        if request.dataset == "broken":
            raise ZeroDivisionError("an error of ours")
        datasets = Datasets({request.dataset: TriplesFactory.world()})
        honest: Any = SamplerServicer(datasets, None, Limits(), None, (0, 1))  # type: ignore[arg-type]
        return honest.get_dataset(request)

    def get_server(self, _: object) -> pb.GetServerResponse:
        raise ZeroDivisionError("an error of ours")

    async def get_vocabulary(self, _: object) -> AsyncIterator[pb.GetVocabularyResponse]:
        raise ZeroDivisionError("an error of ours")
        yield

    list_datasets = get_relation_statistics = get_snapshot = get_vocabulary
    sample = contains = known = sample_epoch = publish = get_vocabulary


@pytest.fixture
def broken() -> Iterator[str]:
    started, stop = threading.Event(), asyncio.Event()
    target = []
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        server = grpc.aio.server()
        handler = make_handler(Broken(), AdmissionControl(Limits()))  # type: ignore[arg-type]
        server.add_generic_rpc_handlers((handler,))
        target.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
        await server.start()
        started.set()
        await stop.wait()
        await server.stop(None)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(20)
    yield target[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


@pytest.mark.parametrize("name", CALLS)
def test_a_fault_is_the_servers_own_and_told_at_once(
    broken: str, name: str, caplog: pytest.LogCaptureFixture
):
    with (
        Client(broken, patience=60) as client,
        pytest.raises(ServerFaultError, match=r"unforeseen ZeroDivisionError.*log") as caught,
    ):
        CALLS[name](client)
    assert caught.value.reason == "INTERNAL_FAULT"
    assert caught.value.metadata == {"value": "ZeroDivisionError"}
    assert len([record for record in caplog.records if record.exc_info]) == 1
