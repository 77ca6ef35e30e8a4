"""Scratch memory of kernels: one block per thread, overwritten by each call."""

from __future__ import annotations

import threading

import numpy as np

_LINE = 64  # bytes of a cache line


class _Scratch(threading.local):
    """The block of a thread."""

    def __init__(self) -> None:
        self.size = 0
        self.address = np.uint64(0)

    def grow(self, size: int) -> None:
        self._memory = np.empty(size + _LINE, dtype=np.uint8)
        begin = self._memory.ctypes.data
        self.address = np.uint64(begin + -begin % _LINE)
        self.size = size


_scratch = _Scratch()


def scratch(size: int) -> np.uint64:
    """Address of this thread's scratch memory, at the start of a cache line.

    It is allocated once, and again only if a call needs more than all calls before it, so a call
    usually allocates nothing. It is freed with its thread. Its content does not outlast a call.

    :param size: number of bytes
    """
    if size > _scratch.size:
        _scratch.grow(size)
    return _scratch.address
