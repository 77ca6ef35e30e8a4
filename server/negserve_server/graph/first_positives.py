"""A check whether the first positives of a stream are triples of the graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negserve_server.graph.triples_factory import TriplesFactory

#: Number of positives checked. It gives a share within 0.03 (two standard errors).
NUM_CHECKED = 1000
#: Trainers that add triples of their own, or evaluate some, know more of theirs. Of ids that were
#: given in another order, the graph's density is known: 0.00001 for FB15k-237, 0.007 for UMLS.
MIN_KNOWN = 0.1
#: If half of so many are known, all others need not be looked at: of streams that know less than
#: ``MIN_KNOWN``, 1 in 10^15 does so.
_FIRST_SAMPLE = 64


class FirstPositives:
    """Keeps the first positives of a stream until there are enough to check.

    :param name: of the dataset
    :param factory: the dataset
    """

    def __init__(self, name: str, factory: TriplesFactory) -> None:
        self._name = name
        self.factory = factory
        self._kept: list[NDArray[np.int64]] = []
        self._num_lacking = NUM_CHECKED

    def add(self, positives: NDArray[np.int64]) -> None:
        """Add a batch, shape (n, 3)."""
        if self._num_lacking:
            self._kept.append(positives[: self._num_lacking].copy())
            self._num_lacking -= len(self._kept[-1])

    @property
    def is_checking(self) -> bool:
        """Whether the check is still to come."""
        return bool(self._num_lacking or self._kept)

    @property
    def are_complete(self) -> bool:
        """Whether there are enough positives, and they were not checked yet."""
        return not self._num_lacking and bool(self._kept)

    def check(self) -> str | None:
        """Return a warning if most positives are unknown; to be called once.

        Takes less than a millisecond if most are known, else a few.
        """
        positives = np.concatenate(self._kept)
        self._kept.clear()
        if self._num_known(positives[:_FIRST_SAMPLE]) >= _FIRST_SAMPLE / 2:
            return None
        num_known = self._num_known(positives)
        if num_known >= MIN_KNOWN * len(positives):
            return None
        return (
            f"{num_known} of the first {len(positives)} positives are triples of dataset "
            f"{self._name!r}. Does the trainer number entities and relations in another way? Ids "
            f"have to be the dataset's: map labels by its vocabulary, or publish the trainer's own "
            f"triples. Positives of a split that the dataset has not are unknown, too"
        )

    def _num_known(self, positives: NDArray[np.int64]) -> int:
        is_known = np.zeros(len(positives), dtype=np.bool_)
        for triples in self.factory.columns.values():
            is_known |= triples.are_among(positives)
        return int(np.count_nonzero(is_known))
