"""Messages of an epoch computed ahead, and their end when nobody reads them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Generator
from contextlib import aclosing
from unittest.mock import AsyncMock, Mock

import pytest

from negserve import EpochConfig, SamplerConfig
from negserve._protocol import messages
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
