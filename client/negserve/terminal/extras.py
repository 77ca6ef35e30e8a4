"""Errors for missing libraries that name the package to install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from negserve.errors import MissingLibraryError


@contextmanager
def needing(what: str, package: str) -> Iterator[None]:
    """Say what to install if an import in this block fails for a missing library.

    :param what: what needs the library, the subject of the sentence
    :param package: the package to install, for pip
    :raises MissingLibraryError: in place of a ModuleNotFoundError, unless the module is ours
    """
    try:
        yield
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library in {"", "negserve", "negserve_server"}:
            raise
        raise MissingLibraryError(
            f"{what} needs {library}, which is not installed: pip install '{package}'",
            name=error.name,
        ) from error


@contextmanager
def needing_or_exit(what: str, package: str) -> Iterator[None]:
    """Exit with a one-line message where :func:`needing` would raise."""
    try:
        with needing(what, package):
            yield
    except MissingLibraryError as error:
        raise SystemExit(str(error)) from None
