"""``stream()`` gives the results of ``sample()`` in turn, wherever negatives are drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from negserve import InvalidRequestError
from negserve.sampling import BasicNegativeSampler, BernoulliNegativeSampler, NegativeSampler
from tests.contract.cases import CASES
from tests.contract.conftest import Place, on_graphs

#: More than fit into a message with k = 2000.
LARGE = 700
SHAPES = ((4, 3), (0, 3), (3,), (2, 5, 3), (60, 3), (1, 3), (0, 2, 3), (17, 3))


def batches_of(place: Place) -> list[torch.Tensor]:
    positives = place.positives(200)
    ends, batches = 0, []
    for shape in SHAPES:
        begin, ends = ends, ends + torch.Size(shape[:-1]).numel()
        batches.append(positives[begin:ends].reshape(shape))
    return batches


def assert_equal(streamed: list[Any], expected: list[Any]) -> None:
    assert len(streamed) == len(expected)
    for (negatives, mask), (wanted, wanted_mask) in zip(streamed, expected, strict=True):
        assert torch.equal(negatives, wanted)
        assert (mask is None) == (wanted_mask is None)
        assert mask is None or torch.equal(mask, wanted_mask)


@on_graphs(name=CASES, ahead=(1, 2, 4, 64))
def test_a_stream_gives_what_sample_gives_in_turn(place: Place, name: str, ahead: int):
    batches = batches_of(place)
    one, other = (CASES[name].open(place.graph, place.factory, 6) for _ in range(2))
    expected = [one.sample(batch) for batch in [*batches, *batches]]
    assert_equal(list(other.stream(batches, ahead=ahead)), expected[: len(batches)])
    # Positions go on, also after a stream.
    assert_equal([other.sample(batch) for batch in batches], expected[len(batches) :])


@on_graphs(ahead=(1, 3))
def test_a_stream_from_a_position(place: Place, ahead: int):
    batches = batches_of(place)
    sampler = BernoulliNegativeSampler(place.factory, 5, True, seed=8)
    position, expected = 2**63, []
    for batch in batches:
        expected.append(sampler.sample(batch, position))
        position += batch.shape[:-1].numel()
    assert_equal(list(sampler.stream(batches, 2**63, ahead=ahead)), expected)
    assert sampler.position == 0


def test_batches_of_several_messages(world: Place):
    positives = world.positives(3 * LARGE)
    sampler = BernoulliNegativeSampler(world.factory, 2000, True)
    (expected, expected_mask) = sampler.sample(positives, position=5)
    parts = list(sampler.stream(torch.split(positives, LARGE), 5, ahead=3))
    assert torch.equal(torch.cat([negatives for negatives, _ in parts]), expected)
    masks = [mask for _, mask in parts if mask is not None]
    assert expected_mask is not None
    assert torch.equal(torch.cat(masks), expected_mask)


def test_each_batch_says_how_many_of_its_positives_are_saturated(world: Place):
    positives = world.positives(200).numpy()
    sampler = world.factory.open_sampler(
        kind="basic",
        num_negs_per_pos=3,
        corruption_scheme=("tail",),
        candidates=(int(positives[3, 2]),),  # a known value of some positives only
        filter_splits=("training",),
    )
    calls = [(positives[begin : begin + 20], begin) for begin in range(0, 200, 20)]
    counts = [batch.num_saturated for batch in sampler.stream(calls, 6)]
    assert counts == [sampler.sample(*call).num_saturated for call in calls]
    assert len(set(counts)) > 1


@pytest.mark.parametrize(
    "options", [{}, {"chunk_size": 7, "filter_mode": "mask"}, {"filter_mode": "mask"}]
)
def test_a_large_batch_is_put_together_from_its_messages(world: Place, options: dict[str, Any]):
    positives = world.positives(3 * LARGE).reshape(3, LARGE, 3)
    expected = BernoulliNegativeSampler(world.graph, 400, True, **options).sample(positives, 5)
    sampler = BernoulliNegativeSampler(world.factory, 400, True, **options)
    for _ in range(2):
        assert_equal([sampler.sample(positives, 5)], [expected])
    positives[2, 100, 2] = 10**6
    with pytest.raises(ValueError, match=f"tail id 1000000 of row {2 * LARGE + 100} "):
        sampler.sample(positives, 5)
    positives = world.positives(3 * LARGE).reshape(3, LARGE, 3)
    assert_equal([sampler.sample(positives, 5)], [expected])


@pytest.mark.parametrize("ahead", [1, 2, 5])
def test_no_batch_is_read_beyond_those_in_flight(world: Place, ahead: int):
    read = 0

    def batches() -> Iterator[torch.Tensor]:
        nonlocal read
        for _ in range(12):
            read += 1
            yield world.positives(7)

    sampler = BasicNegativeSampler(world.factory, 3)
    stream = sampler.stream(batches(), ahead=ahead)
    assert read == 0
    for yielded, _ in enumerate(stream):
        assert yielded < read <= min(yielded + ahead, 12)
    assert read == 12


def goes_on(sampler: NegativeSampler, place: Place) -> bool:
    fresh = BasicNegativeSampler(place.factory, 3, sampler.filtered, seed=4)
    return all(
        torch.equal(
            sampler.sample(place.positives(50), position=begin)[0],
            fresh.sample(place.positives(50), position=begin)[0],
        )
        for begin in (0, 50)
    )


def test_a_stream_may_be_left_early_and_used_beside_others(world: Place):
    sampler = BasicNegativeSampler(world.factory, 3, seed=4)
    expected = [sampler.sample(world.positives(50), position=50 * i)[0] for i in range(6)]
    for number in (0, 1, 3):
        left = sampler.stream([world.positives(50)] * 6, 0)
        for wanted in expected[:number]:
            assert torch.equal(next(left)[0], wanted)
        left.close()
        assert goes_on(sampler, world)
    batches = [world.positives(50)] * 6
    streams = zip(sampler.stream(batches, 0), sampler.stream(batches, 0, ahead=2), strict=True)
    for wanted, ((one, _), (other, _)) in zip(expected, streams, strict=True):
        assert torch.equal(one, wanted)
        assert torch.equal(other, wanted)
        assert goes_on(sampler, world)
    sampler.close()
    assert goes_on(sampler, world)


@pytest.mark.parametrize("ahead", [1, 4])
def test_what_reading_raises_comes_after_the_negatives_of_what_was_read(world: Place, ahead: int):
    def batches() -> Iterator[torch.Tensor]:
        yield world.positives(5)
        yield world.positives(6)
        raise KeyError("the disk is gone")

    sampler = BasicNegativeSampler(world.factory, 3, seed=4)
    seen = []
    with pytest.raises(KeyError, match="the disk is gone"):
        for negatives, _ in sampler.stream(batches(), ahead=ahead):
            seen.append(len(negatives))
    assert seen == [5, 6]
    assert goes_on(sampler, world)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (torch.tensor([[0, 0, 1], [0, 0, 10**6]]), "tail id 1000000 of row 1 "),
        (torch.zeros(4, 2, dtype=torch.int64), r"shape \(4, 2\)"),
        (torch.zeros(4, 3), "float32"),
    ],
)
@pytest.mark.parametrize("filtered", [False, True])
def test_a_bad_batch_is_refused_in_its_turn(
    world: Place, bad: torch.Tensor, told: str, filtered: bool
):
    sampler = BasicNegativeSampler(world.factory, 3, filtered, seed=4)
    good = world.positives(5)
    seen = []
    with pytest.raises(ValueError, match=told):
        for negatives, _ in sampler.stream([good, good, good, bad, good]):
            seen.append(len(negatives))
    assert seen == [5, 5, 5]
    assert goes_on(sampler, world)


def test_a_bad_row_is_counted_from_the_beginning_of_its_batch(world: Place):
    sampler = BasicNegativeSampler(world.factory, 2000, seed=4)
    batch = world.positives(1500)
    batch[1400, 2] = 10**6
    with pytest.raises(ValueError, match="tail id 1000000 of row 1400 "):
        list(sampler.stream([world.positives(1500), batch]))


@pytest.mark.parametrize("ahead", [0, -1, 65, 1.5, "4"])
def test_an_illegal_number_ahead_is_refused_at_once(world: Place, ahead: Any):
    sampler = BasicNegativeSampler(world.factory, 3)
    with pytest.raises(InvalidRequestError, match=r"ahead=.*from 1 to 64"):
        sampler.stream([], ahead=ahead)
