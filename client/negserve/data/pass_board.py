"""Shared memory by which a training process and its loaders' workers agree on passes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from negserve.errors import InvalidRequestError
from negserve.sampling.positions import MAX_NUM_WORKERS

# Indices into the shared tensor; the numbers of each worker follow.
_EPOCH, _START, _VERSION, _BY_LOADER, _WORKERS = range(5)
# A worker's numbers: the version whose pass it began; the version at which its loader gave it a
# state, that state's epoch, and whether the worker's part of that epoch was over.
_BEGUN, _RESUMED, _RESUMED_EPOCH, _RESUMED_OVER = range(4)
_REMEDY = (
    "call set_epoch or load_state_dict before each pass over a DataLoader with workers, or use "
    "negserve.data.TripleLoader"
)


class Place(NamedTuple):
    """Where a pass begins, and the board's version at that time."""

    epoch: int
    start: int
    version: int


class PassBoard:
    """Shared memory: the training process publishes where passes begin, workers what they began.

    Workers that already run see changes. A copy pickled for a process that is being started shares
    the memory; any other pickled copy is a separate board.
    """

    def __init__(self) -> None:
        self._memory = torch.zeros(_WORKERS + 4 * MAX_NUM_WORKERS, dtype=torch.int64)
        self._set_up()

    def _set_up(self) -> None:
        # No effect in a spawned worker, where the tensor is shared already.
        self._memory.share_memory_()  # type: ignore[no-untyped-call]
        # A pass without workers publishes after each batch; torch takes 50 times as long for that.
        self._numbers = self._memory.numpy()
        self._workers = self._numbers[_WORKERS:].reshape(MAX_NUM_WORKERS, 4)

    def __getstate__(self) -> dict[str, Any]:
        return {"_memory": self._memory}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()

    def publish(self, epoch: int, start: int) -> None:
        """Set where the next pass begins."""
        self._numbers[_EPOCH], self._numbers[_START] = epoch, start
        self._numbers[_VERSION] += 1

    def set_by_loader(self, is_by_loader: bool) -> None:
        """Set whether a loader manages the passes, and so publishes before each."""
        self._numbers[_BY_LOADER] = int(is_by_loader)

    @property
    def is_by_loader(self) -> bool:
        """Whether a loader manages the passes."""
        return bool(self._numbers[_BY_LOADER])

    @property
    def place(self) -> Place:
        """Where the next pass begins."""
        return Place(*(int(number) for number in self._numbers[:_BY_LOADER]))

    @property
    def is_read(self) -> bool:
        """Whether workers have begun a pass from the published place."""
        version = self._numbers[_VERSION]
        begun = self._workers[:, _BEGUN] == version
        return bool((begun | (self._workers[:, _RESUMED] == version)).any())

    def begin(self, worker: int) -> Place:
        """Record that a worker begins a pass, and return where.

        :raises InvalidRequestError: if the worker already began a pass there
        """
        place, own = self.place, self._workers[worker]
        # Not checked under a loader: a worker that starts slowly may see the next pass already and
        # begin it twice; the loader drops the results of the first time.
        if not self._numbers[_BY_LOADER]:
            if own[_BEGUN] == place.version:
                raise InvalidRequestError(
                    f"a pass from epoch={place.epoch}, start={place.start} was already begun; "
                    f"{_REMEDY}"
                )
            # A loader with the state of an epoch's end starts workers that have nothing to read,
            # and then others for the next epoch.
            is_behind = own[_RESUMED_OVER] and own[_RESUMED_EPOCH] + 1 == place.epoch
            if own[_RESUMED] == place.version and not is_behind:
                raise InvalidRequestError(
                    f"the loader's state was of epoch={int(own[_RESUMED_EPOCH])}, but this pass "
                    f"would begin at epoch={place.epoch}, start={place.start}; {_REMEDY}"
                )
        own[_BEGUN] = place.version
        return place

    def resume(self, worker: int, epoch: int, is_over: bool) -> int:
        """Record that a loader gave a worker the state at which its pass begins.

        :param is_over: whether the worker's part of the epoch was over
        :return: the version of the published place
        :raises InvalidRequestError: if another epoch was set
        """
        place, own = self.place, self._workers[worker]
        # Version 1 was published by the stream itself; nobody chose its epoch.
        if place.version > 1 and place.epoch not in {epoch, epoch + is_over}:
            raise InvalidRequestError(
                f"the loader's state is of epoch={epoch}, but epoch={place.epoch} was set; call "
                f"set_epoch({epoch}) before this pass"
            )
        own[_RESUMED_EPOCH], own[_RESUMED_OVER] = epoch, int(is_over)
        own[_RESUMED] = place.version
        return place.version
