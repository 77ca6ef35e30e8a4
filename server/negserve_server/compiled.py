"""The decorator of kernels that Python calls."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba as nb

logger = logging.getLogger(__name__)


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
        return nb.njit(nogil=True)(function)
    # numba takes a kept kernel for current if the file of its function has not changed. But
    # helpers of other files are inlined: after an upgrade, old code would read new tables.
    kernel._cache._cache_file._source_stamp = _sources()
    return kernel


@cache
def _sources() -> str:
    """Hash everything that may be compiled into a kernel."""
    package = Path(__file__).parent
    folders = (package / "index", package / "sampling")
    files = [file for folder in folders for file in folder.rglob("*.py")]
    digest = hashlib.sha256()
    for file in sorted([*files, package / "addresses.py", package / "compiled.py"]):
        digest.update(f"{file.relative_to(package)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()
