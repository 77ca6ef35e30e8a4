"""Find compiled kernels in ``NUMBA_CACHE_DIR`` without writing there.

numba ignores a cache that it can't write to, and the image's cache is read-only. This locator,
named in ``NUMBA_CACHE_LOCATOR_CLASSES``, only requires reading; kernels that are missing are
compiled and logged, not saved.
"""

import logging

from numba.core import caching


class SealedCacheLocator(caching.UserProvidedCacheLocator):  # type: ignore[misc]
    """A cache that is only read."""

    def ensure_cache_path(self) -> None:
        """Ask for nothing."""


def _warn(cache: object, _signature: object, _compiled: object) -> None:
    logging.getLogger("sealed_cache").warning("not in the cache, compiled: %s", cache)


caching.Cache.save_overload = _warn
