"""Kind ``bernoulli``: the head with probability tph/(tph+hpt), values uniform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from negserve_server.sampling.candidates import Candidates
from negserve_server.sampling.graph import Graph
from negserve_server.sampling.kinds.distribution import Distribution


class Bernoulli(Distribution):
    """Replaces the side of a relation that has fewer distinct ids more often.

    Wang, Zhang, Feng and Chen: "Knowledge graph embedding by translating on hyperplanes", AAAI
    2014, section 4.1.
    """

    shares_by = "relations"

    def slot_shares(
        self, graph: Graph, candidates: Sequence[Candidates], relations: slice
    ) -> NDArray[np.uint64]:
        """Return distinct tails and heads, since tph/(tph+hpt) = tails/(heads+tails).

        1 and 1 for a relation without training triples. If only one slot may be replaced, it has
        the whole share.
        """
        if len(candidates) == 1:
            return super().slot_shares(graph, candidates, relations)
        statistics = graph.statistics
        counts = (statistics.num_tails[relations], statistics.num_heads[relations])
        return np.maximum(np.stack(counts, axis=1), 1).astype(np.uint64)


DISTRIBUTION = Bernoulli()
