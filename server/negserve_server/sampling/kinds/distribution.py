"""The distribution of the replaced slot and of its new value, for one sampler kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from negserve.types.id_set import IdSet
from negserve_server.sampling.candidates import Candidates
from negserve_server.sampling.graph import Graph
from negserve_server.sampling.weights import Weights


@dataclass(frozen=True, slots=True)
class SlotValues:
    """The values that may be drawn in a slot.

    :ivar candidates: the ids that may be drawn
    :ivar weights: their weights; None if uniform
    :ivar name: key of the candidates in their order, for the tables of known values by rank; None
        if every id is a candidate
    """

    candidates: Candidates
    weights: Weights | None = None
    name: Hashable = None


class Distribution:
    """The distribution of one sampler kind: candidates, weights, and shares of the slots.

    This class is kind ``basic``: values uniform over all ids of a slot, equal shares. Other kinds
    override what they do differently. The probability of a false negative needs no formula of its
    own: ``negserve_server.report`` computes it from candidates, weights and shares.
    """

    #: What the shares of the slots depend on: only the slots, the relation, or the number of
    #: candidates that the relation has in each slot.
    shares_by: ClassVar[Literal["slots", "relations", "candidates"]] = "slots"

    def slot_values(
        self, graph: Graph, slot: int, subset: IdSet | None, alpha: float
    ) -> SlotValues:
        """Return the values of a slot.

        :param slot: 0 head, 1 relation, 2 tail
        :param subset: the only ids that may be drawn; None for all
        :param alpha: option of the configuration, for kinds that take it
        :raises InvalidRequestError: if no id can be drawn
        :raises TablesFull: if there is no room for the tables
        """
        del alpha
        if subset is None:
            return SlotValues(Candidates.every_id(graph.num_relations, graph.num_ids[slot]))
        name = ("subset", slot, subset.digest)
        return SlotValues(Candidates.same(subset.ids, graph.num_relations), None, name)

    def slot_shares(
        self, graph: Graph, candidates: Sequence[Candidates], relations: slice
    ) -> NDArray[np.uint64]:
        """Return the shares of the slots as whole numbers, proportional to the probabilities.

        :param candidates: of each slot of the scheme
        :param relations: consecutive relations; one if shares depend on the slots only
        :return: shape (relations, slots), each below 2^32; at least one of each row above 0
        """
        del graph
        return np.ones((relations.stop - relations.start, len(candidates)), dtype=np.uint64)


class ListedDistribution(Distribution, ABC):
    """Values uniform over a list per relation and slot, slots in proportion to their lists.

    So each candidate of a relation is equally likely, whichever slot it is for.
    """

    shares_by = "candidates"

    #: Name of the kind, which keys its tables.
    kind: ClassVar[str]
    #: Whether every id is a candidate of a relation without a list for the slot, or none is.
    is_free_without_list: ClassVar[bool] = False

    @abstractmethod
    def pairs(self, graph: Graph, slot: int) -> NDArray[np.integer]:
        """Return the lists of a slot: distinct (relation, id), sorted, shape (m, 2)."""

    def slot_values(
        self, graph: Graph, slot: int, subset: IdSet | None, alpha: float
    ) -> SlotValues:
        """Return the lists, without ids outside the subset."""
        del alpha
        name = (self.kind, slot, None if subset is None else subset.digest)
        candidates = graph.tables.get(
            ("candidates", name),
            lambda: self._candidates(graph, slot, None if subset is None else subset.ids),
            num_bytes=Candidates.least_bytes(graph.num_relations),
        )
        return SlotValues(candidates, None, name)

    def _candidates(self, graph: Graph, slot: int, ids: NDArray[np.uint32] | None) -> Candidates:
        pairs = self.pairs(graph, slot)
        relations = pairs[:, 0]
        if ids is not None:
            pairs = pairs[np.isin(pairs[:, 1], ids)]
        others = ids if self.is_free_without_list else np.empty(0, dtype=np.uint32)
        candidates = Candidates.per_relation(
            pairs, graph.num_relations, graph.num_ids[slot], others=others
        )
        if self.is_free_without_list and ids is not None:
            # A relation whose list has no id of the subset has no candidates: it is not free.
            is_emptied = np.zeros(graph.num_relations, dtype=np.bool_)
            is_emptied[relations] = True
            is_emptied[pairs[:, 0]] = False
            candidates.starts[is_emptied] = 0
            candidates.counts[is_emptied] = 0
        return candidates

    def slot_shares(
        self, graph: Graph, candidates: Sequence[Candidates], relations: slice
    ) -> NDArray[np.uint64]:
        """Return the number of candidates in each slot, or equal shares if there are none."""
        del graph
        counts = np.stack([of.counts[relations] for of in candidates], axis=1).astype(np.uint64)
        counts[counts.sum(axis=1) == 0] = 1
        return counts
