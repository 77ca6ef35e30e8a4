"""Unique positions of positives, for any number of ranks, workers and copies of a sampler."""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.context import get_spawning_popen
from typing import Any, Self

import torch
from torch.utils.data import get_worker_info

from negserve._calls.process_rank import Rank, distributed_rank, launched_rank
from negserve.errors import InvalidRequestError
from negserve.sampling.ranks import checked_rank

#: Most workers of a DataLoader.
MAX_NUM_WORKERS = 1024
#: Most ranks without explicit positions.
MAX_WORLD_SIZE = 2**12

# A position is a rank (12 bits), a lane (11 bits) and a number (41 bits). The training process has
# lane 0; worker i has lane i + 1, divided among its passes. The remaining lanes are divided among
# the copies of the sampler in other processes.
_RANK_SHIFT = 52
_LANE_SHIFT = 41
_PASS_SHIFT = 24
_COPY_SHIFT = 34
_NUM_PASSES = 2 ** (_LANE_SHIFT - _PASS_SHIFT)
_COPIES_BEGIN = (MAX_NUM_WORKERS + 1) << _LANE_SHIFT
_NUM_COPIES = (2**_RANK_SHIFT - _COPIES_BEGIN) >> _COPY_SHIFT

#: All instances in this process, by token.
_living: weakref.WeakValueDictionary[str, Positions] = weakref.WeakValueDictionary()
# Held while copies are numbered, so that no two get the same number.
_numbering = threading.Lock()


