"""torchdata's stateful loader: a resume gives the remaining batches, or is refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any
from weakref import WeakSet

import pytest
import torch
from torch.utils.data import IterableDataset
from torchdata.stateful_dataloader import StatefulDataLoader

from negserve import Client, InvalidRequestError
from negserve.data import TripleLoader, TripleStream
from tests.support.loader_errors import raised_by_workers
from tests.support.server_process import ServerProcess
from tests.support.shares import BATCH_SIZE, SAMPLER, assert_same, pairs, share

NUM_BATCHES = 22

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]


def stream_of(server: ServerProcess, **options: Any) -> TripleStream:
    options = {"batch_size": BATCH_SIZE, "form": "tuple", **options}
    return TripleStream(server.target, "world", SAMPLER, **options)


def loader_of(stream: IterableDataset[Any], num_workers: int, **options: Any) -> Any:
    if num_workers:
        options = {"multiprocessing_context": "fork", **options}
    loader = StatefulDataLoader(stream, batch_size=None, num_workers=num_workers, **options)
    _loaders.add(loader)
    return loader


_loaders: WeakSet[Any] = WeakSet()


@pytest.fixture(autouse=True)
def end_workers() -> Iterator[None]:
    """End what a loader has started: the garbage collector waits five seconds for each worker."""
    yield
    for loader in _loaders:
        if hasattr(loader._iterator, "_shutdown_workers"):
            loader._iterator._shutdown_workers()


WORKERS = [
    (0, {}),
    (1, {}),
    (2, {}),
    (3, {"prefetch_factor": 1}),
    (2, {"persistent_workers": True}),
    (2, {"snapshot_every_n_steps": 5}),
    (2, {"snapshot_every_n_steps": None}),
    (1, {"multiprocessing_context": "forkserver"}),
]


@pytest.mark.parametrize(("num_workers", "options"), WORKERS)
def test_a_resume_within_an_epoch(
    server: ServerProcess, client: Client, num_workers: int, options: dict[str, Any]
):
    wanted = share(client, 1)
    stops = (0, 1, 4, 7, 21)
    taken, state = pairs([]), None
    # Each time as after a restart: all that is kept is the state.
    for begin, end in pairwise(stops):
        stream = stream_of(server)
        stream.set_epoch(1)
        loader = loader_of(stream, num_workers, **options)
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        taken += pairs(islice(batches, end - begin))
        state = loader.state_dict()
        del batches
    stream = stream_of(server)
    loader = loader_of(stream, num_workers, **options)
    loader.load_state_dict(state)
    assert_same([*taken, *pairs(loader)], wanted)
    stream.set_epoch(2)
    assert_same(pairs(islice(loader, 3)), share(client, 2)[:3])


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resume_on_one_of_two_ranks_that_drop(
    server: ServerProcess, client: Client, num_workers: int
):
    options = {"rank": 1, "world_size": 2, "tail": "drop"}
    loader = loader_of(stream_of(server, **options), num_workers)
    batches = iter(loader)
    taken, state = pairs(islice(batches, 3)), loader.state_dict()
    del batches
    again = loader_of(stream_of(server, **options), num_workers)
    again.load_state_dict(state)
    assert_same([*taken, *pairs(again)], share(client, 0, **options))


@pytest.mark.parametrize("persistent", [False, True])
def test_several_epochs_of_workers(server: ServerProcess, client: Client, persistent: bool):
    stream = stream_of(server)
    loader = loader_of(stream, 2, persistent_workers=persistent)
    for epoch in (0, 1):
        stream.set_epoch(epoch)
        assert_same(pairs(loader), share(client, epoch))
    with raised_by_workers(InvalidRequestError, match="call set_epoch"):
        list(loader)


def test_several_epochs_without_workers(server: ServerProcess, client: Client):
    loader = loader_of(stream_of(server), 0)
    assert_same([*pairs(loader), *pairs(loader)], [*share(client, 0), *share(client, 1)])


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_a_resume_when_an_epoch_is_over(
    server: ServerProcess, client: Client, num_workers: int, persistent: bool
):
    options = {"persistent_workers": True} if persistent and num_workers else {}
    loader = loader_of(stream_of(server), num_workers, **options)
    assert len(list(loader)) == NUM_BATCHES
    state = loader.state_dict()
    stream = stream_of(server)
    again = loader_of(stream, num_workers, **options)
    again.load_state_dict(state)
    stream.set_epoch(1)
    assert_same(pairs(again), share(client, 1))
    stream.set_epoch(2)
    assert_same(pairs(again), share(client, 2))


@pytest.mark.parametrize("taken", [3, NUM_BATCHES])
def test_a_pass_after_a_resume_is_never_of_the_first_epoch(server: ServerProcess, taken: int):
    loader = loader_of(stream_of(server), 2)
    batches = iter(loader)
    assert len(list(islice(batches, taken + 1))) == min(taken + 1, NUM_BATCHES)
    state = loader.state_dict()
    del batches
    again = loader_of(stream_of(server), 2)
    again.load_state_dict(state)
    with raised_by_workers(InvalidRequestError, match="call set_epoch"):
        for _ in range(2):
            list(again)


def test_a_resume_under_another_epoch_is_refused(server: ServerProcess):
    stream = stream_of(server)
    stream.set_epoch(3)
    loader = loader_of(stream, 2)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    del batches
    stream = stream_of(server)
    stream.set_epoch(1)
    again = loader_of(stream, 2)
    again.load_state_dict(state)
    with raised_by_workers(InvalidRequestError, match=r"call set_epoch\(3\)"):
        list(again)


@pytest.mark.parametrize(("num_workers", "batch_size"), [(3, BATCH_SIZE), (2, 100)])
def test_a_resume_with_other_workers_is_refused(
    server: ServerProcess, num_workers: int, batch_size: int
):
    loader = loader_of(stream_of(server), 2)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    del batches
    again = loader_of(stream_of(server, batch_size=batch_size), num_workers)
    again.load_state_dict(state)
    with raised_by_workers(InvalidRequestError, match="the same number of workers"):
        list(again)


def test_a_workers_state_is_refused_by_the_stream(server: ServerProcess):
    loader = loader_of(stream_of(server), 1)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()["_snapshot"]["_worker_snapshots"]["worker_0"]["dataset_state"]
    assert state["start"] == BATCH_SIZE
    with pytest.raises(InvalidRequestError, match="the state of a loader's worker"):
        stream_of(server).load_state_dict(state)


def test_a_stream_does_not_know_the_progress_of_workers(server: ServerProcess):
    stream = stream_of(server)
    batches = iter(loader_of(stream, 1))
    next(batches)
    with pytest.raises(InvalidRequestError, match="the training process can't see their progress"):
        stream.state_dict()


def test_set_epoch_behind_the_back_of_workers_is_refused(server: ServerProcess):
    stream = stream_of(server, batch_size=16)
    batches = iter(loader_of(stream, 2))
    next(batches)
    stream.set_epoch(1)
    with raised_by_workers(InvalidRequestError, match="after workers had begun"):
        list(batches)


def test_out_of_order_is_refused(server: ServerProcess):
    loader = loader_of(stream_of(server), 2, in_order=False)
    with raised_by_workers(InvalidRequestError, match="give in_order=True"):
        list(loader)


class Outer(IterableDataset[Any]):
    """A user's own dataset, without state methods."""

    def __init__(self, stream: TripleStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[tuple[torch.Tensor, ...]]:
        yield from self.stream


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resume_of_an_outer_dataset(server: ServerProcess, client: Client, num_workers: int):
    """The loader counts the batches, and drops as many."""
    loader = loader_of(Outer(stream_of(server)), num_workers)
    batches = iter(loader)
    taken, state = pairs(islice(batches, 5)), loader.state_dict()
    del batches
    again = loader_of(Outer(stream_of(server)), num_workers)
    again.load_state_dict(state)
    assert_same([*taken, *pairs(again)], share(client, 0))


def test_triple_loader_needs_no_set_epoch(server: ServerProcess, client: Client):
    loader = TripleLoader(stream_of(server, form="compact"), num_workers=2)
    taken = pairs(islice(loader, 5))
    state = loader.state_dict()
    again = TripleLoader(stream_of(server, form="compact", batch_size=64), num_workers=1)
    again.load_state_dict(state)
    batches = pairs(again)
    positives = torch.cat([batch[0] for batch in (*taken, *batches)])
    assert torch.equal(positives, torch.cat([batch[0] for batch in share(client, 0)]))
