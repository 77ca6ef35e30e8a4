"""The decorator of kernels that Python calls."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numba as nb
from numba.core import event

logger = logging.getLogger(__name__)

_kernels: list[Any] = []


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel on first use, without the GIL, and keep it for the next process.

    Where no folder is writable (``NUMBA_CACHE_DIR`` names one), numba refuses to cache; then
    each process compiles for itself, which takes some seconds, and the log says so.
    """
    try:
        kernel = nb.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:
        logger.warning(
            "kernels are compiled again by each process, since they can't be kept: %s; "
            "set NUMBA_CACHE_DIR to a writable folder",
            error,
        )
        kernel = nb.njit(nogil=True)(function)
        _kernels.append(kernel)
        return kernel
    # numba takes a kept kernel for current if the file of its function has not changed. But
    # helpers of other files are inlined: after an upgrade, old code would read new tables.
    kernel._cache._cache_file._source_stamp = _sources()
    _kernels.append(kernel)
    return kernel


class _Compilations(event.Listener):  # type: ignore[misc]
    """Tells of kernels that are compiled now, not of those that were kept."""

    def __init__(self) -> None:
        self._is_told = False
        self.watchers: list[Callable[[str], object]] = []

    def on_start(self, begun: Any) -> None:
        """Say it, once."""
        kernel = begun.data["dispatcher"]
        if kernel not in _kernels:
            return  # a helper, inlined into one
        if not self._is_told:
            self._is_told = True
            folder = getattr(kernel._cache, "cache_path", None)
            kept = folder if folder and os.access(folder, os.W_OK) else None
            logger.warning(
                "compiling the sampling kernels, which takes some 20 s and more on a busy machine; "
                "%s",
                f"only this once, as they are kept in {kept}" if kept else "they can't be kept",
            )
        for watcher in self.watchers:
            watcher(kernel.py_func.__name__)

    def on_end(self, ended: Any) -> None:
        """Say that there is progress."""
        del ended
        for watcher in self.watchers:
            watcher("")


_compilations = _Compilations()
event.register("numba:compile", _compilations)


@contextmanager
def watching_compilation(watcher: Callable[[str], object]) -> Iterator[None]:
    """Tell of compilations in this block, in all threads.

    :param watcher: called with the name of a kernel when its compilation begins, and with an empty
        one when one ends
    """
    _compilations.watchers.append(watcher)
    try:
        yield
    finally:
        _compilations.watchers.remove(watcher)


def count_kernels() -> tuple[int, int]:
    """Give how many kernels this process has ready, and how many it knows."""
    return sum(bool(kernel.signatures) for kernel in _kernels), len(_kernels)


@cache
def _sources() -> str:
    """Hash everything that may be compiled into a kernel."""
    package = Path(__file__).parents[1]
    folders = ("index", "jit", "report", "sampling")
    files = [file for folder in folders for file in (package / folder).rglob("*.py")]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(package)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