class Positions:
    """Counts positions: from 0 in the training process of rank 0, from elsewhere in others.

    Each rank, each worker of a DataLoader, each of its passes, and each copy of the sampler in
    another process has a range of positions of its own, the same one in every run; see
    ``docs/training.md``, *Positions*. The rank is the given one, else torch.distributed's, else
    that of the launcher's environment variables, else 0.

    Thread-safe. A copy within a process is the same object. Passes of workers are counted in shared
    memory, as long as the loaders' workers, forked or spawned, are given this object.

    :param chunk_size: ranges begin at multiples of it
    :param rank: this rank; None to find it when it is needed
    :param world_size: number of ranks; None to find it when it is needed
    :raises InvalidRequestError: if only one of both is given, or the rank is not below world_size
    """

    def __init__(
        self, chunk_size: int = 1, rank: int | None = None, world_size: int | None = None
    ) -> None:
        self._chunk_size = chunk_size
        self._rank = checked_rank(rank, world_size)
        self._token = uuid.uuid4().hex
        # Number of this copy; how many copies lie between the original and it; whether no copy in
        # another process can have the same number; whether the original's passes are shared.
        self._copy = 0
        self._depth = 0
        self._is_unique = True
        self._has_passes = True
        self._passes = _no_passes()
        self._num_copies = 0
        info = get_worker_info()
        if info is not None:
            # Made by a worker: the worker of the next epoch makes another one.
            self._has_passes = False
            self._enter_worker(info)
            return
        self._enter(_Section(0, 2**_LANE_SHIFT))

    def _enter_worker(self, info: Any) -> None:
        if info.id >= MAX_NUM_WORKERS:
            raise InvalidRequestError(
                f"num_workers={info.num_workers}; give at most {MAX_NUM_WORKERS}"
            )
        self._enter(self._next_pass(info.id))

    def _enter(self, section: _Section) -> None:
        """Start to count in this process."""
        self._process: int | None = os.getpid()
        self._lock = threading.Lock()
        self._section = section
        self._number = 0
        self._own: int | None = None
        self._launched: Rank | None = None
        _living[self._token] = self

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        self._enter_process()
        # Pickled while a process is being started, it goes to that process and nowhere else.
        is_started = get_spawning_popen() is not None
        with _numbering:
            self._num_copies += 1
        found = self._find_rank()
        state = {
            "_chunk_size": self._chunk_size,
            "_rank": found if found.world_size > 1 else self._rank,
            "_token": self._token,
            "_copy": self._num_copies - 1,
            "_depth": self._depth,
            "_is_unique": self._is_unique and is_started,
            "_has_passes": is_started,
            "_passes": self._passes if is_started else None,
            "_num_copies": 0,
            "_process": None,
        }
        return _restored, (type(self), state)

    @property
    def position(self) -> int:
        """Next position to be taken in this process; may be set.

        :raises InvalidRequestError: as :meth:`take`
        """
        self._enter_process()
        with self._lock:
            return self._next()

    @position.setter
    def position(self, position: int) -> None:
        if not 0 <= position < 2**64:
            raise InvalidRequestError(
                f"position={position}; give 0 to {2**64 - 1}", reason="POSITION_OUT_OF_RANGE"
            )
        self._enter_process()
        with self._lock:
            self._own = position

    def take(self, count: int) -> int:
        """Take ``count`` consecutive positions and return the first.

        :raises InvalidRequestError: if the range is used up, for too many workers or ranks, or if
            other processes may count through the same range
        """
        self._enter_process()
        with self._lock:
            first = self._next()
            if self._own is not None:
                # If they exceed 2^64, the server's or the sampler's error says so.
                self._own = first + count
                return first
            if self._number + count > self._room():
                if self._section.worker is None:
                    raise InvalidRequestError(
                        f"{count} positives after {self._number}; the range holds "
                        f"{self._section.size}: use another seed"
                    )
                self._section = self._next_pass(self._section.worker)
                self._number = 0
                first = self._next()
                if count > self._room():
                    raise InvalidRequestError(
                        f"{count} positives at once; a worker takes at most {self._room()}: draw "
                        f"smaller batches, or give positions"
                    )
            self._number += count
            return first

    def _next(self) -> int:
        if self._own is not None:
            return self._own
        rank = self._find_rank()
        self._check_uniqueness(rank)
        begin = (rank.rank << _RANK_SHIFT) + self._section.begin
        return begin + -begin % self._chunk_size + self._number

    def _room(self) -> int:
        return self._section.size - (self._chunk_size - 1)

    def _check_uniqueness(self, rank: Rank) -> None:
        if rank.rank >= MAX_WORLD_SIZE:
            raise InvalidRequestError(
                f"rank={rank.rank}; only {MAX_WORLD_SIZE} ranks can do without positions: give them"
            )
        is_worker = self._section.worker is not None
        if is_worker and not self._has_passes:
            raise InvalidRequestError(
                "this sampler was made in a worker, or came there without its counts, so later "
                "epochs of the worker would take the same positions. Make it in the training "
                "process, or give positions"
            )
        is_ambiguous = (is_worker or not self._is_unique) and rank.world_size == 1
        if self._depth > 1 or (self._depth == 1 and is_ambiguous):
            raise InvalidRequestError(
                "this sampler was copied from another process, and other copies may take the same "
                "positions. Give positions, or rank and world_size, or make the sampler in this "
                "process, or call load_state_dict if it replaces the original"
            )

    def _find_rank(self) -> Rank:
        found = self._rank
        if found is None or found.source != "arguments":
            found = distributed_rank() or found
        if found is None:
            if self._launched is None:
                self._launched = launched_rank()
            found = self._launched
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the counts of this process and of the workers that it starts.

        Equal on all ranks that have drawn equally often.

        :raises InvalidRequestError: in a worker of a DataLoader, which has no state of its own
        """
        self._enter_process()
        self._refuse_worker("state_dict")
        with self._lock:
            passes = self._passes.tolist()
            while passes and passes[-1] == 0:
                passes.pop()
            state = {"number": self._number, "passes": passes, "copies": self._num_copies}
            return state if self._own is None else {**state, "position": self._own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a state of :meth:`state_dict`.

        :raises InvalidRequestError: if it is not such a state, or in a worker of a DataLoader
        """
        self._enter_process()
        self._refuse_worker("load_state_dict")
        number, copies, passes, own = _checked_state(state)
        with self._lock:
            if self._depth > 1 or not self._is_unique:
                # This copy takes the place of its original.
                self._depth, self._is_unique = 0, True
                self._section = _Section(0, 2**_LANE_SHIFT)
            self._number, self._num_copies, self._own = number, copies, own
            self._passes.zero_()
            self._passes[: len(passes)] = torch.tensor(passes, dtype=torch.int64)

    def _refuse_worker(self, method: str) -> None:
        if self._section.worker is not None:
            raise InvalidRequestError(
                f"{method} in a worker of a DataLoader; call it in the training process"
            )

    def _enter_process(self) -> None:
        if self._process == os.getpid():
            return
        was_forked = self._process is not None
        info = get_worker_info()
        if info is not None:
            self._enter_worker(info)
            return
        if was_forked:
            self._copy = self._num_copies - 1
        self._num_copies = 0
        self._depth += 1
        # This copy's workers count their own passes.
        self._passes, self._has_passes = _no_passes(), True
        if self._copy >= _NUM_COPIES:
            self._depth = 2  # no lane is left for it
        self._enter(_Section(_COPIES_BEGIN + (self._copy << _COPY_SHIFT), 2**_COPY_SHIFT))

    def _next_pass(self, worker: int) -> _Section:
        index = int(self._passes[worker])
        if index >= _NUM_PASSES:
            raise InvalidRequestError(
                f"{index} passes in worker {worker}; no more are possible: use another seed"
            )
        self._passes[worker] += 1
        begin = ((worker + 1) << _LANE_SHIFT) + (index << _PASS_SHIFT)
        return _Section(begin, 2**_PASS_SHIFT, worker)


