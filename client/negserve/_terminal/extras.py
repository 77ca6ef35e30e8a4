"""What to install where a library is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class MissingLibraryError(ImportError):
    """A library that is needed is not installed; the message says what to install."""


@contextmanager
def needing(what: str, package: str) -> Iterator[None]:
    """Say what to install if an import in this block does not find a library.

    :param what: what needs it, the subject of the sentence
    :param package: what has it, for pip
    :raises MissingLibraryError: in place of a ModuleNotFoundError, if it is no module of ours
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
    """End a program, in one line, where :func:`needing` would raise."""
    try:
        with needing(what, package):
            yield
    except MissingLibraryError as error:
        raise SystemExit(str(error)) from None
