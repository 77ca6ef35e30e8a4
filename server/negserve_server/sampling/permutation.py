"""The order of an epoch: a keyed permutation, evaluated at any position without the others.

An alternating Feistel network over Z_a x Z_b, with a and b close to the square root of the length,
so that nearly every position of a long epoch needs one pass (Black and Rogaway: "Ciphers with
arbitrary finite domains", CT-RSA 2002, there with powers of two). ``docs/sampling.md`` defines it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from negserve_server.jit.addresses import address_of
from negserve_server.jit.scratch import scratch
from negserve_server.sampling.kernels.epochs.permute import NUM_ROUNDS, permute
from negserve_server.sampling.kernels.philox import blocks

#: Second counter word of the words that key a permutation.
PURPOSE_ORDER = 2
#: Least size of a half: two rounds bring the order closer to uniform by about this factor.
_FEWEST = 8


class Permutation:
    """A permutation of 0 .. length - 1, drawn by a seed and a number. Immutable.

    :param length: 0 to 2^32
    :param seed: 0 to 2^64 - 1
    :param number: which permutation of the seed, 0 to 2^64 - 1
    :ivar num_left: size of the left half
    :ivar num_right: size of the right half
    :ivar keys: of the rounds, uint32, shape (16,)
    """

    def __init__(self, length: int, *, seed: int, number: int) -> None:
        self.length = length
        self.num_left = max(math.isqrt(max(length - 1, 0)) + 1, _FEWEST)
        self.num_right = max(-(-length // self.num_left), _FEWEST)
        # If both were odd, each round would be an even permutation: half of all orders impossible.
        self.num_right += self.num_left * self.num_right % 2
        halves = [number % 2**32, number // 2**32]
        counters = np.array([[i, PURPOSE_ORDER, *halves] for i in range(NUM_ROUNDS // 4)])
        key = np.array([[seed % 2**32, seed // 2**32]] * (NUM_ROUNDS // 4))
        self.keys = blocks(counters.astype(np.uint32), key.astype(np.uint32)).ravel()

    def at(self, start: int, count: int) -> NDArray[np.int64]:
        """Values at positions ``start`` to ``start + count - 1``.

        :return: shape (count,)
        :raises ValueError: for positions that are not below the length
        """
        if not 0 <= start <= start + count <= self.length:
            # The cycle walk might not end from there.
            raise ValueError(f"{count} positions from {start} on, of {self.length}")
        out = np.empty(count, dtype=np.int64)
        permute(
            np.uint64(start),
            np.uint64(count),
            np.uint64(self.length),
            np.uint32(self.num_left),
            np.uint32(self.num_right),
            address_of(self.keys),
            address_of(out),
            scratch(8 * count),
        )
        return out
