"""What the C library does with freed memory: glibc keeps it, or gives it to the system."""

from __future__ import annotations

import ctypes
import os

#: Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: Larger arrays come from the system, and go back to it at once; glibc takes no larger number.
_MMAP_BYTES = 32 * 1024 * 1024
#: So much free memory at the end of a heap is kept.
_KEPT_BYTES = 64 * 1024 * 1024


def keep_freed() -> None:
    """Keep some freed memory for the next answers, until :func:`give_back`.

    Else glibc gives the arrays of each large answer back to the system, and the system clears
    them for the next one, which took a third of the time of an answer with 524,288 negatives.
    """
    mallopt = _function("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back() -> None:
    """Return freed memory to the operating system, where the C library keeps it."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _function(name: str) -> ctypes._FuncPointer | None:
    """Find a function of glibc; None under another C library."""
    if os.name != "posix":
        return None
    return getattr(ctypes.CDLL(None), name, None)
