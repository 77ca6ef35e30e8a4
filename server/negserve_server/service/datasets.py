"""The graphs that a server holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory


class Datasets(Mapping[str, TriplesFactory]):
    """The graphs by name, in the order in which they are listed; some come while it serves.

    :param graphs: those that are there from the start
    """

    def __init__(self, graphs: Mapping[str, TriplesFactory]) -> None:
        self._graphs = dict(graphs)

    def __getitem__(self, name: str) -> TriplesFactory:
        return self._graphs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._graphs)

    def __len__(self) -> int:
        return len(self._graphs)

    def add(self, name: str, factory: TriplesFactory) -> None:
        """Hold another graph. A name never changes its graph.

        :raises ValueError: if the name is taken
        """
        if name in self._graphs:
            raise ValueError(f"there is a dataset {name!r} already")
        self._graphs[name] = factory

    def find(self, name: str, expected_fingerprint: str = "") -> TriplesFactory:
        """Give a graph.

        :param expected_fingerprint: what it must be; empty for any
        :raises InvalidInput: with ``UNKNOWN_DATASET`` or ``FINGERPRINT_MISMATCH``
        """
        factory = self._graphs.get(name)
        if factory is None:
            served = ", ".join(self._graphs)
            raise InvalidInput(
                f"there is no dataset {name!r}; this server has {served}",
                reason="UNKNOWN_DATASET",
                value=name,
                limit=served,
            )
        if expected_fingerprint:
            check_fingerprint(name, expected_fingerprint, factory.fingerprint)
        return factory


def check_fingerprint(name: str, expected: str, found: str) -> None:
    """Refuse a dataset that is another graph than the caller thinks.

    :raises InvalidInput: with ``FINGERPRINT_MISMATCH``
    """
    if expected != found:
        raise InvalidInput(
            f"dataset {name!r} has fingerprint {found}, not {expected}; load the same data on "
            f"both sides, or use another name",
            reason="FINGERPRINT_MISMATCH",
            value=expected,
            limit=found,
        )
