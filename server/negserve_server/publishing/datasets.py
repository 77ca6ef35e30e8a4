"""The graphs that a server serves, by name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from negserve.terminal.nearest import did_you_mean
from negserve.types.checks.text import listed, quoted, shortened
from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory


class Datasets(Mapping[str, TriplesFactory]):
    """The graphs by name, in the order in which they are listed. Clients may add some.

    :param graphs: the graphs at the start
    """

    def __init__(self, graphs: Mapping[str, TriplesFactory]) -> None:
        self._graphs = dict(graphs)
        self._num_streams: Counter[str] = Counter()
        self._last_used = dict.fromkeys(graphs, time.monotonic())

    def __getitem__(self, name: str) -> TriplesFactory:
        return self._graphs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._graphs)

    def __len__(self) -> int:
        return len(self._graphs)

    def add(self, name: str, factory: TriplesFactory) -> None:
        """Add a graph. A name never changes its graph.

        :raises ValueError: if the name is taken
        """
        if name in self._graphs:
            raise ValueError(f"there is a dataset {name!r} already")
        self._graphs[name] = factory
        self._last_used[name] = time.monotonic()

    def remove(self, name: str) -> None:
        """Remove a graph; streams that use it continue."""
        del self._graphs[name]
        self._last_used.pop(name, None)

    @contextmanager
    def in_use(self, name: str) -> Iterator[None]:
        """Count a graph as used while a stream uses it."""
        self._num_streams[name] += 1
        try:
            yield
        finally:
            self._num_streams[name] -= 1
            if not self._num_streams[name]:
                del self._num_streams[name]
            self.note_use(name)

    def idle_seconds(self, name: str) -> float:
        """Seconds since a stream used a graph; 0 while one does."""
        if self._num_streams[name]:
            return 0.0
        return time.monotonic() - self._last_used[name]

    def note_use(self, name: str) -> None:
        """Count a graph as used now."""
        if name in self._graphs:
            self._last_used[name] = time.monotonic()

    def find(self, name: str, expected_fingerprint: str = "") -> TriplesFactory:
        """Return a graph.

        :param expected_fingerprint: the fingerprint that it must have; empty for any
        :raises InvalidInput: with ``UNKNOWN_DATASET`` or ``FINGERPRINT_MISMATCH``
        """
        factory = self._graphs.get(name)
        if factory is None:
            served = listed(self._graphs)
            raise InvalidInput(
                f"there is no dataset {quoted(name)}; this server has {served or 'none'}"
                f"{did_you_mean(name, self._graphs)}",
                reason="UNKNOWN_DATASET",
                value=name,
                limit=tuple(self._graphs),
            )
        if expected_fingerprint:
            check_fingerprint(name, expected_fingerprint, factory.fingerprint)
        return factory


def check_fingerprint(name: str, expected: str, found: str) -> None:
    """Refuse a dataset that is not the graph that the caller expects.

    :raises InvalidInput: with ``FINGERPRINT_MISMATCH``
    """
    if expected != found:
        raise InvalidInput(
            f"dataset {quoted(name)} has fingerprint {found}, not {shortened(expected)}; load "
            f"the same data on both sides, or use another name",
            reason="FINGERPRINT_MISMATCH",
            value=expected,
            limit=(found,),
        )
