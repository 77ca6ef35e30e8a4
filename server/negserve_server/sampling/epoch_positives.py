"""The positives of an epoch, for a kernel that takes those at any places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import NULL, address_of
from negserve_server.sampling.kernels.epochs.positive_source import PositiveSource
from negserve_server.sampling.permutation import Permutation
from negserve_server.triple_columns import TripleColumns


class EpochPositives:
    """Training triples in the order of an epoch. Immutable.

    :param triples: the training triples
    :param rows: rows of those in the epoch, int64, shape (m,); None for all
    :param order: a permutation of 0 to m - 1; None if they come as they are
    """

    def __init__(
        self, triples: TripleColumns, rows: NDArray[np.int64] | None, order: Permutation | None
    ) -> None:
        #: Kept, so that the arrays at the addresses stay alive.
        self._arrays = (triples, rows, order)
        self.columns = triples
        source = PositiveSource(
            num_positives=len(triples) if rows is None else len(rows),
            num_left=0 if order is None else order.num_left,
            num_right=0 if order is None else order.num_right,
            keys=int(NULL if order is None else address_of(order.keys)),
            rows=int(NULL if rows is None else address_of(rows)),
            heads=int(address_of(triples.heads)),
            relations=int(address_of(triples.relations)),
            tails=int(address_of(triples.tails)),
            entity_width=triples.heads.itemsize,
            relation_width=triples.relations.itemsize,
        )
        self._source = np.array(source, dtype=np.uint64)
        self.address = address_of(self._source)

    def allocate(self, n: int) -> TripleColumns:
        """Allocate the columns of some positives, in the widths of these."""
        of = self.columns
        return TripleColumns(
            np.empty(n, of.heads.dtype),
            np.empty(n, of.relations.dtype),
            np.empty(n, of.tails.dtype),
        )
