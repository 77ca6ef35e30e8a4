"""Positions of positives, none of them twice, in any number of DataLoader workers."""

from __future__ import annotations

import os
import threading
from typing import Any

import torch
from torch.utils.data import get_worker_info

from negserve.errors import InvalidRequestError

#: A DataLoader may have as many workers.
MAX_NUM_WORKERS = 1024

# A position is a lane (the training process, or a worker), one of its passes, and a number. The
# training process has no passes: it counts through its lane.
_NUMBER_BITS = 32
_LANE_SHIFT = 53
_PASSES = 2 ** (_LANE_SHIFT - _NUMBER_BITS)


class Positions:
    """Counts positions from 0 in the training process, and from elsewhere in every worker.

    Worker i of a DataLoader counts in a lane of its own, and begins a new pass p there when it is
    started: from (i + 1) * 2^53 + p * 2^32, rounded up to a whole chunk. So workers of a loader
    never share a position with each other, with the training process, or with the workers of an
    epoch before, and each of them counts the same in every run. How many passes there were is in
    shared memory, for as long as the loaders get this very object, forked or spawned.

    Thread-safe. A pickled copy goes on where the original was.

    :param chunk_size: a pass begins at a multiple of it
    """

    def __init__(self, chunk_size: int) -> None:
        self._chunk_size = chunk_size
        self._passes = torch.zeros(MAX_NUM_WORKERS, dtype=torch.int64)
        self._next = 0
        self._end: int | None = None
        self._set_up()

    def _set_up(self) -> None:
        # Does nothing in a spawned worker: there it is shared already.
        self._passes.share_memory_()  # type: ignore[no-untyped-call]
        self._lock = threading.Lock()
        self._process: int | None = None

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for name in ("_lock", "_process"):
            del state[name]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()

    @property
    def position(self) -> int:
        """The position that is taken next in this process; may be set.

        :raises InvalidRequestError: as :meth:`take`
        """
        self._enter_process()
        return self._next

    @position.setter
    def position(self, position: int) -> None:
        self._enter_process()
        with self._lock:
            self._next, self._end = position, None

    def take(self, count: int) -> int:
        """Take as many positions and give the first of them.

        :raises InvalidRequestError: if there are none left, or there are too many workers
        """
        self._enter_process()
        with self._lock:
            if self._end is not None and self._next + count > self._end:
                self._begin_pass(count)
            first = self._next
            self._next += count
        return first

    def _enter_process(self) -> None:
        if self._process == os.getpid():
            return
        # A lock that another thread held when the process was forked stays locked here.
        self._lock = threading.Lock()
        if get_worker_info() is not None:
            self._begin_pass(0)
        self._process = os.getpid()

    def _begin_pass(self, count: int) -> None:
        info = get_worker_info()
        assert info is not None
        if info.id >= MAX_NUM_WORKERS:
            raise InvalidRequestError(
                f"num_workers={info.num_workers}; at most {MAX_NUM_WORKERS} are possible"
            )
        index = int(self._passes[info.id])
        begin = (info.id + 1) << _LANE_SHIFT | index << _NUMBER_BITS
        self._end = begin + 2**_NUMBER_BITS
        begin += -begin % self._chunk_size
        if begin + count > self._end or index >= _PASSES:
            raise InvalidRequestError(
                f"{count} positives after {index} passes; there are {_PASSES} passes of "
                f"{2**_NUMBER_BITS} positives in a worker: go on with another seed"
            )
        self._passes[info.id] += 1
        self._next = begin
