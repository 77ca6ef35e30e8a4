"""Numbers of type uint64 for kernels.

numba makes a float64 of a uint64 and an int64, and a plain number is an int64 to it. So kernels
calculate with these.
"""

from __future__ import annotations

from typing import Final

import numpy as np

U0: Final = np.uint64(0)
U1: Final = np.uint64(1)
U2: Final = np.uint64(2)
U3: Final = np.uint64(3)
U4: Final = np.uint64(4)
U5: Final = np.uint64(5)
U7: Final = np.uint64(7)
U8: Final = np.uint64(8)
U12: Final = np.uint64(12)
U31: Final = np.uint64(31)
U32: Final = np.uint64(32)
U48: Final = np.uint64(48)

#: 2^32, and the masks of the lower 16, 32, 48 and all 64 bits.
TWO_POW_32: Final = np.uint64(2**32)
LOW_16: Final = np.uint64(2**16 - 1)
LOW_32: Final = np.uint64(2**32 - 1)
LOW_48: Final = np.uint64(2**48 - 1)
MAX_64: Final = np.uint64(2**64 - 1)

#: Multipliers of hash functions: 2^64 / golden ratio (Knuth: "The Art of Computer Programming",
#: volume 3, section 6.4, Fibonacci hashing), and the one of the mixing step after it.
FIBONACCI: Final = np.uint64(0x9E3779B97F4A7C15)
MIX: Final = np.uint64(0xD6E8FEB86659FD93)

#: uint32 words in a cache line of 64 bytes.
LINE_WORDS: Final = np.uint64(16)
