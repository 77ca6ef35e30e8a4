"""Epochs through PyTorch's DataLoader."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed
from torch.utils.data import DataLoader

from negserve import Client, EpochBatch, EpochConfig, InvalidRequestError, SamplerConfig
from negserve._sync.transport import SyncTransport
from negserve.data import CompactTripleBatch, TripleBatch, TripleLoader, TripleStream
from tests.support.server_process import ServerProcess

SAMPLER = SamplerConfig(
    kind="bernoulli", num_negs_per_pos=5, filter_splits=("training",), log_q=True, seed=3
)
#: 14 batches of the 5,408 triples, the last one shorter.
BATCH_SIZE = 400
NUM_BATCHES = 14

pytestmark = [
    # The test process has threads of the shared client, which no forked worker uses.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # Three workers are three also on a machine with fewer cores.
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]


def stream_of(target: str, **options: Any) -> TripleStream:
    options = {"batch_size": BATCH_SIZE, "weights": True, **options}
    return TripleStream(target, "world", options.pop("sampler", SAMPLER), **options)


def loader_of(stream: TripleStream, num_workers: int, method: str, **options: Any) -> Any:
    if num_workers:
        options["multiprocessing_context"] = method
    return DataLoader(stream, batch_size=None, num_workers=num_workers, timeout=0, **options)


def expected(
    client: Client, *epochs: int, sampler: SamplerConfig = SAMPLER, **options: Any
) -> list[EpochBatch]:
    config = EpochConfig(**{"batch_size": BATCH_SIZE, "weights": True, **options})
    stream = client.triples_factory("world").epochs(sampler, config)
    batches = []
    for epoch in epochs:
        stream.load_state_dict({"epoch": epoch, "start": 0})
        batches += list(stream)
    return batches


def assert_equal(batches: Iterable[TripleBatch | CompactTripleBatch], wanted: list[EpochBatch]):
    batches = [batch.expand() for batch in batches]
    assert [(b.epoch, b.next_start) for b in batches] == [(b.epoch, b.next_start) for b in wanted]
    for batch, want in zip(batches, wanted, strict=True):
        for ours, theirs in (
            (batch.positives, want.positives),
            (batch.negatives, want.negative_triples()),
            (batch.mask, want.negatives.mask),
            (batch.weights, want.weights),
            (batch.log_q, want.negatives.log_q),
        ):
            if theirs is None:
                assert ours is None
                continue
            assert ours is not None
            assert ours.numpy().dtype == theirs.dtype
            np.testing.assert_array_equal(ours.numpy(), theirs)


def positives_of(batches: Iterable[TripleBatch]) -> np.ndarray:
    return np.concatenate([batch.positives.numpy() for batch in batches])


WORKERS = [(0, "fork"), (1, "fork"), (3, "fork"), (1, "spawn")]


@pytest.mark.parametrize(("num_workers", "method"), WORKERS)
def test_any_workers_give_the_streams_batches_in_order(
    server: ServerProcess, client: Client, num_workers: int, method: str
):
    batches = list(loader_of(stream_of(server.target), num_workers, method))
    wanted = expected(client, 0)
    assert len(batches) == NUM_BATCHES
    assert_equal(batches, wanted)
    positives = positives_of(batches)
    assert len(np.unique(positives, axis=0)) == len(positives) == 5408
    assert [batch.state for batch in batches[-2:]] == [
        {"epoch": 0, "start": 5200},
        {"epoch": 1, "start": 0},
    ]


@pytest.mark.parametrize(
    ("method", "persistent"), [("fork", False), ("fork", True), ("forkserver", True)]
)
def test_workers_over_two_epochs(
    server: ServerProcess, client: Client, method: str, persistent: bool
):
    stream = stream_of(server.target)
    loader = loader_of(stream, 2, method, persistent_workers=persistent)
    batches = []
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        batches += list(loader)
    assert_equal(batches, expected(client, 0, 1))


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_goes_on_by_itself_also_within_an_epoch(
    server: ServerProcess, client: Client, persistent: bool
):
    stream = stream_of(server.target, form="compact")
    loader = TripleLoader(stream, num_workers=2, persistent_workers=persistent)
    wanted = expected(client, 0, 1)
    batches = list(loader)
    assert stream.state_dict() == {"epoch": 1, "start": 0}
    for batch in loader:
        batches.append(batch)
        assert stream.state_dict() == batch.state
        if len(batches) == NUM_BATCHES + 5:
            break
    batches += list(loader)
    assert_equal(batches, wanted)
    assert stream.epoch == 2


def test_a_loader_without_workers_goes_on_by_itself(server: ServerProcess, client: Client):
    loader = TripleLoader(stream_of(server.target), device="cpu")
    assert_equal([*loader, *loader], expected(client, 0, 1))


def test_a_stream_without_a_loader_goes_on_by_itself(server: ServerProcess, client: Client):
    stream = stream_of(server.target)
    assert_equal([*stream, *stream], expected(client, 0, 1))
    assert stream.state_dict() == {"epoch": 2, "start": 0}


def test_workers_never_repeat_a_pass_silently(server: ServerProcess):
    stream = stream_of(server.target)
    loader = loader_of(stream, 1, "fork")
    list(loader)
    with pytest.raises(InvalidRequestError, match="call set_epoch"):
        list(loader)


def test_more_workers_than_batches(server: ServerProcess, client: Client):
    batches = list(loader_of(stream_of(server.target, batch_size=3000), 3, "fork"))
    assert_equal(batches, expected(client, 0, batch_size=3000))


@pytest.mark.parametrize("tail", ["short", "drop", "wrap"])
def test_two_ranks_share_an_epoch(server: ServerProcess, client: Client, tail: str):
    ranks = []
    for rank in (0, 1):
        stream = stream_of(server.target, rank=rank, world_size=2, tail=tail)
        ranks.append(list(loader_of(stream, 3, "fork")))
        assert_equal(ranks[-1], expected(client, 0, rank=rank, world_size=2, tail=tail))
    assert [b.state for b in ranks[0]] == [b.state for b in ranks[1]]
    assert ranks[0][-1].state == {"epoch": 1, "start": 0}
    both = positives_of([*ranks[0], *ranks[1]])
    assert len(np.unique(both, axis=0)) == (4800 if tail == "drop" else 5408)
    assert len(both) == {"short": 5408, "drop": 4800, "wrap": 5600}[tail]


def test_a_batchs_state_goes_on_with_other_workers(server: ServerProcess, client: Client):
    wanted = expected(client, 0)
    stream = stream_of(server.target)
    batches = []
    for batch in loader_of(stream, 3, "fork"):
        batches.append(batch)
        if len(batches) == 4:
            break
    again = stream_of(server.target)
    again.load_state_dict(batches[-1].state)
    for batch in loader_of(again, 2, "fork"):
        batches.append(batch)
        if len(batches) == 9:
            break
    last = stream_of(server.target)
    last.load_state_dict(batches[-1].state)
    assert_equal([*batches, *last], wanted)


def test_relations(server: ServerProcess, client: Client):
    relations = (3, 11)
    batches = list(
        loader_of(stream_of(server.target, relations=relations, batch_size=64), 2, "fork")
    )
    assert_equal(batches, expected(client, 0, relations=relations, batch_size=64))
    assert batches[-1].state == {"epoch": 1, "start": 0}


@pytest.mark.parametrize(
    "sampler",
    [
        SamplerConfig(num_negs_per_pos=4),
        SamplerConfig(num_negs_per_pos=300, seed=2),
        SamplerConfig(num_negs_per_pos=4, corruption_scheme=("head", "relation", "tail")),
        SamplerConfig(num_negs_per_pos=16, chunk_size=7),
        SamplerConfig(
            num_negs_per_pos=8, filter_splits=("training",), filter_mode="mask", distinct=True
        ),
    ],
)
def test_compact_and_whole_batches_are_equal(
    server: ServerProcess, client: Client, sampler: SamplerConfig
):
    compact = list(stream_of(server.target, sampler=sampler, form="compact"))
    assert all(isinstance(batch, CompactTripleBatch) for batch in compact)
    assert compact[0].positives.dtype == torch.int16
    wanted = expected(client, 0, sampler=sampler)
    assert_equal(compact, wanted)
    assert_equal(stream_of(server.target, sampler=sampler), wanted)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_columns_stay_contiguous_on_their_way(
    server: ServerProcess, client: Client, num_workers: int
):
    stream = stream_of(server.target, form="columns")
    loader = TripleLoader(stream, num_workers=num_workers, device="cpu")
    batches = list(loader)
    assert_equal(batches, expected(client, 0))
    for batch in batches:
        for slot, column in enumerate((batch.heads, batch.relations, batch.tails)):
            assert column.is_contiguous()
            assert torch.equal(column, batch.negatives[..., slot])


def test_tuples(server: ServerProcess, client: Client):
    wanted = expected(client, 0)
    for num_workers in (0, 2):
        loader = loader_of(stream_of(server.target, form="tuple"), num_workers, "fork")
        for (positives, negatives, mask, weights, log_q), want in zip(loader, wanted, strict=True):
            np.testing.assert_array_equal(positives, want.positives)
            np.testing.assert_array_equal(negatives, want.negative_triples())
            np.testing.assert_array_equal(mask, want.negatives.mask)
            np.testing.assert_array_equal(weights, want.weights)
            np.testing.assert_array_equal(log_q, want.negatives.log_q)
    bare = SamplerConfig(num_negs_per_pos=2)
    (first, *_) = stream_of(server.target, sampler=bare, form="tuple", weights=False)
    assert len(first) == 2
    with pytest.raises(InvalidRequestError, match="tuple"):
        TripleLoader(stream_of(server.target, form="tuple"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_pinned_and_on_the_device(server: ServerProcess, client: Client, num_workers: int):
    options: dict[str, Any] = {"multiprocessing_context": "spawn"} if num_workers else {}
    stream = stream_of(server.target, form="compact")
    options["num_workers"] = num_workers
    batches = list(DataLoader(stream, batch_size=None, pin_memory=True, **options))
    assert all(batch.replaced.is_pinned() and batch.positives.is_pinned() for batch in batches)
    stream.set_epoch(0)
    loader = TripleLoader(stream, device="cuda", pin_memory=True, **options)
    batches = list(loader)
    assert all(batch.negatives.is_cuda for batch in batches)
    assert_equal([batch.to("cpu") for batch in batches], expected(client, 0))


def test_all_tensors_of_a_batch_move(server: ServerProcess):
    for form in ("batch", "compact"):
        batch = next(iter(stream_of(server.target, form=form)))
        moved = batch.to("meta", non_blocking=True)
        devices = [
            value.device.type for value in vars(moved).values() if isinstance(value, torch.Tensor)
        ]
        assert devices == ["meta"] * (5 if form == "batch" else 6)
        assert moved.state == batch.state
        assert moved.expand().negatives.shape == (BATCH_SIZE, 5, 3)


def test_the_state_survives_pickling(server: ServerProcess, client: Client):
    stream = stream_of(server.target)
    batches = []
    for batch in stream:
        batches.append(batch)
        if len(batches) == 3:
            break
    copy = pickle.loads(pickle.dumps(stream))
    assert copy.state_dict() == stream.state_dict() == {"epoch": 0, "start": 1200}
    copy.set_epoch(7)
    assert stream.epoch == 0
    assert_equal([*batches, *loader_of(stream, 1, "forkserver")], expected(client, 0))
    assert_equal(loader_of(copy, 2, "fork"), expected(client, 7))


def test_sources(server: ServerProcess, client: Client):
    wanted = expected(client, 0)
    factory = client.triples_factory("world")
    for stream in (
        stream_of([server.target, server.target]),
        TripleStream(client, "world", SAMPLER, batch_size=BATCH_SIZE, weights=True),
        TripleStream(factory, sampler=SAMPLER, batch_size=BATCH_SIZE, weights=True),
    ):
        assert_equal(stream, wanted)
    stream = TripleStream(factory, sampler=SAMPLER, batch_size=BATCH_SIZE, weights=True)
    assert_equal(loader_of(stream, 1, "forkserver"), wanted)


def test_nothing_is_connected_before_iterating():
    stream = TripleStream("127.0.0.1:1", "world", SAMPLER)
    assert pickle.loads(pickle.dumps(stream)).config == stream.config
    assert stream.state_dict() == {"epoch": 0, "start": 0}


def test_rank_and_world_size_of_torch_distributed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    stream = TripleStream("127.0.0.1:1", "world")
    assert (stream.config.rank, stream.config.world_size) == (0, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidRequestError, match="init_process_group"):
        TripleStream("127.0.0.1:1", "world")
    store = distributed.FileStore(str(tmp_path / "store"), 1)
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        # One process can't be several: what the default group says is what counts.
        monkeypatch.setattr(distributed, "get_rank", lambda: 1)
        monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
        stream = TripleStream("127.0.0.1:1", "world")
        assert (stream.config.rank, stream.config.world_size) == (1, 2)
        stream = TripleStream("127.0.0.1:1", "world", rank=0, world_size=3)
        assert (stream.config.rank, stream.config.world_size) == (0, 3)
    finally:
        distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 1}, "give both"),
        ({"world_size": 2}, "give both"),
        ({"form": "list"}, "form='list'"),
        ({"prefetch": 0}, "prefetch=0"),
        ({"dataset": None}, "dataset is missing"),
    ],
)
def test_refusals(options: dict[str, Any], message: str):
    with pytest.raises(InvalidRequestError, match=message):
        TripleStream("127.0.0.1:1", **{"dataset": "world", **options})


@pytest.mark.parametrize(
    "state", [{}, {"epoch": 0}, {"epoch": -1, "start": 0}, {"epoch": "x", "start": 0}]
)
def test_no_state(state: dict[str, Any]):
    with pytest.raises(InvalidRequestError):
        TripleStream("127.0.0.1:1", "world").load_state_dict(state)


def requests_of(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the list that later requests for epochs are added to."""
    requests, start = [], SyncTransport._start

    def starting(transport: SyncTransport, channel: Any, method: str, request: Any) -> Any:
        requests.append(request)
        return start(transport, channel, method, request)

    monkeypatch.setattr(SyncTransport, "_start", starting)
    return requests


def test_passes_go_on_with_one_stream_of_the_server(
    server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch
):
    wanted = expected(client, 0, 1, 2, 5)
    requests = requests_of(monkeypatch)
    stream = stream_of(server.target)
    batches = [*stream, *stream]
    stream.set_epoch(2)
    batches += stream
    assert len(requests) == 1
    stream.set_epoch(5)
    batches += stream
    assert_equal(batches, wanted)
    assert [request.epoch for request in requests] == [0, 5]


def test_a_workers_first_pass_reads_no_further(
    server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch
):
    """Most workers end with it."""
    wanted = expected(client, 0, 1, 2)
    requests = requests_of(monkeypatch)
    monkeypatch.setattr("negserve.data.epoch_source.get_worker_info", object)
    stream = stream_of(server.target)
    assert_equal([*stream, *stream, *stream], wanted)
    assert [request.num_epochs for request in requests] == [1, 2**32 - 1]