class _Section:
    """A range of a rank's positions.

    :ivar begin: first position, relative to the rank's first
    :ivar size: number of positions
    :ivar worker: number of the worker whose pass it is; None outside workers
    """

    __slots__ = ("begin", "size", "worker")

    def __init__(self, begin: int, size: int, worker: int | None = None) -> None:
        self.begin, self.size, self.worker = begin, size, worker


def _no_passes() -> torch.Tensor:
    passes = torch.zeros(MAX_NUM_WORKERS, dtype=torch.int64)
    return passes.share_memory_()  # type: ignore[no-untyped-call, no-any-return]


def _restored(cls: type[Positions], state: dict[str, Any]) -> Positions:
    """Unpickle: return the same object if it lives in this process, else a copy."""
    living = _living.get(state["_token"])
    if living is not None:
        return living
    positions = cls.__new__(cls)
    positions.__dict__.update(state)
    if not positions._has_passes:
        positions._passes = _no_passes()
    _living[positions._token] = positions
    return positions


def _checked_state(state: Mapping[str, Any]) -> tuple[int, int, list[int], int | None]:
    try:
        number, copies = int(state["number"]), int(state["copies"])
        passes = [int(index) for index in state["passes"]]
        own = int(state["position"]) if "position" in state else None
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{state!r:.200} is not a state of a sampler; give a result of state_dict"
        ) from error
    limits = ((number, 2**_LANE_SHIFT), (copies, 2**63), (own or 0, 2**64))
    if (
        not all(0 <= value <= most for value, most in limits)
        or not all(0 <= index <= _NUM_PASSES for index in passes)
        or len(passes) > MAX_NUM_WORKERS
    ):
        raise InvalidRequestError(
            f"{state!r:.200} is not a state of a sampler: expected a number from 0 to "
            f"{2**_LANE_SHIFT}, and at most {_NUM_PASSES} passes of each of at most "
            f"{MAX_NUM_WORKERS} workers"
        )
    return number, copies, passes, own


def _before_fork() -> None:
    """Count the copies that a fork makes; whether one is a worker is known only later."""
    _numbering.acquire()
    for positions in list(_living.values()):
        # The same error is raised again when positions are taken.
        with suppress(InvalidRequestError):
            positions._enter_process()
        positions._num_copies += 1


def _after_fork_in_parent() -> None:
    _numbering.release()


def _after_fork_in_child() -> None:
    global _numbering  # noqa: PLW0603
    _numbering = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
