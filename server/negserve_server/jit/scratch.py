"""Scratch memory of kernels: one piece per thread, which every call of the thread writes over."""

from __future__ import annotations

import threading

import numpy as np

_LINE = 64  # bytes of a cache line


class _Scratch(threading.local):
    """A thread's own piece."""

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
    """Give the address of this thread's scratch memory, at the start of a cache line.

    It is allocated once, and again only where a call needs more than every one before it, so
    that a call costs no allocation; it goes with its thread. Nothing in it lasts beyond a call.

    :param size: bytes that are needed
    """
    if size > _scratch.size:
        _scratch.grow(size)
    return _scratch.address
