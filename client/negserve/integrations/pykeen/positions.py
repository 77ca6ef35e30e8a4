"""Positions of positives, none of them twice, in any number of DataLoader workers."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch.utils.data import get_worker_info

from negserve.errors import InvalidRequestError

#: A DataLoader may have as many workers.
MAX_NUM_WORKERS = 1024

# A position is a lane (the training process, or a worker), one of its passes, and a number.
_NUMBER_BITS = 32
_LANE_SHIFT = 53
_PASSES = 2 ** (_LANE_SHIFT - _NUMBER_BITS)


class Positions:
    """Counts positions from 0 in the training process, and from elsewhere in every worker.

    Each worker counts in a lane of its own, and begins a new pass there when it is started. So
    workers never share a position with each other, with the training process, or with the
    workers of an epoch before, and each of them counts the same in every run. Pickled with how
    many passes there were, which processes that a DataLoader starts share.
    """

    def __init__(self) -> None:
        self._passes = torch.zeros(1 + MAX_NUM_WORKERS, dtype=torch.int64)
        self._set_up()

    def _set_up(self) -> None:
        # Does nothing in a spawned worker: there it is shared already.
        self._passes.share_memory_()  # type: ignore[no-untyped-call]
        self._process: int | None = None
        self._lane = 0
        self._next = self._end = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"passes": self._passes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._passes = state["passes"]
        self._set_up()

    def take(self, count: int) -> int:
        """Take as many positions and give the first of them.

        :raises InvalidRequestError: if there are none left, or there are too many workers
        """
        if self._process != os.getpid():
            info = get_worker_info()
            if info is not None and info.id >= MAX_NUM_WORKERS:
                raise InvalidRequestError(
                    f"num_workers={info.num_workers}; at most {MAX_NUM_WORKERS} are possible"
                )
            self._process = os.getpid()
            self._lane = 0 if info is None else info.id + 1
            self._next = self._end = 0
        if self._next + count > self._end:
            self._begin_pass(count)
        first = self._next
        self._next += count
        return first

    def _begin_pass(self, count: int) -> None:
        index = int(self._passes[self._lane])
        if count > 2**_NUMBER_BITS or index >= _PASSES:
            raise InvalidRequestError(
                f"{count} positives after {index} passes; there are {_PASSES} passes of "
                f"{2**_NUMBER_BITS} positives: go on with another seed"
            )
        self._passes[self._lane] += 1
        self._next = (self._lane << _LANE_SHIFT) | (index << _NUMBER_BITS)
        self._end = self._next + 2**_NUMBER_BITS
