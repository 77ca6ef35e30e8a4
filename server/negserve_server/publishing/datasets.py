"""The graphs that a server serves, by name."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from negserve.terminal.nearest import did_you_mean
from negserve.types.checks.text import listed, quoted, shortened
from negserve_server.errors import InvalidInput
from negserve_server.graph import TriplesFactory

logger = logging.getLogger(__name__)

#: Where a dataset comes from: given by name at the start, a folder of the repository, or a client.
Origin = Literal["command line", "repository", "published"]


class Version:
    """A graph that a name stands for, or stood for while streams still use it.

    :ivar name: of the dataset
    :ivar factory: the graph
    :ivar origin: where it comes from
    :ivar serial: number that no other version has, in any worker of a server
    :ivar num_streams: open streams that use it
    :ivar last_used: when a stream last used it, monotonic
    """

    def __init__(self, name: str, factory: TriplesFactory, origin: Origin, serial: int) -> None:
        self.name = name
        self.serial = serial
        self.factory = factory
        self.origin = origin
        self.num_streams = 0
        self.last_used = time.monotonic()


class Datasets(Mapping[str, TriplesFactory]):
    """The graphs by name, in the order in which they are listed. Not safe for several threads.

    A name may come to stand for another graph, or for none. A stream holds the graph with which it
    began, until it ends; nothing here keeps that graph longer.

    :param graphs: the graphs at the start
    """

    def __init__(self, graphs: Mapping[str, TriplesFactory]) -> None:
        self._serials = itertools.count(1)
        self._current = {
            name: Version(name, graph, "command line", next(self._serials))
            for name, graph in graphs.items()
        }
        #: Versions that new streams do not get any more, while streams use them.
        self._earlier: list[Version] = []

    def __getitem__(self, name: str) -> TriplesFactory:
        return self._current[name].factory

    def __iter__(self) -> Iterator[str]:
        return iter(self._current)

    def __len__(self) -> int:
        return len(self._current)

    def add(
        self, name: str, factory: TriplesFactory, origin: Origin, serial: int | None = None
    ) -> None:
        """Add a graph.

        :param serial: of the version; None for a new one
        :raises ValueError: if the name is taken
        """
        if name in self._current:
            raise ValueError(f"there is a dataset {name!r} already")
        self._current[name] = Version(name, factory, origin, serial or next(self._serials))

    def replace(
        self,
        name: str,
        factory: TriplesFactory,
        origin: Origin = "repository",
        serial: int | None = None,
    ) -> None:
        """Let a name stand for another graph from now on; streams on the one before continue."""
        before = self._current[name]
        self._current[name] = Version(name, factory, origin, serial or next(self._serials))
        self._retire(before)

    def remove(self, name: str) -> None:
        """Remove a graph; streams that use it continue."""
        self._retire(self._current.pop(name))

    def _retire(self, version: Version) -> None:
        if version.num_streams:
            self._earlier.append(version)

    def origin(self, name: str) -> Origin | None:
        """Tell where a dataset comes from; None if there is none of that name."""
        version = self._current.get(name)
        return None if version is None else version.origin

    def serial(self, name: str) -> int | None:
        """Give the number of the version that a name stands for; None if there is none."""
        version = self._current.get(name)
        return None if version is None else version.serial

    def versions(self) -> list[tuple[Version, bool]]:
        """All graphs in memory, and whether new streams get them: current ones first."""
        return [
            *((version, True) for version in self._current.values()),
            *((version, False) for version in self._earlier),
        ]

    @contextmanager
    def in_use(self, name: str) -> Iterator[None]:
        """Count a graph, the one of that name now, as used while a stream uses it."""
        version = self._current[name]
        version.num_streams += 1
        try:
            yield
        finally:
            version.num_streams -= 1
            version.last_used = time.monotonic()
            if not version.num_streams and version in self._earlier:
                self._earlier.remove(version)
                logger.info(
                    "dataset %s: the last stream on an earlier version has ended, fingerprint %s",
                    name,
                    version.factory.fingerprint,
                )

    def idle_seconds(self, name: str) -> float:
        """Seconds since a stream used a graph; 0 while one does."""
        version = self._current[name]
        return 0.0 if version.num_streams else time.monotonic() - version.last_used

    def note_use(self, name: str) -> None:
        """Count a graph as used now."""
        self._current[name].last_used = time.monotonic()

    def find(
        self, name: str, expected_fingerprint: str = "", sees: Callable[[str], bool] | None = None
    ) -> TriplesFactory:
        """Return a graph.

        :param expected_fingerprint: the fingerprint that it must have; empty for any
        :param sees: whether the caller may be told of a name; None if of all
        :raises InvalidInput: with ``UNKNOWN_DATASET`` or ``FINGERPRINT_MISMATCH``
        """
        version = self._current.get(name)
        if version is None:
            known = [each for each in self if sees is None or sees(each)]
            raise unknown_dataset(name, known, f"this server has {listed(known) or 'none'}")
        if expected_fingerprint:
            check_fingerprint(name, expected_fingerprint, version.factory.fingerprint)
        return version.factory


def unknown_dataset(name: str, known: Iterable[str], what: str) -> InvalidInput:
    """Make the refusal of a name.

    :param known: names that would be right
    :param what: who has them, for a person
    """
    return InvalidInput(
        f"there is no dataset {quoted(name)}; {what}{did_you_mean(name, known)}",
        reason="UNKNOWN_DATASET",
        value=name,
        limit=tuple(known),
    )


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
