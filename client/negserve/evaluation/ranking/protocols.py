"""What an evaluation needs of a graph and of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from numpy.typing import ArrayLike
from torch import Tensor

from negserve.types.config import Slot
from negserve.types.known_values import KnownValues
from negserve.types.relation_statistics import RelationStatistics


class EvaluationGraph(Protocol):
    """A triples factory: remote, in process, or computed on the client."""

    @property
    def num_entities(self) -> int:
        """Size of the entity id space."""
        ...

    @property
    def num_relations(self) -> int:
        """Size of the relation id space."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of id space, triples and type constraints."""
        ...

    @property
    def relation_statistics(self) -> RelationStatistics:
        """Per-relation statistics of the training triples."""
        ...

    def known(self, pairs: ArrayLike, slot: Slot, splits: Sequence[str]) -> KnownValues:
        """Return the known values of a slot for each pair of ids of the other two slots."""
        ...


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
