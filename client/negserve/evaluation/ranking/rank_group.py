"""The ranks of torch.distributed that share the queries of an evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor, distributed

from negserve._calls.process_rank import distributed_rank
from negserve.errors import InvalidRequestError, NegserveError

_Item = TypeVar("_Item")


class RankGroup:
    """All ranks, or this process alone.

    :param is_shared: whether ranks of torch.distributed, if it is initialised, share the queries
    """

    def __init__(self, is_shared: bool) -> None:
        found = distributed_rank() if is_shared else None
        self.rank, self.size = (0, 1) if found is None else (found.rank, found.world_size)

    def part(self, items: Sequence[_Item]) -> Sequence[_Item]:
        """Return what this rank does."""
        return items[self.rank :: self.size]

    def check_equal(self, *what: object) -> None:
        """Check that all ranks evaluate the same.

        :raises InvalidRequestError: on all of them, if not
        """
        if self.size == 1:
            return
        digest = hashlib.sha256(b"".join(_bytes(each) for each in what)).digest()
        number = int.from_bytes(digest[:7], "little")
        # The largest of both is minus the smallest of the other.
        extremes = self._tensor([number, -number])
        distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        if int(extremes[0]) != -int(extremes[1]):
            raise InvalidRequestError(
                "the ranks evaluate different things; give all of them the same graph, triples, "
                "splits, slots and batch size, or share_among_ranks=False"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do a step on all ranks: if it fails on one, none waits for it.

        :raises Exception: the error of the block
        :raises NegserveError: if only other ranks have one
        """
        if self.size == 1:
            yield
            return
        error = None
        try:
            yield
        except Exception as raised:
            error = raised
        num_failed = self._tensor([int(error is not None)])
        distributed.all_reduce(num_failed)
        if error is not None:
            raise error
        if int(num_failed[0]):
            raise NegserveError(
                f"the evaluation failed on {int(num_failed[0])} of {self.size} ranks; their errors "
                f"say why"
            )

    def join(self, found: Tensor) -> Tensor:
        """Add what all ranks have found, which is 0 where another rank has it.

        :param found: int64, of equal shape on all ranks
        """
        if self.size == 1:
            return found
        joined = found.to(self._device())
        distributed.all_reduce(joined)
        return joined

    def _tensor(self, values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device())

    @staticmethod
    def _device() -> torch.device:
        """Return the device whose tensors the process group sends."""
        # Gloo, MPI and groups with several backends send tensors of the CPU.
        if "cpu" in distributed.get_backend_config() or distributed.get_backend() != "nccl":
            return torch.device("cpu")
        return torch.device("cuda", torch.cuda.current_device())


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()
