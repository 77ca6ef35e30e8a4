"""Epochs of a configuration that was opened before are opened on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from negserve import EpochConfig, InvalidRequestError, SamplerConfig
from negserve._protocol.messages import encode_epoch_request
from negserve_server.admission.scheduler import Scheduler
from negserve_server.config.limits import Limits
from negserve_server.graph import TriplesFactory
from negserve_server.publishing.datasets import Datasets
from negserve_server.service.servicer import SamplerServicer
from tests.support.graphs import load

SAMPLER = SamplerConfig(kind="bernoulli", num_negs_per_pos=4, filter_splits=("training",), seed=1)
CONFIG = EpochConfig(batch_size=1000)


def bytes_of(
    factory: TriplesFactory, sampler: SamplerConfig, config: EpochConfig
) -> tuple[list[Any], int]:
    """Return the answers, and how often a thread was needed to open the epoch."""
    scheduler = Scheduler(1)
    answers, functions = _answers(factory, sampler, config, scheduler)
    scheduler.close()
    return answers, len(functions)


def _answers(
    factory: TriplesFactory, sampler: SamplerConfig, config: EpochConfig, scheduler: Scheduler
) -> tuple[list[Any], list[Any]]:
    """Return the answers, and the functions that a thread called to open the epoch."""
    request = encode_epoch_request("world", "", sampler, config, 3, 10)
    stream = Mock(read_only=AsyncMock(return_value=request), spend=AsyncMock())
    run_blocking, functions = scheduler.run_blocking, []

    async def counting(function: Callable[..., Any], *arguments: object) -> Any:
        functions.append(function)
        return await run_blocking(function, *arguments)

    scheduler.run_blocking = counting  # type: ignore[method-assign]

    async def main() -> list[Any]:
        servicer = SamplerServicer(
            Datasets({"world": factory}), Mock(), Limits(), scheduler, (0, 1)
        )
        async with aclosing(servicer.sample_epoch(stream)) as answers:
            return [answer async for answer in answers]

    return asyncio.run(main()), functions


@pytest.fixture
def factory() -> TriplesFactory:
    return TriplesFactory(load("world").splits)


def test_with_any_seed_and_rank_no_thread_is_needed(factory: TriplesFactory):
    first, num_threads = bytes_of(factory, SAMPLER, CONFIG)
    assert num_threads == 1
    assert bytes_of(factory, SAMPLER, CONFIG) == (first, 0)
    for sampler, config in (
        (replace(SAMPLER, seed=9), CONFIG),
        (SAMPLER, replace(CONFIG, rank=1, world_size=3)),
    ):
        again, num_threads = bytes_of(factory, sampler, config)
        assert num_threads == 0
        assert again == bytes_of(TriplesFactory(load("world").splits), sampler, config)[0]


@pytest.mark.parametrize(
    ("sampler", "config"),
    [
        (replace(SAMPLER, num_negs_per_pos=1), CONFIG),  # may need others
        (replace(SAMPLER, candidates=tuple(range(50))), CONFIG),
        (SAMPLER, replace(CONFIG, weights=True)),
        (SAMPLER, replace(CONFIG, relations=(1, 2))),
        (SAMPLER, replace(CONFIG, relations=tuple(range(20)) * 40)),
    ],
)
def test_what_may_take_a_while_is_done_in_a_thread(
    factory: TriplesFactory, sampler: SamplerConfig, config: EpochConfig
):
    bytes_of(factory, SAMPLER, CONFIG)
    assert bytes_of(factory, sampler, config)[1] == 1


def test_tables_that_are_gone_are_made_in_a_thread(factory: TriplesFactory):
    first, _ = bytes_of(factory, SAMPLER, CONFIG)
    factory._tables.store.drop_idle(0.0)
    assert bytes_of(factory, SAMPLER, CONFIG) == (first, 1)


def test_refusals_are_the_same(factory: TriplesFactory):
    bytes_of(factory, SAMPLER, CONFIG)
    with pytest.raises(InvalidRequestError, match="algorithm_version"):
        bytes_of(factory, replace(SAMPLER, algorithm_version=1), CONFIG)


@pytest.mark.parametrize(
    ("sampler", "config", "has_thread"),
    [
        (SAMPLER, replace(CONFIG, batch_size=100, world_size=64), False),
        (replace(SAMPLER, num_negs_per_pos=500), CONFIG, True),
        (SAMPLER, replace(CONFIG, batch_size=100, world_size=64, weights=True), True),
    ],
)
def test_a_short_message_is_drawn_without_a_thread(
    factory: TriplesFactory, sampler: SamplerConfig, config: EpochConfig, has_thread: bool
):
    bytes_of(factory, sampler, config)
    scheduler = Scheduler(1)
    scheduler.submit = Mock(side_effect=scheduler.submit)  # type: ignore[method-assign]
    answers, _ = _answers(factory, sampler, config, scheduler)
    scheduler.close()
    assert len(answers) > 1
    assert scheduler.submit.called is has_thread
