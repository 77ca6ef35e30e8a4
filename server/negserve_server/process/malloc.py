"""Freed memory: whether glibc keeps it or returns it to the system."""

from __future__ import annotations

import ctypes
import os

#: Parameters of glibc's mallopt, from malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
#: Larger arrays come from the system, and return to it when freed. This is glibc's maximum.
_MMAP_BYTES = 32 * 1024 * 1024
#: Free memory kept at the end of a heap.
_KEPT_BYTES = 64 * 1024 * 1024


def keep_freed() -> None:
    """Keep some freed memory for the next answers, until :func:`give_back`.

    Otherwise glibc returns the arrays of each large answer to the system, which clears memory for
    the next one. That took a third of the time of an answer with 524,288 negatives.
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
