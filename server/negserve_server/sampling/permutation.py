"""The order of an epoch: a keyed permutation that is evaluated at any position on its own.

An alternating Feistel network over Z_a x Z_b, with a and b about the root of the length, so that
nearly every position needs one pass (Black and Rogaway: "Ciphers with arbitrary finite
domains", CT-RSA 2002, there with powers of two). ``docs/sampling.md`` defines it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from negserve_server.addresses import address_of
from negserve_server.sampling.kernels.permute import NUM_ROUNDS, permute
from negserve_server.sampling.philox import blocks

#: Second counter word of the words that key a permutation.
PURPOSE_ORDER = 2


class Permutation:
    """A permutation of 0 .. length - 1, drawn by a seed and a number. Immutable.

    :param length: 0 to 2^32
    :param seed: 0 to 2^64 - 1
    :param number: which permutation of the seed, 0 to 2^64 - 1
    """

    def __init__(self, length: int, *, seed: int, number: int) -> None:
        self.length = length
        self._num_left = math.isqrt(max(length - 1, 0)) + 1
        self._num_right = -(-length // self._num_left) or 1
        halves = [number % 2**32, number // 2**32]
        counters = np.array([[i, PURPOSE_ORDER, *halves] for i in range(NUM_ROUNDS // 4)])
        key = np.array([[seed % 2**32, seed // 2**32]] * (NUM_ROUNDS // 4))
        self._keys = blocks(counters.astype(np.uint32), key.astype(np.uint32)).ravel()

    def at(self, start: int, count: int) -> NDArray[np.int64]:
        """Give the values at positions ``start`` to ``start + count - 1``, all below the length.

        :return: shape (count,)
        """
        out = np.empty(count, dtype=np.int64)
        permute(
            np.uint64(start),
            np.uint64(self.length),
            np.uint32(self._num_left),
            np.uint32(self._num_right),
            address_of(self._keys),
            out,
        )
        return out
