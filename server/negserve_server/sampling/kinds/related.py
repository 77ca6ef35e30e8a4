"""Kind ``related``: candidates are the ids seen in training in either slot of that relation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.candidates import distinct_pairs
from negserve_server.sampling.graph import Graph
from negserve_server.sampling.kinds.distribution import ListedDistribution


class Related(ListedDistribution):
    """Replaces a slot by what training shows in that or the opposite slot."""

    kind = "related"

    def pairs(self, graph: Graph, slot: int) -> NDArray[np.int64]:
        """Return the heads and tails of the training triples of each relation."""
        del slot
        relations, (heads, _, tails) = graph.training[:, 1], graph.training.T
        return distinct_pairs(np.tile(relations, 2), np.concatenate([heads, tails]))


DISTRIBUTION = Related()
