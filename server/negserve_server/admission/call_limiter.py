"""Limits on open calls: in total, per connection and per token; silent calls are evicted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from negserve.types.checks.text import quoted
from negserve_server.admission.server_stream import ServerStream
from negserve_server.config.limits import Limits
from negserve_server.errors import Refusal


class _Group(NamedTuple):
    """Streams that count against the same limit.

    :ivar field: name of the limit
    :ivar key: the connection or caller; empty for all streams
    """

    field: str
    key: str


_REMEDIES = {
    "max_streams": "close some, or ask another replica",
    "max_streams_per_connection": "close some of the connection's, or open another one",
    "max_streams_per_token": "close some of its streams, or ask another replica",
    "watches": "close some of the connection's",
}
_WHOSE = {
    "max_streams": "",
    "max_streams_per_connection": " of this connection",
    "watches": " of this connection that watch health",
}
#: ``Health.Watch`` streams of one connection: a client needs one, a proxy one for each client.
_MAX_WATCHES = 16


class CallLimiter:
    """Counts open streams against their limits.

    If a limit is reached, a silent stream is evicted for the new one: of the connection with most
    streams, then of the token with most streams, the one that is silent for longest.

    :param limits: the limits
    :param grace: seconds of silence after which a stream may be evicted
    """

    def __init__(self, limits: Limits, grace: float) -> None:
        self._limits = {
            "max_streams": limits.max_streams,
            "max_streams_per_connection": limits.max_streams_per_connection,
            "max_streams_per_token": limits.max_streams_per_token,
            "watches": _MAX_WATCHES,
        }
        self._grace = grace
        self._groups: dict[ServerStream[Any], tuple[_Group, ...]] = {}
        self._counts: Counter[_Group] = Counter()
        #: Streams that have ended, whose status waits for their client to read it.
        self._closing: Counter[_Group] = Counter()
        self._searched: set[_Group] = set()

    def __len__(self) -> int:
        """Count the open streams."""
        return len(self._groups)

    def __iter__(self) -> Iterator[ServerStream[Any]]:
        return iter(list(self._groups))

    def acquire(self, stream: ServerStream[Any], *, is_watch: bool = False) -> None:
        """Count a new stream.

        :raises Refusal: if a limit is reached, and no stream within it is silent
        """
        groups = self._groups_of(stream, is_watch)
        for group in groups:
            limit = self._limit(group, stream)
            if group.field != "max_streams" and self._counts[group] + self._closing[group] >= (
                2 * limit
            ):
                raise _too_many(group, 2 * limit)
            if self._counts[group] >= limit:
                silent = self._find_silent(group)
                if silent is None:
                    raise _too_many(group, limit)
                self._free(silent)
                silent.end(_evicted(self._grace))
        self._groups[stream] = groups
        self._counts.update(groups)

    def release(self, stream: ServerStream[Any]) -> None:
        """Stop counting a stream, if it is still counted."""
        if stream in self._groups:
            self._free(stream)

    @contextmanager
    def closing(self, stream: ServerStream[Any]) -> Iterator[None]:
        """Count a stream whose status is being sent.

        If a client does not read, such a stream stays open as long as its connection. So a
        connection with many of them may open no more.
        """
        groups = self._groups_of(stream, False)
        self._closing.update(groups)
        try:
            yield
        finally:
            _subtract(self._closing, groups)

    def forget_searches(self) -> None:
        """Search for silent streams again, also where the last search found none."""
        self._searched.clear()

    def _groups_of(self, stream: ServerStream[Any], is_watch: bool) -> tuple[_Group, ...]:
        """Return the groups of a stream, the smallest first."""
        groups = [_Group("watches", stream.connection)] if is_watch else []
        groups.append(_Group("max_streams_per_connection", stream.connection))
        if stream.caller.name:
            groups.append(_Group("max_streams_per_token", stream.caller.name))
        return (*groups, _Group("max_streams", ""))

    def _limit(self, group: _Group, stream: ServerStream[Any]) -> int:
        limit, own = self._limits[group.field], stream.caller.quotas.max_streams
        is_own = group.field == "max_streams_per_token" and own is not None
        return min(limit, own) if is_own and own is not None else limit

    def _find_silent(self, group: _Group) -> ServerStream[Any] | None:
        """Return the stream of a group to evict; None if none is silent."""
        if group in self._searched:
            return None
        silent = [
            stream
            for stream, groups in self._groups.items()
            if group in groups and stream.silent_seconds > self._grace
        ]
        if not silent:
            # Repeated calls must not cost a search each.
            self._searched.add(group)
            return None
        return max(silent, key=lambda stream: (*self._shares(stream), stream.silent_seconds))

    def _shares(self, stream: ServerStream[Any]) -> tuple[int, ...]:
        return tuple(
            self._counts[group] for group in self._groups[stream] if group.field != "watches"
        )

    def _free(self, stream: ServerStream[Any]) -> None:
        _subtract(self._counts, self._groups.pop(stream))


def _subtract(counts: Counter[_Group], groups: tuple[_Group, ...]) -> None:
    for group in groups:
        counts[group] -= 1
        if not counts[group]:
            del counts[group]


def _too_many(group: _Group, limit: int) -> Refusal:
    is_of_caller = group.field == "max_streams_per_token"
    # The name of its entry, or the subject of its certificate: the token itself is not known here.
    whose = f" of {quoted(group.key)}" if is_of_caller else _WHOSE[group.field]
    metadata: dict[str, Any] = {"caller": group.key} if is_of_caller else {}
    return Refusal(
        f"{limit} streams{whose} are open, the limit is {limit}; {_REMEDIES[group.field]}",
        reason="TOO_MANY_STREAMS",
        resource=group.field,
        value=limit,
        limit=limit,
        **metadata,
    )


def _evicted(grace: float) -> Refusal:
    return Refusal(
        f"this stream was silent for {grace:g} seconds, and another caller reached the limit on "
        f"streams; open the stream again when there is something to send",
        reason="STREAM_IDLE",
        limit=grace,
    )
