"""Errors of loaders' workers."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def raised_by_workers(error: type[Exception], match: str) -> Iterator[None]:
    """Expect an error, and let go of the loader whose worker raised it.

    Its frames hold error and loader, and else the garbage collector would find both: the loader
    then waits five seconds for each worker, as the queues that would tell them to end are gone.
    """
    with pytest.raises(error, match=match) as raised:
        yield
    traceback.clear_frames(raised.tb)
