"""Progress of a loader's worker in its part of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from negserve._protocol.epoch_progress import epoch_and_start
from negserve.errors import InvalidRequestError


@dataclass(kw_only=True)
class WorkerProgress:
    """Where a worker's next pass, or the rest of its current pass, begins.

    :ivar epoch: number of the epoch
    :ivar start: position where the rest begins; the worker takes every ``num_workers``-th batch
        of it
    :ivar worker: number of the worker
    :ivar num_workers: how many workers share the rank's batches
    :ivar stride: positions of one batch of all ranks
    :ivar has_begun: whether a pass has started from here
    """

    epoch: int
    start: int
    worker: int
    num_workers: int
    stride: int
    has_begun: bool = False

    @classmethod
    def load(
        cls, state: Mapping[str, Any], worker: int, num_workers: int, stride: int
    ) -> WorkerProgress:
        """Load a state of :meth:`state_dict`, or one of a stream.

        :raises InvalidRequestError: if it is not such a state, or was made with another number of
            workers, ranks or positives a batch
        """
        epoch, start = epoch_and_start(state)
        own: dict[str, Any] = {"worker": worker, "num_workers": num_workers, "stride": stride}
        for name, value in own.items():
            if state.get(name, value) != value:
                raise InvalidRequestError(
                    f"the state is of a worker with {name}={state[name]}, but this worker has "
                    f"{name}={value}; use the same number of workers, ranks and batch size, or the "
                    f"state of a batch, from which any number may resume"
                )
        return cls(epoch=epoch, start=start, **own)

    def is_over(self, end: int) -> bool:
        """Return whether no batch is left for this worker.

        :param end: position where the epoch ends
        """
        return self.start + self.worker * self.stride >= end

    def advance(self) -> None:
        """Move on by one batch of each worker."""
        self.start += self.stride * self.num_workers

    def state_dict(self) -> dict[str, int]:
        """Return the state for :meth:`load`."""
        state = vars(self).copy()
        del state["has_begun"]
        return state
