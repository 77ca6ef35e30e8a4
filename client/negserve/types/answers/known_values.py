"""Known values of pairs: what may stand in the third slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class KnownValues:
    """The known values of n pairs, those of each sorted and different.

    A pair is the two ids of a triple that stay, in the order head, relation, tail; its values are
    the ids of the third slot with which the triple is known. ``len()`` counts the pairs, and
    ``known[i]`` gives the values of one.

    :ivar counts: number of values of each pair, int64, shape (n,)
    :ivar values: those of the first pair, then those of the second and so on, shape
        (sum of counts,), uint8, uint16 or uint32: the narrowest that holds the id space
    """

    counts: NDArray[np.int64]
    values: NDArray[np.unsignedinteger]

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.counts)

    def __getitem__(self, index: int) -> NDArray[np.unsignedinteger]:
        """Give the values of a pair, sorted, shape (m,).

        :raises IndexError: for a pair that is not there
        """
        index = range(len(self.counts))[index]
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[NDArray[np.unsignedinteger]]:
        """Iterate over the values of each pair."""
        return (self[index] for index in range(len(self)))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where the values of each pair begin, and where the last end; int64, shape (n + 1,)."""
        offsets = np.zeros(len(self.counts) + 1, dtype=np.int64)
        np.cumsum(self.counts, out=offsets[1:])
        return offsets

    def rows(self) -> NDArray[np.int64]:
        """Give the index of the pair of each value, int64, shape (sum of counts,)."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @classmethod
    def join(cls, parts: Sequence[KnownValues]) -> KnownValues:
        """Join the known values of consecutive pairs; at least one part, of equal dtypes."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            counts=np.concatenate([part.counts for part in parts]),
            values=np.concatenate([part.values for part in parts]),
        )
