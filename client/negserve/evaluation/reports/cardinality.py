"""Relations by how many heads a tail has, and how many tails a head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve.types.answers.relation_statistics import RelationStatistics

#: The kinds of Bordes et al. (NeurIPS 2013), heads before tails; ``unseen`` has no training triple.
RELATION_KINDS = ("1-1", "1-N", "N-1", "N-N", "unseen")
#: From this average on, a side is "many".
_MANY = 1.5


def relation_kinds(statistics: RelationStatistics) -> NDArray[np.str_]:
    """Name the kind of each relation, one of RELATION_KINDS, shape (num_relations,).

    A side is "N" from an average of 1.5 on, over the training triples: tails per (head, relation),
    heads per (relation, tail). So a relation 1-N has one head for a tail and several tails for a
    head.
    """
    many_heads = statistics.heads_per_tail >= _MANY
    many_tails = statistics.tails_per_head >= _MANY
    kinds = np.array(RELATION_KINDS)[many_heads * 2 + many_tails * 1]
    return np.where(np.isnan(statistics.tails_per_head), "unseen", kinds)
