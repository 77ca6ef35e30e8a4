"""How far a worker of a loader is in its part of an epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from negserve._calls.epoch_cursor import epoch_and_start
from negserve.errors import InvalidRequestError


@dataclass(kw_only=True)
class WorkerProgress:
    """Where a worker's next pass, or the rest of the one at hand, begins.

    :ivar epoch: number of the epoch
    :ivar start: where the epoch's rest begins of which it takes every ``num_workers``-th batch
    :ivar worker: which worker
    :ivar num_workers: how many share the rank's batches
    :ivar stride: positions of one batch of all ranks
    :ivar has_begun: whether a pass goes on from here, rather than being about to
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
        """Read a state of :meth:`state_dict`, or one of a stream.

        :raises InvalidRequestError: if it is none, or was made with other workers or batches
        """
        epoch, start = epoch_and_start(state)
        own: dict[str, Any] = {"worker": worker, "num_workers": num_workers, "stride": stride}
        for name, value in own.items():
            if state.get(name, value) != value:
                raise InvalidRequestError(
                    f"the state is of a worker with {name}={state[name]}, here it is {value}; go "
                    f"on with the same number of workers, ranks and batch size, or keep a batch's "
                    f"state, from which any go on"
                )
        return cls(epoch=epoch, start=start, **own)

    def is_over(self, end: int) -> bool:
        """Tell whether none are left for this worker.

        :param end: where the epoch ends
        """
        return self.start + self.worker * self.stride >= end

    def advance(self) -> None:
        """Go behind one batch of each worker."""
        self.start += self.stride * self.num_workers

    def state_dict(self) -> dict[str, int]:
        """Give what :meth:`load` reads."""
        state = vars(self).copy()
        del state["has_begun"]
        return state
