"""Lower bounds of a sampler's time: writing its output, generating its random bits.

Both are compiled code, called from Python as the sampler is.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from benchmarks.support.measuring import Turn, repeated
from negserve_server.graph import TriplesFactory
from negserve_server.jit.addresses import address_of, store_uint8, store_uint16, store_uint32
from negserve_server.sampling.kernels.philox import fill_words

#: Not cached on disk: numba would not notice a change of the functions inlined here.
_compiled = nb.njit(nogil=True)


@_compiled  # type: ignore[untyped-decorator]
def _fill(output: int, width: int, num_values: int, value: int) -> None:
    if width == np.uint64(1):
        for j in range(num_values):
            store_uint8(output, j, np.uint8(value))
    elif width == np.uint64(2):
        for j in range(num_values):
            store_uint16(output, j, np.uint16(value))
    else:
        for j in range(num_values):
            store_uint32(output, j, np.uint32(value))


@_compiled  # type: ignore[untyped-decorator]
def _fill_words(words: int, num_blocks: int, num_positives: int, position: int, seed: int) -> None:
    for i in range(num_positives):
        fill_words(words, num_blocks, position + i, seed)


def writing(factory: TriplesFactory, batch_size: int, k: int) -> Turn:
    """Write as many ids, of the same width, to a new array as a sampler of this graph does."""
    dtype = factory.open_sampler(num_negs_per_pos=k).tables.dtype
    value = 0

    def step() -> int:
        nonlocal value
        replaced = np.empty((batch_size, k), dtype=dtype)
        value = (value + 1) % 256
        _fill(
            address_of(replaced),
            np.uint64(replaced.itemsize),
            np.uint64(replaced.size),
            np.uint64(value),
        )
        return replaced.size

    return repeated(step)


def random_bits(batch_size: int, k: int) -> Turn:
    """Generate the random words of every positive, k + 1 rounded up to blocks, and drop them."""
    words = np.empty(-(-(k + 1) // 4) * 4, dtype=np.uint32)
    position = 0

    def step() -> int:
        nonlocal position
        _fill_words(
            address_of(words),
            len(words) // 4,
            np.uint64(batch_size),
            np.uint64(position),
            np.uint64(0),
        )
        position += batch_size
        return batch_size * k

    return repeated(step)
