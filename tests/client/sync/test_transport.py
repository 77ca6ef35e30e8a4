"""Lost, slow and closed servers, forks and threads."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import grpc
import numpy as np
import pytest

from negserve import (
    Client,
    ClosedError,
    FingerprintMismatchError,
    InvalidRequestError,
    LimitExceededError,
    NegserveError,
    RequestError,
    SamplerConfig,
    ServiceError,
    StalledError,
    UnavailableError,
    UnknownDatasetError,
)
from negserve._sync.transport import StallTimer
from negserve.v1 import sampler_pb2 as pb
from negserve.v1.sampler_pb2_grpc import (
    SamplerServiceServicer,
    add_SamplerServiceServicer_to_server,
)
from tests.support.answers import described, filled_in
from tests.support.graphs import load
from tests.support.server_process import ServerProcess, server_process

POSITIVES = load("world").mapped_triples[:100]
OPTIONS = {"kind": "bernoulli", "num_negs_per_pos": 5, "filter_splits": ("training",)}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_nothing_happens_before_the_first_call():
    client = Client(f"127.0.0.1:{free_port()}")
    assert client.target in repr(client)
    client.close()


def test_no_server_is_unavailable_within_the_timeout():
    begin = time.monotonic()
    target = f"127.0.0.1:{free_port()}"
    with Client(target, timeout=3) as client, pytest.raises(UnavailableError, match=target):
        client.list_datasets()
    assert time.monotonic() - begin < 10


def test_a_lost_server_is_waited_for_then_reported():
    with server_process() as server:
        client = Client(server.target, timeout=2)
        sampler = client.triples_factory("world").open_sampler(**OPTIONS)
        sampler.sample(POSITIVES, 0)
    begin = time.monotonic()
    with pytest.raises(UnavailableError):
        sampler.sample(POSITIVES, 0)
    assert 0.5 < time.monotonic() - begin < 15
    client.close()


def test_a_restarted_server_is_found_again_with_equal_bytes():
    listen = f"127.0.0.1:{free_port()}"
    with server_process(listen=(listen,)) as server:
        client = Client(listen, timeout=60)
        sampler = client.triples_factory("world").open_sampler(**OPTIONS)
        before = sampler.sample(POSITIVES, 40)
        server.process.kill()
        server.process.wait()
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(sampler.sample, POSITIVES, 40)
            with server_process("--threads", "1", listen=(listen,)):
                after = waiting.result(60)
    np.testing.assert_array_equal(before.replaced, after.replaced)
    np.testing.assert_array_equal(before.head_counts, after.head_counts)
    client.close()


class _Silent(SamplerServiceServicer):
    """Answers the first request for a dataset, and then nothing."""

    def __init__(self, released: threading.Event) -> None:
        self._released = released

    def GetDataset(self, request, context):  # type: ignore[no-untyped-def]
        return described(request.dataset, 9)

    def Sample(self, request_iterator, context):  # type: ignore[no-untyped-def]
        next(request_iterator)
        configured = pb.SampleConfigured(
            fingerprint=described("x", 9).dataset.fingerprint, sampler=filled_in(SamplerConfig())
        )
        yield pb.SampleResponse(configured=configured)
        self._released.wait(60)

    def ListDatasets(self, request, context):  # type: ignore[no-untyped-def]
        self._released.wait(60)
        context.abort(grpc.StatusCode.UNAVAILABLE, "released")


@pytest.fixture
def silent() -> Iterator[str]:
    released = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    add_SamplerServiceServicer_to_server(_Silent(released), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    released.set()
    server.stop(None).wait()


def test_a_server_without_an_answer_is_not_waited_for(silent: str):
    with Client(silent, timeout=0.5) as client:
        begin = time.monotonic()
        with pytest.raises(StalledError):
            client.list_datasets()
        sampler = client.triples_factory("x").open_sampler()
        with pytest.raises(StalledError, match=r"no message for .* seconds.*; given up after"):
            sampler.sample(np.array([[1, 1, 1]]), 0)
        assert time.monotonic() - begin < 10


def test_the_error_for_an_unknown_method_names_the_remedy(silent: str):
    with Client(silent, timeout=5, patience=0.3) as client:
        factory = client.triples_factory("x")
        with pytest.raises(UnavailableError, match=r"not implemented.*\(UNIMPLEMENTED\); is that"):
            _ = factory.relation_statistics


def test_the_stall_timer_ends_only_late_calls():
    class Call:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    timer, late, early = StallTimer(), Call(), Call()
    with timer.limit(early, 30), pytest.raises(TimeoutError), timer.limit(late, 0.05):
        while not late.cancelled:
            time.sleep(0.01)
        raise RuntimeError("cancelled")
    assert not early.cancelled


def test_a_closed_client_says_so(server: ServerProcess):
    client = Client(server.target)
    factory = client.triples_factory("world")
    sampler = factory.open_sampler(**OPTIONS)
    client.close()
    for call in (
        client.list_datasets,
        lambda: sampler.sample(POSITIVES, 0),
        lambda: factory.contains(POSITIVES, ("training",)),
        lambda: factory.known(POSITIVES[:, :2], "tail", ("training",)),
    ):
        with pytest.raises(ClosedError, match="was closed"):
            call()


def test_errors_are_typed_by_who_must_act(client: Client):
    with pytest.raises(UnknownDatasetError, match="'moon'") as unknown:
        client.triples_factory("moon")
    assert unknown.value.reason == "UNKNOWN_DATASET"
    assert unknown.value.metadata["value"] == "moon"
    assert isinstance(unknown.value, RequestError | LookupError)
    factory = client.triples_factory("world")
    with pytest.raises(LimitExceededError, match="65536"):
        factory.open_sampler(num_negs_per_pos=2**17)
    with pytest.raises(InvalidRequestError, match="kind='word2vec'"):
        factory.open_sampler(kind="word2vec")
    factory._dataset = replace(factory._dataset, fingerprint="00" * 32)
    for call in (
        factory.open_sampler,
        lambda: factory.contains(POSITIVES, ("training",)),
        lambda: factory.known(POSITIVES[:, :2], "tail", ("training",)),
        lambda: factory.relation_statistics,
        lambda: factory.entity_to_id,
    ):
        with pytest.raises(FingerprintMismatchError):
            call()
    with pytest.raises(InvalidRequestError, match="timeout"):
        Client("x", timeout=0)
    assert issubclass(StalledError, ServiceError | TimeoutError)
    assert issubclass(ServiceError, NegserveError)


def test_a_refused_request_leaves_the_sampler_usable(client: Client):
    sampler = client.triples_factory("world").open_sampler(**OPTIONS)
    before = sampler.sample(POSITIVES, 0)
    with pytest.raises(InvalidRequestError):
        sampler.sample(POSITIVES + 10**6, 0)
    np.testing.assert_array_equal(before.replaced, sampler.sample(POSITIVES, 0).replaced)


def test_threads_share_one_sampler(client: Client):
    sampler = client.triples_factory("world").open_sampler(**OPTIONS)
    expected = [sampler.sample(POSITIVES, position).replaced for position in range(40)]
    with ThreadPoolExecutor(8) as threads:
        drawn = list(threads.map(lambda p: sampler.sample(POSITIVES, p).replaced, range(40)))
    np.testing.assert_array_equal(drawn, expected)


def test_batches_beyond_one_message_are_split(client: Client):
    factory = client.triples_factory("world")
    sampler = factory.open_sampler(num_negs_per_pos=60_000)
    positives = POSITIVES[:30]
    whole = sampler.sample(positives, 5)
    assert whole.replaced.shape == (30, 60_000)
    parts = [sampler.sample(positives[i : i + 1], 5 + i).replaced for i in range(30)]
    np.testing.assert_array_equal(whole.replaced, np.concatenate(parts))
    many = np.tile(POSITIVES, (3000, 1))
    assert factory.contains(many, ("training",)).all()


def _in_child(client: Client, queue: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    sampler = client.triples_factory("world").open_sampler(**OPTIONS)
    queue.put(sampler.sample(POSITIVES, 7).replaced.tolist())


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["forkserver", "fork"])
def test_processes_have_connections_of_their_own(server: ServerProcess, method: str):
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    client = Client(server.target)  # not used yet: grpc must not run before a fork
    child = context.Process(target=_in_child, args=(client, queue))
    child.start()
    drawn = queue.get(timeout=60)
    child.join(60)
    assert child.exitcode == 0
    with pickle.loads(pickle.dumps(client)) as copy:
        sampler = copy.triples_factory("world").open_sampler(**OPTIONS)
        assert sampler.sample(POSITIVES, 7).replaced.tolist() == drawn
    client.close()
