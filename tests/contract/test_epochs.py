"""An epoch from a server equals the epoch of the graph in process, batch by batch."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from negserve import (
    EpochBatch,
    EpochConfig,
    EpochStream,
    FingerprintMismatchError,
    InvalidRequestError,
    LimitExceededError,
    NegserveError,
    RemoteTriplesFactory,
    SamplerConfig,
    UnknownDatasetError,
)
from negserve._protocol.epoch_progress import chained_digest
from negserve.types.dataset import Dataset
from negserve_server.graph.epoch import Epoch
from tests.contract.cases import CASES
from tests.contract.conftest import ALL_SPLITS, Place
from tests.contract.test_promises import assert_same
from tests.support.epochs import piece, undisturbed_digest, union_digest

SAMPLER = SamplerConfig(
    kind="bernoulli", num_negs_per_pos=5, filter_splits=ALL_SPLITS, seed=2**63 + 11
)

#: Which positives, in which order, and which of them are a rank's.
EPOCHS: Mapping[str, EpochConfig] = MappingProxyType(
    {
        "defaults": EpochConfig(),
        "short tail": EpochConfig(batch_size=300, rank=2, world_size=4),
        "tail without some ranks": EpochConfig(batch_size=1351, rank=3, world_size=4, tail="drop"),
        "drop tail": EpochConfig(batch_size=300, rank=3, world_size=4, tail="drop"),
        "wrapped tail": EpochConfig(batch_size=300, rank=3, world_size=4, tail="wrap"),
        "more than the epoch": EpochConfig(batch_size=4000, rank=1, world_size=3, tail="wrap"),
        "sorted": EpochConfig(batch_size=500, shuffle=False),
        "weights": EpochConfig(batch_size=500, weights=True),
        "relations": EpochConfig(batch_size=100, relations=(5, 1, 2, 1), weights=True),
        "worker": EpochConfig(batch_size=200, rank=1, world_size=2, worker=2, num_workers=3),
        "worker with a wrapped tail": EpochConfig(
            batch_size=130, worker=1, num_workers=2, tail="wrap"
        ),
        "one by one": EpochConfig(batch_size=1, worker=0, num_workers=40, relations=(0, 1, 2)),
    }
)


def remote(place: Place) -> RemoteTriplesFactory:
    factory = place.factory
    assert isinstance(factory, RemoteTriplesFactory)
    return factory


def in_process(
    place: Place, sampler: SamplerConfig, config: EpochConfig, number: int = 0, start: int = 0
) -> Epoch:
    return place.graph.epoch(sampler, config, number=number, start=start)


def assert_equal(remote: EpochBatch, local: EpochBatch, number: int = 0) -> None:
    assert remote.epoch == local.epoch == number
    assert remote.next_start == local.next_start
    assert remote.positives.dtype == np.int64
    np.testing.assert_array_equal(remote.positives, local.positives)
    assert_same(remote.negatives, local.negatives)
    assert (remote.weights is None) == (local.weights is None)
    if remote.weights is not None and local.weights is not None:
        assert remote.weights.dtype == local.weights.dtype == np.float32
        assert remote.weights.tobytes() == local.weights.tobytes()


def assert_streams_equal(place: Place, sampler: SamplerConfig, config: EpochConfig) -> None:
    local = in_process(place, sampler, config)
    batches = list(remote(place).epochs(sampler, config))
    assert len(batches) == len(local)
    for index, batch in enumerate(batches):
        assert_equal(batch, local.batch(index))


def config_of(name: str, place: Place, **options: Any) -> SamplerConfig:
    """Return the configuration of a contract case on a graph."""
    case = CASES[name]
    options = {**case.options, **options}
    if "candidates" in options:
        options["candidates"] = tuple(range(0, place.graph.num_entities, options["candidates"]))
    if "mixture" in options:
        options["mixture"] = tuple(options["mixture"].items())
    return SamplerConfig(kind=case.cls.kind, **options)


# --- Equal to the epoch in process ---


@pytest.mark.covers("SampleEpoch")
@pytest.mark.parametrize("name", EPOCHS)
def test_a_stream_is_the_epoch_in_process(remote_world: Place, name: str):
    assert_streams_equal(remote_world, SAMPLER, EPOCHS[name])


@pytest.mark.parametrize("name", EPOCHS)
def test_a_stream_goes_on_with_the_epochs_in_process(remote_world: Place, name: str):
    stream = remote(remote_world).epochs(SAMPLER, EPOCHS[name])
    numbers = (7, 8, 9)
    stream.load_state_dict({"epoch": numbers[0], "start": 130})
    for number in numbers:
        start = 130 if number == numbers[0] else 0
        local = in_process(remote_world, SAMPLER, EPOCHS[name], number, start)
        batches = list(stream)
        assert len(batches) == len(local)
        for index, batch in enumerate(batches):
            assert_equal(batch, local.batch(index), number)
        assert stream.state_dict() == {"epoch": number + 1, "start": 0}


@pytest.mark.parametrize("name", CASES)
def test_every_sampler_streams(remote_world: Place, name: str):
    sampler = config_of(name, remote_world, num_negs_per_pos=9, seed=3)
    assert_streams_equal(remote_world, sampler, EpochConfig(batch_size=700, rank=1, world_size=2))


@pytest.mark.parametrize(
    "options",
    [
        {"filter_mode": "mask", "filter_splits": ALL_SPLITS},
        {"log_q": True},
        {"filter_splits": ("training",), "distinct": True},
        {"num_negs_per_pos": 3000},
        {"seed": 2**64 - 1},
    ],
    ids=str,
)
def test_every_option_streams(remote_world: Place, options: dict[str, Any]):
    sampler = replace(SamplerConfig(num_negs_per_pos=6), **options)
    assert_streams_equal(remote_world, sampler, EpochConfig(batch_size=170, weights=True))


def test_every_graph_streams(remote_place: Place):
    num_triples = len(remote_place.graph.mapped_triples)
    for tail in ("short", "drop", "wrap"):
        # Some 7 batches, so that batches, messages and epochs end at different places.
        config = EpochConfig(
            batch_size=num_triples // 20, rank=1, world_size=3, tail=tail, weights=True
        )
        assert_streams_equal(remote_place, replace(SAMPLER, num_negs_per_pos=3), config)


def test_ranks_have_the_epoch_once_together(remote_world: Place):
    factory = remote(remote_world)
    expected = undisturbed_digest(remote_world.graph, SAMPLER)
    for world_size in (1, 3, 8):
        pieces = [
            piece(batch, factory.num_triples)
            for rank in range(world_size)
            for batch in factory.epochs(
                SAMPLER, EpochConfig(batch_size=97, rank=rank, world_size=world_size)
            )
        ]
        assert union_digest(pieces, factory.num_triples) == expected


def test_workers_interleave_in_order(remote_world: Place):
    factory = remote(remote_world)
    config = EpochConfig(batch_size=150, rank=1, world_size=2, num_workers=3)
    whole = list(factory.epochs(SAMPLER, replace(config, num_workers=1)))
    workers = [iter(factory.epochs(SAMPLER, replace(config, worker=w))) for w in range(3)]
    turns = itertools.zip_longest(*workers)
    merged = [batch for turn in turns for batch in turn if batch is not None]
    assert len(merged) == len(whole)
    for ours, theirs in zip(merged, whole, strict=True):
        assert_equal(ours, theirs)  # type: ignore[arg-type]


def test_epochs_follow_each_other(remote_world: Place):
    stream = remote(remote_world).epochs(SAMPLER, EpochConfig(batch_size=1000))
    orders = set()
    for number in range(3):
        assert stream.epoch == number
        local = in_process(remote_world, SAMPLER, stream.config, number)
        batches = list(stream)
        assert len(batches) == len(local) == 6
        for index, batch in enumerate(batches):
            assert_equal(batch, local.batch(index), number)
        orders.add(batches[0].positives.tobytes())
    assert stream.state_dict() == {"epoch": 3, "start": 0}
    assert len(orders) == 3


def test_far_epochs_and_the_last_one(remote_world: Place):
    stream = remote(remote_world).epochs(SAMPLER, EpochConfig(batch_size=3000))
    last = 2**64 // len(remote_world.graph.mapped_triples) - 1
    stream.load_state_dict({"epoch": last, "start": 0})
    local = in_process(remote_world, SAMPLER, stream.config, last)
    for index, batch in enumerate(stream):
        assert_equal(batch, local.batch(index), last)
    with pytest.raises(InvalidRequestError) as caught:
        list(stream)
    assert caught.value.reason == "POSITION_OUT_OF_RANGE"


# --- State ---


@pytest.mark.parametrize("name", [name for name in EPOCHS if "worker" not in name][:-1])
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_a_stream_goes_on_from_its_state(remote_world: Place, name: str, taken: int):
    config = EPOCHS[name]
    whole = remote(remote_world).epochs(SAMPLER, config, digest=True)
    batches = [*whole, *whole]

    first = remote(remote_world).epochs(SAMPLER, config, digest=True)
    part = list(itertools.islice(first, taken))
    state = pickle.loads(pickle.dumps(first.state_dict()))
    second = remote(remote_world).epochs(SAMPLER, config, digest=True)
    second.load_state_dict(state)
    part += [*second, *second]
    if second.epoch < 2:  # the first part was no whole epoch
        part += second
    part = part[: len(batches)]
    assert second.epoch >= 2
    for ours, theirs in zip(part, batches, strict=True):
        assert_equal(ours, theirs, theirs.epoch)  # type: ignore[arg-type]
    if second.epoch == 2:
        assert second.digest == whole.digest
        assert second.state_dict() == whole.state_dict()


def test_a_pickled_stream_goes_on(remote_world: Place):
    stream = remote(remote_world).epochs(SAMPLER, EpochConfig(batch_size=500), digest=True)
    for _ in itertools.islice(stream, 4):
        pass
    copy: EpochStream = pickle.loads(pickle.dumps(stream))
    assert copy.state_dict() == stream.state_dict()
    for ours, theirs in zip(copy, stream, strict=True):
        assert_equal(ours, theirs)  # type: ignore[arg-type]
    assert copy.digest == stream.digest


def test_the_state_is_after_the_batch_that_was_taken_not_after_those_read_ahead(
    remote_world: Place,
):
    stream = remote(remote_world).epochs(SAMPLER, EpochConfig(batch_size=100), prefetch=30)
    for number, batch in enumerate(stream, start=1):
        is_last = number == 55
        assert stream.state_dict() == {"epoch": is_last, "start": 0 if is_last else 100 * number}
        assert batch.next_start == min(100 * number, 5408)


def test_the_digest_tells_batches_apart(remote_world: Place):
    factory = remote(remote_world)
    config = EpochConfig(batch_size=2000)
    stream = factory.epochs(SAMPLER, config, digest=True)
    assert stream.digest == ""
    expected = ""
    for batch in stream:
        expected = chained_digest(expected, batch)
        assert stream.digest == expected
    for other in (replace(SAMPLER, seed=1), replace(SAMPLER, num_negs_per_pos=4)):
        another = factory.epochs(other, config, digest=True)
        list(another)
        assert another.digest != expected
    assert factory.epochs(SAMPLER, config).digest is None


def test_8_ranks_go_on_as_12(remote_world: Place):
    factory = remote(remote_world)
    pieces = []
    states = []
    for rank in range(8):
        stream = factory.epochs(SAMPLER, EpochConfig(batch_size=50, rank=rank, world_size=8))
        taken = itertools.islice(stream, 5)
        pieces += [piece(batch, factory.num_triples) for batch in taken]
        states.append(stream.state_dict())
    assert states == [{"epoch": 0, "start": 5 * 8 * 50}] * 8
    for rank in range(12):
        stream = factory.epochs(SAMPLER, EpochConfig(batch_size=30, rank=rank, world_size=12))
        stream.load_state_dict(states[0])
        pieces += [piece(batch, factory.num_triples) for batch in stream]
        assert stream.epoch == 1
    expected = undisturbed_digest(remote_world.graph, SAMPLER)
    assert union_digest(pieces, factory.num_triples) == expected


# --- Refusals ---

BAD_EPOCHS: Mapping[str, tuple[Any, str, str]] = MappingProxyType(
    {
        "rank of another world": ({"rank": 4, "world_size": 4}, "rank", "4"),
        "worker of other workers": ({"worker": 2, "num_workers": 2}, "worker", "2"),
        "too large a world": ({"world_size": 2**16 + 1}, "world_size", "65537"),
        "empty batches": ({"batch_size": 0}, "batch_size", "0"),
        "relation that is not there": ({"relations": (0, 29)}, "relations", "29"),
        "relation beyond 63 bits": ({"relations": (2**64 - 1,)}, "relations", str(2**64 - 1)),
        "no relation": ({"relations": ()}, "relations", "()"),
    }
)


@pytest.mark.parametrize("case", BAD_EPOCHS)
def test_illegal_epochs_are_refused(remote_world: Place, case: str):
    options, field, value = BAD_EPOCHS[case]
    with pytest.raises(InvalidRequestError, match=field) as caught:
        list(remote(remote_world).epochs(SAMPLER, EpochConfig(**options)))
    assert caught.value.reason == "INVALID_CONFIGURATION"
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["value"] == value


@pytest.mark.parametrize(
    "options",
    [{"rank": -1}, {"batch_size": 2**32}, {"relations": (-1,)}, {"tail": "long"}],
    ids=str,
)
def test_values_that_no_message_can_hold_are_refused_by_the_client(
    remote_world: Place, options: dict[str, Any]
):
    with pytest.raises(InvalidRequestError) as caught:
        list(remote(remote_world).epochs(SAMPLER, EpochConfig(**options)))
    assert caught.value.reason == "INVALID_CONFIGURATION"


def test_a_start_after_the_end_is_refused_and_the_end_is_empty(remote_world: Place):
    stream = remote(remote_world).epochs(SAMPLER)
    stream.load_state_dict({"epoch": 7, "start": 5409})
    with pytest.raises(InvalidRequestError, match="5408 positions") as caught:
        list(stream)
    assert caught.value.metadata["field"] == "start"
    assert stream.state_dict() == {"epoch": 7, "start": 5409}
    stream.load_state_dict({"epoch": 7, "start": 5408})
    assert list(stream) == []
    assert stream.state_dict() == {"epoch": 8, "start": 0}


@pytest.mark.parametrize(
    "state", [{}, {"epoch": 1}, {"epoch": "x", "start": 0}, {"epoch": 0, "start": -1}], ids=str
)
def test_malformed_states_are_refused(remote_world: Place, state: dict[str, Any]):
    stream = remote(remote_world).epochs(SAMPLER)
    with pytest.raises(InvalidRequestError, match="epoch"):
        stream.load_state_dict(state)
    assert stream.state_dict() == {"epoch": 0, "start": 0}


def test_batches_that_no_message_holds_are_refused(remote_world: Place):
    limit = remote(remote_world).limits.max_negatives_per_message
    for log_q in (False, True):
        sampler = SamplerConfig(num_negs_per_pos=1000, log_q=log_q)
        fitting = (limit // 2 if log_q else limit) // 1000
        with pytest.raises(LimitExceededError, match="smaller batches") as caught:
            list(remote(remote_world).epochs(sampler, EpochConfig(batch_size=fitting + 1)))
        assert caught.value.reason == "LIMIT_EXCEEDED"
        assert caught.value.metadata["value"] == str(fitting + 1)
        assert caught.value.metadata["limit"] == str(fitting)
        stream = iter(remote(remote_world).epochs(sampler, EpochConfig(batch_size=fitting)))
        assert len(next(stream).positives) == fitting
        stream.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (lambda d: replace(d, name="moon"), UnknownDatasetError, "UNKNOWN_DATASET"),
        (
            lambda d: replace(d, fingerprint="00" * 32),
            FingerprintMismatchError,
            "FINGERPRINT_MISMATCH",
        ),
    ],
)
def test_another_dataset_is_refused(
    remote_world: Place,
    change: Callable[[Dataset], Dataset],
    error: type[NegserveError],
    reason: str,
):
    factory = remote(remote_world)
    stream = EpochStream(factory._transport, change(factory._dataset), SAMPLER, EpochConfig())
    with pytest.raises(error) as caught:
        list(stream)
    assert caught.value.reason == reason


def test_a_sampler_without_its_data_in_the_graph_is_refused(remote_world: Place):
    for sampler, field in (
        (SamplerConfig(algorithm_version=1), "algorithm_version"),
        (SamplerConfig(candidates=(2571,)), "candidates"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            list(remote(remote_world).epochs(sampler))
        assert caught.value.metadata["field"] == field
