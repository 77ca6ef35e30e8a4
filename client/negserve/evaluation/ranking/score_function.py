"""What an evaluation needs of a model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from negserve.types.config import Slot


class ScoreFunction(Protocol):
    """Scores every id for the slot that a query asks for; higher is better.

    Called without gradients, with all queries of a batch at once.
    """

    def __call__(self, pairs: Tensor, slot: Slot, /) -> Tensor:
        """Score all ids.

        :param pairs: the two given ids, in the order head, relation, tail, int64, shape (n, 2)
        :param slot: ``head``, ``tail`` or ``relation``
        :return: any floating dtype, shape (n, num_entities); for ``relation`` (n, num_relations)
        """
        ...
