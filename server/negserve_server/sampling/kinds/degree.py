"""Kind ``degree``: values weighted by their training frequency in the slot, to the power alpha."""

from __future__ import annotations

import numpy as np

from negserve.types.checks.invalid import invalid_configuration
from negserve.types.config import SLOTS
from negserve.types.id_set import IdSet
from negserve_server.sampling.candidates import Candidates
from negserve_server.sampling.graph import Graph
from negserve_server.sampling.kinds.distribution import Distribution, SlotValues
from negserve_server.sampling.weights import Frequencies, Ranking, Weights, ranking_key


class Degree(Distribution):
    """Draws frequent ids more often.

    Mikolov, Sutskever, Chen, Corrado and Dean: "Distributed representations of words and phrases
    and their compositionality", NIPS 2013, section 2.2.
    """

    def slot_values(
        self, graph: Graph, slot: int, subset: IdSet | None, alpha: float
    ) -> SlotValues:
        """Return the ids with their units; exponents with the same order share a ranking.

        :raises InvalidRequestError: if all ids weigh 0
        """
        num_ids = graph.num_ids[slot]
        chosen = slice(None) if subset is None else subset.ids
        frequencies = np.bincount(graph.training.column(slot), minlength=num_ids)[chosen]
        distinct = Frequencies.of(frequencies)
        of_frequency = distinct.units(alpha)
        if not of_frequency.any():
            raise invalid_configuration(
                "candidates",
                f"{len(frequencies)} entities",
                f"none of them is a {SLOTS[slot]} of a training triple, so all weigh 0; "
                f"choose others, or alpha=0",
            )
        units = np.zeros(num_ids, dtype=np.int64)
        units[chosen] = of_frequency[distinct.owners]
        num_ranks = int(np.count_nonzero(units))
        digest = None if subset is None else subset.digest
        name = ("degree", slot, digest, ranking_key(of_frequency))
        ranking = graph.tables.get(
            ("ranking", name), lambda: Ranking.of(units), num_bytes=4 * (num_ids + num_ranks)
        )
        weights = graph.tables.get(
            ("weights", name, alpha),
            lambda: Weights.of(units, ranking),
            num_bytes=Weights.least_bytes(num_ranks),
        )
        return SlotValues(Candidates.same(ranking.ids, graph.num_relations), weights, name)


DISTRIBUTION = Degree()
