"""Statistics per relation, from which Bernoulli sampling takes its probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RelationStatistics:
    """Statistics of the training triples per relation id, float64, shape (num_relations,).

    :ivar tails_per_head: tph, triples per distinct head; NaN for a relation without training
        triples
    :ivar heads_per_tail: hpt, triples per distinct tail; NaN likewise
    :ivar head_probability: tph / (tph + hpt) (Wang et al., AAAI 2014) rounded down to a multiple of
        2^-32, with which Bernoulli sampling replaces the head; 0.5 for a relation without training
        triples
    """

    tails_per_head: NDArray[np.float64]
    heads_per_tail: NDArray[np.float64]
    head_probability: NDArray[np.float64]
