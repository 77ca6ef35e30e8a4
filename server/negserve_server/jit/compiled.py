"""The decorator of kernels that Python calls: compilation and cache."""

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
    """Compile a kernel on first use, to run without the GIL, and cache it for later processes.

    Without a writable folder (``NUMBA_CACHE_DIR`` names one) numba can't cache; then each process
    compiles, which takes some seconds, and logs a warning.
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
    # numba loads a cached kernel if the file of its function has not changed. But functions of
    # other files are inlined: after an upgrade, old code would read new tables. So the stamp of
    # the file is replaced by a hash of all sources. A test names this attribute if numba drops it.
    kernel._cache._cache_file._source_stamp = _sources()
    _kernels.append(kernel)
    return kernel


class _Compilations(event.Listener):  # type: ignore[misc]
    """Reports kernels that are compiled in this process, not those loaded from the cache."""

    def __init__(self) -> None:
        self._is_told = False
        self.watchers: list[Callable[[str], object]] = []

    def on_start(self, begun: Any) -> None:
        """Log the first compilation, and tell the watchers."""
        kernel = begun.data["dispatcher"]
        if kernel not in _kernels:
            return  # a function that is inlined into a kernel
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
        """Tell the watchers that a compilation has ended."""
        del ended
        for watcher in self.watchers:
            watcher("")


_compilations = _Compilations()
event.register("numba:compile", _compilations)


@contextmanager
def watching_compilation(watcher: Callable[[str], object]) -> Iterator[None]:
    """Report compilations of all threads during this block.

    :param watcher: called with the name of a kernel when its compilation begins, and with "" when a
        compilation ends
    """
    _compilations.watchers.append(watcher)
    try:
        yield
    finally:
        _compilations.watchers.remove(watcher)


def count_kernels() -> tuple[int, int]:
    """Count the kernels that are ready in this process, and all kernels."""
    return sum(bool(kernel.signatures) for kernel in _kernels), len(_kernels)


@cache
def _sources() -> str:
    """Hash of all source files that may be compiled into a kernel."""
    package = Path(__file__).parents[1]
    folders = ("graph/readers", "index", "jit", "report", "sampling")
    files = [file for folder in folders for file in (package / folder).rglob("*.py")]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(package)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
