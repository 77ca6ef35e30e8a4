"""Kind ``pseudotyped``: candidates are the ids seen in training in that slot of that relation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.candidates import distinct_pairs
from negserve_server.sampling.graph import Graph
from negserve_server.sampling.kinds.distribution import ListedDistribution


class PseudoTyped(ListedDistribution):
    """Replaces a slot by what training shows there."""

    kind = "pseudotyped"

    def pairs(self, graph: Graph, slot: int) -> NDArray[np.integer]:
        """Return the ids of the slot in the training triples of each relation."""
        return distinct_pairs(graph.training.relations, graph.training.column(slot))


DISTRIBUTION = PseudoTyped()
