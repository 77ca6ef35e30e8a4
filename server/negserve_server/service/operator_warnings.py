"""Rate-limited warnings for operators about the use of their graphs."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from negserve_server.graph import TriplesFactory

logger = logging.getLogger(__name__)

_INTERVAL_SECONDS = 3600.0
#: Splits that models are tested on.
_HELD_OUT = ("validation", "testing")


class OperatorWarnings:
    """Logs each kind of warning about a graph at most once an hour. Thread-safe."""

    def __init__(self) -> None:
        self._last: WeakKeyDictionary[TriplesFactory, dict[str, float]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def warn_of_unknown_positives(self, factory: TriplesFactory, text: str) -> None:
        """Warn that the positives of a stream are unknown."""
        if self._is_due(factory, "unknown positives"):
            logger.warning("%s", text)

    def warn_of_leakage(
        self, name: str, factory: TriplesFactory, filter_splits: Sequence[str], *, epochs: bool
    ) -> None:
        """Warn if negatives avoid triples that models are tested on.

        :param epochs: whether all positives are training triples
        """
        held_out = [split for split in filter_splits if split in _HELD_OUT]
        if held_out and self._is_due(factory, "epochs" if epochs else "Sample"):
            logger.warning(
                "dataset %s: negatives of %s avoid %s triples: that tells a model what it is "
                "tested on. Filter by training alone, but to evaluate; see docs/sampling.md, "
                "Leakage",
                name,
                "epochs" if epochs else "a Sample stream",
                " and ".join(held_out),
            )

    def _is_due(self, factory: TriplesFactory, kind: str) -> bool:
        now = time.monotonic()
        with self._lock:
            last = self._last.setdefault(factory, {})
            if now - last.get(kind, -math.inf) < _INTERVAL_SECONDS:
                return False
            last[kind] = now
        return True
