"""torch's own loader and iterators around it: nothing is lost or repeated silently."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from itertools import islice
from typing import Any

import pytest
from torch.utils.data import ChainDataset, DataLoader, IterableDataset
from torch.utils.data.datapipes.iter import IterableWrapper

from negserve import Client, InvalidRequestError
from negserve.data import TripleLoader, TripleStream
from tests.support.loader_errors import raised_by_workers
from tests.support.server_process import ServerProcess
from tests.support.shares import BATCH_SIZE, SAMPLER, assert_same, pairs, share

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning"),
]
PLACES = [{"epoch": 0, "start": 0}, {"epoch": 1, "start": 5 * BATCH_SIZE}]


def stream_of(server: ServerProcess, **options: Any) -> TripleStream:
    options = {"batch_size": BATCH_SIZE, **options}
    return TripleStream(server.target, "world", SAMPLER, **options)


def loader_of(dataset: IterableDataset[Any], num_workers: int = 0, **options: Any) -> Any:
    if num_workers:
        options["multiprocessing_context"] = "fork"
    return DataLoader(dataset, batch_size=None, num_workers=num_workers, **options)


def test_a_slice_of_batches_can_be_resumed(server: ServerProcess, client: Client):
    stream = stream_of(server)
    taken = pairs(islice(stream, 5))
    assert stream.state_dict() == {"epoch": 0, "start": 5 * BATCH_SIZE}
    loader = loader_of(stream)
    taken += pairs(islice(loader, 3))
    assert_same([*taken, *pairs(loader)], share(client, 0))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_two_passes_at_once_are_refused(server: ServerProcess, num_workers: int):
    options = {"multiprocessing_context": "fork"} if num_workers else {}
    loader = TripleLoader(stream_of(server), num_workers=num_workers, **options)
    # Whoever notices it first says so: the loader, or a worker.
    with raised_by_workers(InvalidRequestError, match=r"once at a time|moved the stream to"):
        list(zip(loader, loader, strict=True))


def test_two_passes_of_a_stream_at_once_are_refused(server: ServerProcess):
    stream = stream_of(server)
    with pytest.raises(InvalidRequestError, match="iterate over it once at a time"):
        list(zip(stream, stream, strict=True))


def test_two_passes_of_workers_at_once_are_refused(server: ServerProcess):
    loader = loader_of(stream_of(server), 1)
    with raised_by_workers(InvalidRequestError, match="was already begun"):
        list(zip(loader, loader, strict=True))


@pytest.mark.parametrize("call", ["set_epoch", "load_state_dict"])
def test_a_pass_ends_when_its_stream_is_moved(server: ServerProcess, call: str):
    stream = stream_of(server)
    batches = iter(stream)
    next(batches)
    getattr(stream, call)(2 if call == "set_epoch" else PLACES[1])
    with pytest.raises(InvalidRequestError, match="moved the stream to"):
        next(batches)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_chain_of_streams(server: ServerProcess, client: Client, num_workers: int):
    options: list[dict[str, Any]] = [
        {"relations": (relation,), "batch_size": 32} for relation in (3, 8)
    ]
    chain = ChainDataset([stream_of(server, **each) for each in options])
    wanted = [batch for each in options for batch in share(client, 0, **each)]
    assert len(wanted) == 10
    assert_same(pairs(loader_of(chain, num_workers)), wanted)


class Outer(IterableDataset[Any]):
    """A user's own dataset."""

    def __init__(self, stream: TripleStream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        yield from self.stream


@pytest.mark.parametrize("num_workers", [0, 3])
def test_an_outer_dataset(server: ServerProcess, client: Client, num_workers: int):
    assert_same(pairs(loader_of(Outer(stream_of(server)), num_workers)), share(client, 0))


@pytest.mark.filterwarnings("ignore:The input iterable can not be deepcopied:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_pipe_reads_the_stream_and_no_copy(
    server: ServerProcess, client: Client, num_workers: int
):
    stream = stream_of(server)
    loader = loader_of(IterableWrapper(stream), num_workers)
    assert_same(pairs(loader), share(client, 0))
    if num_workers:
        stream.set_epoch(1)
    assert_same(pairs(loader), share(client, 1))


@pytest.mark.filterwarnings("ignore:The input iterable can not be deepcopied:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_data_pipe_that_shards_again_is_refused(server: ServerProcess):
    pipe = IterableWrapper(stream_of(server)).sharding_filter()
    with raised_by_workers(InvalidRequestError, match="leave it out"):
        list(loader_of(pipe, 2))


def test_a_deep_copy_is_a_stream_of_its_own(server: ServerProcess, client: Client):
    stream = stream_of(server)
    next(iter(stream))
    copied = deepcopy(stream)
    for each in (stream, copied):
        assert_same(pairs(each), share(client, 0)[1:])


def test_a_prefetch_factor(server: ServerProcess, client: Client):
    batches = loader_of(stream_of(server, prefetch=1), 2, prefetch_factor=7)
    assert_same(pairs(batches), share(client, 0))


def test_out_of_order_is_refused(server: ServerProcess):
    with raised_by_workers(InvalidRequestError, match="give in_order=True"):
        list(loader_of(stream_of(server), 2, in_order=False))
    elsewhere = DataLoader(
        stream_of(server), batch_size=None, num_workers=2, in_order=False,
        multiprocessing_context="forkserver",
    )  # fmt: skip
    iterator = iter(elsewhere)
    try:
        with raised_by_workers(InvalidRequestError, match="give in_order=True"):
            next(iterator)
    finally:
        # Else a worker that is still starting fails in the midst of a later test.
        iterator._shutdown_workers()  # type: ignore[attr-defined]
    with pytest.raises(InvalidRequestError, match="in_order=False"):
        TripleLoader(stream_of(server), num_workers=2, in_order=False)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loaded_state_survives_set_epoch(server: ServerProcess, client: Client, num_workers: int):
    """The usual loop calls set_epoch before each pass, also before a resumed one."""
    stream = stream_of(server)
    stream.load_state_dict(PLACES[1])
    loader = loader_of(stream, num_workers)
    for epoch, start in ((1, 5 * BATCH_SIZE), (2, 0)):
        stream.set_epoch(epoch)
        assert_same(pairs(loader), share(client, epoch, start))


def test_a_loaded_state_is_not_dropped(server: ServerProcess, client: Client):
    stream = stream_of(server)
    stream.load_state_dict(PLACES[1])
    with pytest.raises(InvalidRequestError, match=r"call set_epoch\(1\)"):
        stream.set_epoch(0)
    stream.load_state_dict(PLACES[0])
    assert_same(pairs(islice(stream, 2)), share(client, 0)[:2])


def test_the_stream_cannot_tell_the_progress_of_workers(server: ServerProcess):
    stream = stream_of(server)
    (batch,) = islice(loader_of(stream, 1), 1)
    with pytest.raises(InvalidRequestError, match="keep the state of the last batch"):
        stream.state_dict()
    stream.load_state_dict(batch.state)
    assert stream.state_dict() == batch.state


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({}, 22),
        ({"world_size": 2, "rank": 1}, 11),
        ({"tail": "drop"}, 21),
        ({"tail": "wrap"}, 22),
        ({"world_size": 2, "rank": 1, "tail": "drop"}, 10),
        ({"relations": (3,), "batch_size": 8}, 13),
    ],
)
def test_the_length_of_an_epoch(server: ServerProcess, options: dict[str, Any], length: int):
    stream = stream_of(server, **options)
    loader = TripleLoader(stream)
    assert len(stream) == len(loader) == len(DataLoader(stream, batch_size=None)) == length
    assert len(list(loader)) == length
