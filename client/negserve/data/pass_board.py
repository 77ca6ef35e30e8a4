"""What a training process and the workers of its loaders tell each other of passes."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from negserve.errors import InvalidRequestError
from negserve.sampling.positions import MAX_NUM_WORKERS

# Where the shared tensor has what; behind it, numbers of each worker.
_EPOCH, _START, _VERSION, _BY_LOADER, _WORKERS = range(5)
# What a worker notes: the version that it began; the version under which a loader gave it a state,
# that state's epoch, and whether its part of the epoch was over.
_BEGUN, _RESUMED, _RESUMED_EPOCH, _RESUMED_OVER = range(4)
_REMEDY = (
    "call set_epoch or load_state_dict before each pass over a DataLoader with workers, or use "
    "negserve.data.TripleLoader"
)


class Place(NamedTuple):
    """Where a pass begins, and the version of the board that said so."""

    epoch: int
    start: int
    version: int


class PassBoard:
    """Shared memory: the training process says where passes begin, workers which they began.

    Living workers see it, too. A pickled copy shares it where it is given to a process that is
    being started, and is a board of its own elsewhere.
    """

    def __init__(self) -> None:
        self._numbers = torch.zeros(_WORKERS + 4 * MAX_NUM_WORKERS, dtype=torch.int64)
        self._workers = self._numbers[_WORKERS:].view(MAX_NUM_WORKERS, 4)
        self._set_up()

    def _set_up(self) -> None:
        # Does nothing in a spawned worker: there it is shared already.
        self._numbers.share_memory_()  # type: ignore[no-untyped-call]
        self._workers = self._numbers[_WORKERS:].view(MAX_NUM_WORKERS, 4)

    def __getstate__(self) -> dict[str, Any]:
        return {"_numbers": self._numbers}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._set_up()

    def publish(self, epoch: int, start: int) -> None:
        """Say where the next pass begins."""
        self._numbers[_EPOCH], self._numbers[_START] = epoch, start
        self._numbers[_VERSION] += 1

    def set_by_loader(self, is_by_loader: bool) -> None:
        """Say whether a loader takes care of passes, and publishes before each."""
        self._numbers[_BY_LOADER] = int(is_by_loader)

    @property
    def is_by_loader(self) -> bool:
        """Whether a loader takes care of passes."""
        return bool(self._numbers[_BY_LOADER])

    @property
    def place(self) -> Place:
        """Where the next pass begins."""
        return Place(*(int(number) for number in self._numbers[:_BY_LOADER]))

    @property
    def is_read(self) -> bool:
        """Whether workers have begun a pass from where the board says, whoever cares for it."""
        version = self._numbers[_VERSION]
        begun = self._workers[:, _BEGUN] == version
        return bool((begun | (self._workers[:, _RESUMED] == version)).any())

    def begin(self, worker: int) -> Place:
        """Note that a worker begins a pass.

        :raises InvalidRequestError: if it would begin again where it has begun before
        """
        place, own = self.place, self._workers[worker]
        # A worker that is slow to start may see the next pass already and begin it twice; what
        # came of the first time is dropped by the loader.
        if not self._numbers[_BY_LOADER]:
            if own[_BEGUN] == place.version:
                raise InvalidRequestError(
                    f"a pass from epoch={place.epoch}, start={place.start} has begun before; "
                    f"{_REMEDY}"
                )
            # A loader that is given the state of an epoch's end starts workers in vain, and then
            # others for the epoch behind it.
            is_behind = own[_RESUMED_OVER] and own[_RESUMED_EPOCH] + 1 == place.epoch
            if own[_RESUMED] == place.version and not is_behind:
                raise InvalidRequestError(
                    f"the loader's state was of epoch={int(own[_RESUMED_EPOCH])}, and this pass "
                    f"would be from epoch={place.epoch}, start={place.start}; {_REMEDY}"
                )
        own[_BEGUN] = place.version
        return place

    def resume(self, worker: int, epoch: int, is_over: bool) -> int:
        """Note that a loader gave a worker the state that its pass begins at; gives the version.

        :param is_over: whether the worker's part of the epoch was over
        :raises InvalidRequestError: if another epoch was set
        """
        place, own = self.place, self._workers[worker]
        # The first version is no one's wish.
        if place.version > 1 and place.epoch not in {epoch, epoch + is_over}:
            raise InvalidRequestError(
                f"the loader's state is of epoch={epoch}, but epoch={place.epoch} was set; call "
                f"set_epoch({epoch}) before this pass"
            )
        own[_RESUMED_EPOCH], own[_RESUMED_OVER] = epoch, int(is_over)
        own[_RESUMED] = place.version
        return place.version
