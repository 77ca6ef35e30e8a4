"""The decorator of kernels that Python calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numba as nb

logger = logging.getLogger(__name__)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a kernel on first use, without the GIL, and keep it for the next process.

    Where no folder is writable (``NUMBA_CACHE_DIR`` names one), numba refuses to cache; then
    each process compiles for itself, which takes some seconds, and the log says so.
    """
    try:
        return nb.njit(cache=True, nogil=True)(function)
    except RuntimeError as error:
        logger.warning(
            "kernels are compiled again by each process, since they can't be kept: %s; "
            "set NUMBA_CACHE_DIR to a writable folder",
            error,
        )
        return nb.njit(nogil=True)(function)
