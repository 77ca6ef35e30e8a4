"""The known values of pairs, in messages of bounded size."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negserve.types.config import Slot
from negserve.types.triples import narrowest_dtype
from negserve.v1 import sampler_pb2 as pb
from negserve_server.config.limits import Limits
from negserve_server.index import FilterIndex, PairIndex
from negserve_server.sampling.slices import slices_of
from negserve_server.service import messages

#: Most pairs, and most values, of a message: 4 bytes each at most.
_PIECE_PAIRS = 1 << 17
_PIECE_VALUES = 1 << 17
#: Work of a pair besides its values, as a number of these.
_PAIR_WORK = 8


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one message has.

    :ivar first: index of its first pair
    :ivar end: index after its last pair
    :ivar begin_value: index of its first value among those of all pairs
    :ivar end_value: index after its last value
    :ivar is_continued: whether the last pair has further values
    """

    first: int
    end: int
    begin_value: int
    end_value: int
    is_continued: bool

    @property
    def num_bytes(self) -> int:
        """Size of the message at most, about."""
        return 4 * (self.end - self.first + self.end_value - self.begin_value) + 64

    @property
    def work(self) -> int:
        """How long it takes, as a number of negatives."""
        return _PAIR_WORK * (self.end - self.first) + self.end_value - self.begin_value


class KnownAnswer:
    """The answer to one message of pairs.

    :param index: of the known triples
    :param pair_index: its direction for the slot
    :param slot: whose values are asked for
    """

    def __init__(self, index: FilterIndex, pair_index: PairIndex, slot: Slot) -> None:
        self._index = index
        self._pair_index = pair_index
        self._slot = slot
        self._starts = np.empty(0, dtype=np.uint64)
        self._offsets = np.zeros(1, dtype=np.int64)

    def find(self, message: pb.Pairs, limits: Limits) -> Generator[None, None, None]:
        """Find the values of pairs, in steps.

        :raises InvalidInput: for columns of unequal length, a bad width, too many pairs, or an id
            outside the id space
        """
        pairs = messages.decode_pairs(message, self._slot, limits)
        found: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []
        for part in slices_of(len(pairs), 0):
            if found:
                yield
            with messages.rows_after(part.start):
                found.append(self._index.find(pairs[part], self._slot))
        starts, counts = (np.concatenate(column) for column in zip(*found, strict=True))
        self._starts = starts
        self._offsets = np.concatenate([[0], np.cumsum(counts)])

    def pieces(self) -> Iterator[_Piece]:
        """Divide the answer into messages; at least one."""
        offsets, num_pairs = self._offsets, len(self._starts)
        first = begin_value = 0
        while True:
            most_pairs = min(first + _PIECE_PAIRS, num_pairs)
            end_value = begin_value + _PIECE_VALUES
            # Index after the last pair that is complete then.
            end = min(int(np.searchsorted(offsets, end_value, side="right")) - 1, most_pairs)
            end_value = int(offsets[end]) if end == most_pairs else end_value
            is_continued = end_value > offsets[end]
            yield _Piece(first, end + is_continued, begin_value, end_value, is_continued)
            if end == num_pairs:
                return
            first, begin_value = end, end_value

    def encode(self, piece: _Piece) -> bytes:
        """Encode a message."""
        pairs = slice(piece.first, piece.end)
        offsets = self._offsets[piece.first : piece.end + 1]
        begins = offsets.clip(piece.begin_value, piece.end_value)
        counts = np.diff(begins)
        skipped = (begins - offsets)[:-1].astype(np.uint64)
        index = self._index
        values = self._pair_index.values(self._starts[pairs] + skipped, counts)
        message = pb.KnownResponse(first_pair=piece.first, is_continued=piece.is_continued)
        count_dtype = narrowest_dtype(int(counts.max(initial=0)) + 1)
        messages.fill_ids(message.counts, counts.astype(count_dtype))
        messages.fill_ids(message.values, values.astype(index.dtype_of(self._slot), copy=False))
        return message.SerializeToString()
