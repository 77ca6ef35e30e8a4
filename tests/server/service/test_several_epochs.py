"""Several epochs on one ``SampleEpoch`` stream, asked of the servicer itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from unittest.mock import AsyncMock, Mock

import pytest

from negserve import EpochConfig, SamplerConfig
from negserve._protocol.epoch_progress import MOST_EPOCHS
from negserve._protocol.messages import encode_epoch_request
from negserve.v1 import sampler_pb2 as pb
from negserve_server.admission.scheduler import Scheduler
from negserve_server.admission.send_budget import BudgetShare
from negserve_server.config.limits import Limits
from negserve_server.errors import PositionOutOfRange
from negserve_server.publishing.datasets import Datasets
from negserve_server.service.servicer import SamplerServicer
from tests.support.graphs import load

SAMPLER = SamplerConfig(seed=3)
N = len(load("world").mapped_triples)
#: The epoch whose positions are the last that fit.
LAST = 2**64 // N - 1


def epochs_of(
    config: EpochConfig, epoch: int = 0, start: int = 0, num_epochs: int = MOST_EPOCHS,
    most_batches: int = 100, **limits: float,
) -> list[int]:  # fmt: skip
    """Return the epoch of each batch, up to some number of batches."""
    request = encode_epoch_request("world", "", SAMPLER, config, epoch, start, num_epochs)
    stream = Mock(read_only=AsyncMock(return_value=request), spend=AsyncMock())
    scheduler = Scheduler(1)
    found = []

    async def main() -> None:
        datasets = Datasets({"world": load("world")})
        servicer = SamplerServicer(datasets, Mock(), Limits(**limits), scheduler, (0, 1))  # type: ignore[arg-type]
        async with aclosing(servicer.sample_epoch(stream)) as answers:
            async for answer in answers:
                if isinstance(answer, bytes):
                    message = pb.SampleEpochResponse.FromString(answer)
                    found.extend(batch.negatives.position // N for batch in message.batches.batches)
                    if len(found) >= most_batches:
                        return

    asyncio.run(asyncio.wait_for(main(), 60))
    scheduler.close()
    return found


@pytest.mark.parametrize(("num_epochs", "expected"), [(0, [5]), (1, [5]), (3, [5, 6, 7])])
def test_as_many_epochs_as_asked_for(num_epochs: int, expected: list[int]):
    assert epochs_of(EpochConfig(batch_size=N), 5, num_epochs=num_epochs) == expected


def test_on_and_on():
    assert epochs_of(EpochConfig(batch_size=N // 2 + 1)) == [n // 2 for n in range(100)]


def test_only_the_first_epoch_begins_within():
    assert epochs_of(EpochConfig(batch_size=N // 2 + 1), start=N - 1, most_batches=5) == [
        0, 1, 1, 2, 2,
    ]  # fmt: skip
    assert epochs_of(EpochConfig(batch_size=N), start=N, most_batches=3) == [1, 2, 3]


@pytest.mark.parametrize(
    "config",
    [
        EpochConfig(batch_size=N + 1, tail="drop"),
        EpochConfig(batch_size=N, worker=1, num_workers=2),
    ],
)
def test_epochs_without_a_batch_end_the_stream(config: EpochConfig):
    assert epochs_of(config) == []


def test_the_last_epoch_whose_positions_fit_is_the_last_one():
    assert epochs_of(EpochConfig(batch_size=N), LAST - 1) == [LAST - 1, LAST]
    with pytest.raises(PositionOutOfRange):
        epochs_of(EpochConfig(batch_size=N), LAST + 1)


def test_a_stream_of_many_epochs_ends_for_its_age():
    assert epochs_of(EpochConfig(batch_size=N), max_stream_seconds=1e-9) == [0]


def test_epochs_prepared_for_a_client_that_stopped_reading_are_made_again(
    monkeypatch: pytest.MonkeyPatch,
):
    begin_sending = BudgetShare.begin_sending

    def stalling(
        share: BudgetShare, num_bytes: int, on_stall: Callable[[], None] | None = None
    ) -> None:
        begin_sending(share, num_bytes, on_stall)
        if on_stall is not None:
            on_stall()

    monkeypatch.setattr(BudgetShare, "begin_sending", stalling)
    assert epochs_of(EpochConfig(batch_size=N // 2 + 1)) == [n // 2 for n in range(100)]
