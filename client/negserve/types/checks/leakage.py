"""Negatives that tell a model what it is tested on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from negserve.types.warning_categories import LeakageWarning, warn

_HELD_OUT = ("validation", "testing")
#: Whether the caller of this package has been warned, by what calls further parts of it.
_is_told: ContextVar[bool] = ContextVar("negserve_leakage_is_told", default=False)


def warn_of_leakage(filter_splits: Sequence[str]) -> None:
    """Warn of negatives that avoid triples of splits that models are tested on.

    :raises LeakageWarning: where Python is told to raise it
    """
    held_out = [split for split in _HELD_OUT if split in filter_splits]
    if held_out and not _is_told.get():
        warn(
            f"filter_splits has {' and '.join(held_out)}: negatives that a model trains on must "
            f"not avoid the triples that it is tested on, which tells it what they are. Filter by "
            f"training alone; if these negatives are for evaluation, ignore "
            f"negserve.LeakageWarning (docs/sampling.md, Leakage)",
            LeakageWarning,
        )


@contextmanager
def leakage_told() -> Iterator[None]:
    """Do not warn in the block: who called this package has been warned, or asked for it."""
    token = _is_told.set(True)
    try:
        yield
    finally:
        _is_told.reset(token)
