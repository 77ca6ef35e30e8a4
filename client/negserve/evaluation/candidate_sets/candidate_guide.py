"""Which candidates to look at first: those that training shows in a slot, and those like them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negserve.errors import InvalidRequestError
from negserve.evaluation.evaluated_graph import kept_columns, splits_to_filter
from negserve.types.checks.invalid import check_integer, invalid_configuration
from negserve.types.config import SLOTS, Slot
from negserve.types.known_values import KnownValues
from negserve.types.triples import as_triples, check_triple_ids
from negserve.types.triples_factory import TriplesFactory

#: Entities whose slots are counted at once: a table of so many rows.
_BLOCK = 4096
#: Relations of a graph: the table of their slots then takes half a gigabyte.
_MOST_RELATIONS = 4096


class CandidateGuide:
    """An order of all entities for each relation and side, likely answers first.

    First those that training shows in that slot of the relation, the most frequent first. Then
    all others, by the sum over the slots that training shows them in of the share of that slot's
    entities which are in the wanted slot as well (Cornell et al., 2025, compare such
    recommenders). Equal ones by id. A pure function of the training triples.

    :param graph: a triples factory, in process or remote
    :param training: its training triples, integer ids, shape (n, 3)
    :raises InvalidRequestError: for ids outside the graph, and for more than 4,096 relations
    """

    def __init__(self, graph: TriplesFactory, training: ArrayLike) -> None:
        triples = as_triples(training)
        check_triple_ids(triples, graph.num_entities, graph.num_relations)
        if graph.num_relations > _MOST_RELATIONS:
            raise InvalidRequestError(
                f"the graph has {graph.num_relations} relations; the table of a guide is quadratic "
                f"in them, and at most {_MOST_RELATIONS} are possible: rank fully, or use "
                f"SampledRanks",
                reason="LIMIT_EXCEEDED",
                metadata={"value": str(graph.num_relations), "limit": str(_MOST_RELATIONS)},
            )
        self._graph = graph
        # A slot is a relation's head (r) or tail (r + num_relations).
        entities = np.concatenate([triples[:, 0], triples[:, 2]])
        slots = np.concatenate([triples[:, 1], triples[:, 1] + graph.num_relations])
        num_slots = 2 * graph.num_relations
        codes, self._times = np.unique(entities * num_slots + slots, return_counts=True)
        self._entities, self._slots = codes // num_slots, codes % num_slots
        together = np.zeros((num_slots, num_slots))
        for start in range(0, graph.num_entities, _BLOCK):
            rows = slice(*np.searchsorted(self._entities, [start, start + _BLOCK]))
            shown = np.zeros((_BLOCK, num_slots))
            shown[self._entities[rows] - start, self._slots[rows]] = 1
            together += shown.T @ shown
        self._shares = together / np.maximum(together.diagonal(), 1)[:, None]

    def order(self, relation: int, side: Slot) -> NDArray[np.int64]:
        """Give all entities, the likeliest first, shape (num_entities,)."""
        slot = self._slot(relation, side)
        alike = np.bincount(
            self._entities, self._shares[self._slots, slot], minlength=self._graph.num_entities
        )
        times = np.zeros(self._graph.num_entities, dtype=np.int64)
        here = self._slots == slot
        times[self._entities[here]] = self._times[here]
        # Sums of floats depend on the machine in their last digits, which must not order equals.
        order: NDArray[np.int64] = np.lexsort((-np.round(alike, 9), -times))
        return order

    def _slot(self, relation: int, side: Slot) -> int:
        if side == "relation":
            raise invalid_configuration("side", side, "give head or tail")
        check_integer("relation", int(relation), 0, self._graph.num_relations - 1)
        return int(relation) + (self._graph.num_relations if side == "tail" else 0)

    def first(
        self, positives: ArrayLike, side: Slot, depth: int, splits: Sequence[str] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Give the first candidates of each query that make no known triple.

        :param positives: integer ids, shape (m, 3)
        :param side: the slot that is asked for, head or tail
        :param depth: how many candidates
        :param splits: whose triples are known; empty for all of the graph
        :return: candidates, shape (m, depth), never the true answer; and the mask, bool, shape
            (m, depth), True where there is one
        :raises InvalidRequestError: for ids outside the graph
        """
        check_integer("depth", depth, 1, 2**31)
        triples, known = self._known(positives, side, splits)
        targets = triples[:, SLOTS.index(side)]
        candidates = np.zeros((len(triples), depth), dtype=np.int64)
        mask = np.zeros((len(triples), depth), dtype=np.bool_)
        for relation in np.unique(triples[:, 1]):
            order = self.order(relation, side)
            place = np.empty_like(order)
            place[order] = np.arange(len(order))
            for row in np.flatnonzero(triples[:, 1] == relation).tolist():
                # So many are enough, whichever of them are known.
                few = order[: depth + len(known[row]) + 1]
                left_out = place[np.append(known[row].astype(np.int64), targets[row])]
                is_legal = np.ones(len(few), dtype=np.bool_)
                is_legal[left_out[left_out < len(few)]] = False
                legal = few[is_legal][:depth]
                candidates[row, : len(legal)], mask[row, : len(legal)] = legal, True
        return candidates, mask

    def count_seen(
        self, positives: ArrayLike, side: Slot, splits: Sequence[str] | None = None
    ) -> NDArray[np.int64]:
        """Count the candidates of each query that training shows in the slot; they come first.

        Parameters as of :meth:`first`.

        :return: without known ones and the true answer, int64, shape (m,)
        """
        triples, known = self._known(positives, side, splits)
        slots = np.array([self._slot(int(relation), side) for relation in triples[:, 1]])
        targets = triples[:, SLOTS.index(side)]
        num_slots = 2 * self._graph.num_relations
        codes = self._entities * num_slots + self._slots

        def is_seen(entities: NDArray[np.int64], of: NDArray[np.int64]) -> NDArray[np.bool_]:
            wanted = entities * num_slots + of
            found: NDArray[np.bool_] = (
                np.append(codes, -1)[np.searchsorted(codes, wanted)] == wanted
            )
            return found

        rows = known.rows()
        lost = is_seen(known.values.astype(np.int64), slots[rows])
        counts = np.bincount(self._slots, minlength=num_slots)[slots].astype(np.int64)
        counts -= np.bincount(rows[lost], minlength=len(triples))
        is_new = ~self._graph.contains(triples, splits_to_filter(self._graph, splits))
        left: NDArray[np.int64] = counts - (is_new & is_seen(targets, slots))
        return left

    def _known(
        self, positives: ArrayLike, side: Slot, splits: Sequence[str] | None
    ) -> tuple[NDArray[np.int64], KnownValues]:
        if side == "relation":
            raise invalid_configuration("side", side, "give head or tail")
        triples = as_triples(positives)
        return triples, self._graph.known(
            triples[:, kept_columns(side)], side, splits_to_filter(self._graph, splits)
        )
