"""Places for calls: so many in all, of one connection and of one token; silent ones give way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from negserve_server.admission.stream import ServerStream
from negserve_server.config.limits import Limits
from negserve_server.errors import Refusal


class _Group(NamedTuple):
    """Streams that have something in common.

    :ivar field: the limit of how many there may be
    :ivar who: what they have in common
    """

    field: str
    who: str


_REMEDIES = {
    "max_streams": "close some, or ask another replica",
    "max_streams_per_connection": "close some of the connection's, or open another one",
    "max_streams_per_token": "close some of the token's, or ask another replica",
    "watches": "close some of the connection's",
}
_WHOSE = {
    "max_streams": "",
    "max_streams_per_connection": " of this connection",
    "max_streams_per_token": " with this token",
    "watches": " of this connection that watch health",
}
#: ``Health.Watch`` streams of one connection: a client needs one, a proxy one for each client.
_MOST_WATCHES = 16


class Places:
    """Keeps account of who has a place.

    Where none is left for a newcomer, the stream that nothing came over for longest gives way,
    first among those of the connection with most places, then of the token with most.

    :param limits: how many there are
    :param grace: seconds of silence before which a stream keeps its place
    :param by_token: whether tokens are checked, so that callers have no more of them than they
        were given
    """

    def __init__(self, limits: Limits, grace: float, *, by_token: bool) -> None:
        self._limits = {
            "max_streams": limits.max_streams,
            "max_streams_per_connection": limits.max_streams_per_connection,
            "max_streams_per_token": limits.max_streams_per_token,
            "watches": _MOST_WATCHES,
        }
        self._grace = grace
        self._by_token = by_token
        self._groups: dict[ServerStream[Any], tuple[_Group, ...]] = {}
        self._counts: Counter[_Group] = Counter()
        #: Streams that hear how they ended, which takes as long as a client leaves it unread.
        self._leaving: Counter[_Group] = Counter()
        self._searched: set[_Group] = set()

    def __len__(self) -> int:
        """Count the streams that have a place."""
        return len(self._groups)

    def __iter__(self) -> Iterator[ServerStream[Any]]:
        return iter(list(self._groups))

    def take(self, stream: ServerStream[Any], *, is_watch: bool = False) -> None:
        """Give a stream a place.

        :raises Refusal: if there is none for it, and no silent stream has one
        """
        groups = self._groups_of(stream, is_watch)
        for group in groups:
            limit = self._limits[group.field]
            if group.field != "max_streams" and self._counts[group] + self._leaving[group] >= (
                2 * limit
            ):
                raise _too_many(group, 2 * limit)
            if self._counts[group] >= limit:
                silent = self._longest_silent(group)
                if silent is None:
                    raise _too_many(group, limit)
                self._give_up(silent)
                silent.end(_gives_way(self._grace))
        self._groups[stream] = groups
        self._counts.update(groups)

    def leave(self, stream: ServerStream[Any]) -> None:
        """Take the place of a stream back, if it still has it."""
        if stream in self._groups:
            self._give_up(stream)

    @contextmanager
    def leaving(self, stream: ServerStream[Any]) -> Iterator[None]:
        """Count a stream without a place that tells its client why.

        A client that does not read has such a stream for as long as its connection, so a connection
        that has many gets no more places.
        """
        groups = self._groups_of(stream, False)
        self._leaving.update(groups)
        try:
            yield
        finally:
            _subtract(self._leaving, groups)

    def forget_searches(self) -> None:
        """Look for silent streams again where there were none a moment ago."""
        self._searched.clear()

    def _groups_of(self, stream: ServerStream[Any], is_watch: bool) -> tuple[_Group, ...]:
        """Give the groups of a stream, the smallest first."""
        groups = [_Group("watches", stream.connection)] if is_watch else []
        groups.append(_Group("max_streams_per_connection", stream.connection))
        if self._by_token:
            groups.append(_Group("max_streams_per_token", stream.token))
        return (*groups, _Group("max_streams", ""))

    def _longest_silent(self, group: _Group) -> ServerStream[Any] | None:
        """Give who of a group gives way; None if all are at work."""
        if group in self._searched:
            return None
        silent = [
            stream
            for stream, groups in self._groups.items()
            if group in groups and stream.silent_seconds > self._grace
        ]
        if not silent:
            # A caller that comes again and again must not cost a search each time.
            self._searched.add(group)
            return None
        return max(silent, key=lambda stream: (*self._shares(stream), stream.silent_seconds))

    def _shares(self, stream: ServerStream[Any]) -> tuple[int, ...]:
        return tuple(
            self._counts[group] for group in self._groups[stream] if group.field != "watches"
        )

    def _give_up(self, stream: ServerStream[Any]) -> None:
        _subtract(self._counts, self._groups.pop(stream))


def _subtract(counts: Counter[_Group], groups: tuple[_Group, ...]) -> None:
    for group in groups:
        counts[group] -= 1
        if not counts[group]:
            del counts[group]


def _too_many(group: _Group, limit: int) -> Refusal:
    return Refusal(
        f"{limit} streams{_WHOSE[group.field]} are open, the limit is {limit}; "
        f"{_REMEDIES[group.field]}",
        reason="TOO_MANY_STREAMS",
        resource=group.field,
        value=limit,
        limit=limit,
    )


def _gives_way(grace: float) -> Refusal:
    return Refusal(
        f"another caller needs the place of this stream, over which nothing came for {grace:g} "
        f"seconds; open the stream again when there is something to send",
        reason="STREAM_IDLE",
        limit=grace,
    )
