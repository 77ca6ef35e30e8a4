"""Messages of an epoch computed ahead, and their end when nobody reads them."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Generator
from contextlib import aclosing
from unittest.mock import AsyncMock, Mock

import pytest

from negserve import EpochConfig, SamplerConfig
from negserve._protocol import messages
from negserve_server.access.usage import USE, CallUse
from negserve_server.admission.fair_queue import Flow
from negserve_server.admission.scheduler import Scheduler
from negserve_server.config.limits import Limits
from negserve_server.graph.epoch import Epoch
from negserve_server.graph.epoch_batches import EpochBatches
from negserve_server.publishing.datasets import Datasets
from negserve_server.service.servicer import SamplerServicer
from tests.support.graphs import load

#: Two batches a message.
REQUEST = messages.encode_epoch_request(
    "world", "", SamplerConfig(num_negs_per_pos=1000), EpochConfig(batch_size=100), 0, 0
)


@pytest.mark.parametrize("num_taken", [0, 1])
def test_further_failures_are_not_logged(num_taken: int, monkeypatch: pytest.MonkeyPatch):
    """The client gets the first failure; the message after it may fail as well."""
    make, failures, told = Epoch.batches_in_steps, [], []
    failed = threading.Semaphore(0)

    def batches_in_steps(epoch: Epoch, indices: range) -> Generator[None, None, EpochBatches]:
        if indices[0] >= 2 * num_taken:
            failures.append(indices)
            failed.release()
            raise MemoryError("no room for a batch")
        return make(epoch, indices)

    monkeypatch.setattr(Epoch, "batches_in_steps", batches_in_steps)
    scheduler = Scheduler(1)
    servicer = SamplerServicer(
        Datasets({"world": load("world")}), Mock(), Limits(), scheduler, (0, 1)
    )

    stream = Mock(read_only=AsyncMock(return_value=REQUEST), spend=AsyncMock())

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        taken = 0
        with pytest.raises(MemoryError):
            async with aclosing(servicer.sample_epoch(stream)) as answers:
                async for answer in answers:
                    if isinstance(answer, bytes):
                        taken += 1
                        for _ in range(2):  # what was begun meanwhile is done
                            await asyncio.to_thread(failed.acquire)
                        await scheduler.run(Flow(), 1, int)
        assert taken == num_taken

    asyncio.run(main())
    scheduler.close()
    gc.collect()
    assert len(failures) >= 1 + num_taken
    assert told == []


def test_a_wait_for_the_only_thread_is_seconds_in_the_queue():
    scheduler, gate, is_held = Scheduler(1), threading.Event(), threading.Event()
    servicer = SamplerServicer(
        Datasets({"world": load("world")}), Mock(), Limits(), scheduler, (0, 1)
    )
    stream = Mock(read_only=AsyncMock(return_value=REQUEST), spend=AsyncMock())

    def held() -> Generator[None, None, None]:
        is_held.set()
        gate.wait(60)
        return
        yield

    async def main() -> tuple[float, CallUse]:
        USE.set(use := CallUse())
        async with aclosing(servicer.sample_epoch(stream)) as answers:
            assert not isinstance(await anext(answers), bytes)
            other = scheduler.submit(Flow(), 1_000_000, held())
            assert await asyncio.to_thread(is_held.wait, 60)
            message = asyncio.ensure_future(anext(answers))
            while not scheduler.num_waiting:
                await asyncio.sleep(0)
            since = time.perf_counter()
            await asyncio.sleep(0.05)
            waited = time.perf_counter() - since
            gate.set()
            assert isinstance(await message, bytes)
            await other
        return waited, use

    try:
        waited, use = asyncio.run(main())
    finally:
        gate.set()
        scheduler.close()
    assert use.num_messages == 1
    assert use.queue_seconds >= waited
    assert use.make_seconds > 0
