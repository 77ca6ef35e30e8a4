"""Messages of an epoch that are made ahead: what becomes of those that nobody takes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import aclosing
from typing import Any
from unittest.mock import Mock

import pytest

from negserve import EpochConfig, SamplerConfig, wire
from negserve_server.graph.epoch import Epoch, EpochBatch
from negserve_server.service import Limits
from negserve_server.service.datasets import Datasets
from negserve_server.service.servicer import SamplerServicer
from tests.support.graphs import load

#: Two batches a message.
REQUEST = wire.encode_epoch_request(
    "world", "", SamplerConfig(num_negs_per_pos=1000), EpochConfig(batch_size=100), 0, 0
)


class _AtOnce(Executor):
    """Has done what is submitted before it is asked for: all messages are ready together."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize("num_taken", [0, 1])
def test_further_failures_are_not_told_to_the_log(num_taken: int, monkeypatch: pytest.MonkeyPatch):
    """The first one is the client's; the message after it may have failed as well."""
    make, failures, told = Epoch.batch, [], []

    def batch(epoch: Epoch, index: int) -> EpochBatch:
        if index >= 2 * num_taken:
            failures.append(index)
            raise MemoryError("no room for a batch")
        return make(epoch, index)

    monkeypatch.setattr(Epoch, "batch", batch)
    servicer = SamplerServicer(Datasets({"world": load("world")}), Mock(), Limits(), _AtOnce())

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        taken = 0
        with pytest.raises(MemoryError):
            async with aclosing(servicer.sample_epoch(REQUEST)) as answers:
                async for answer in answers:
                    taken += answer.HasField("batches")
                    await asyncio.sleep(0.01)  # what was begun meanwhile is done
        assert taken == num_taken

    asyncio.run(main())
    gc.collect()
    assert len(failures) == 2
    assert told == []
