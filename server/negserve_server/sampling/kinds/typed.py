"""Kind ``typed``: candidates are the ids that the type constraints allow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.graph import Graph
from negserve_server.sampling.kinds.distribution import ListedDistribution


class Typed(ListedDistribution):
    """Replaces a slot by what the type constraints of the graph allow there.

    Krompass, Baier and Tresp: "Type-constrained representation learning in knowledge graphs",
    ISWC 2015.
    """

    kind = "typed"
    is_free_without_list = True

    def pairs(self, graph: Graph, slot: int) -> NDArray[np.integer]:
        """Return the allowed ids; a relation that has none in the slot is not constrained there."""
        pairs = graph.heads if slot == 0 else graph.tails
        assert pairs is not None
        return pairs


DISTRIBUTION = Typed()
