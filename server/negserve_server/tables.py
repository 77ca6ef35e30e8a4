"""Tables: the arrays that samplers need and that take long to make, bounded in bytes.

A table is made once and shared by all who ask for its key while somebody holds it. It is counted
from before it is made until its memory is free: a table that was dropped here but that a stream
still holds counts, and is found again. Those that nobody holds go when they have not been used
for a while, and at once, the least recently used first, when another table needs the room.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

from negserve_server.errors import TablesFull
from negserve_server.process.process_limits import memory_bytes


class Table(Protocol):
    """What is kept: an array, or an object that takes weak references."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds itself, in bytes; not that of other tables that it uses."""


_T = TypeVar("_T", bound=Table)

#: Seconds that a table stays when nobody holds it, unless told otherwise.
KEEP_SECONDS = 60.0


def default_table_bytes() -> int:
    """Give the bytes of tables that are usual: a quarter of the memory that there is."""
    return memory_bytes() // 4


class _Reference(weakref.ref[Any]):
    """Knows, when its table is gone, what that was."""

    __slots__ = ("key", "nbytes")

    key: Hashable
    nbytes: int


class _Holder(weakref.ref[Any]):
    """Knows, when it is gone, what it held."""

    __slots__ = ("key",)

    key: Hashable


class _Graph:
    """Stands for a graph in the keys of its tables."""

    __slots__ = ()


class _Kept:
    """A table that stays when nobody holds it, for a while."""

    __slots__ = ("holders", "last_used", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.last_used = time.monotonic()
        self.holders: dict[int, _Holder] = {}  # by the reference's own id


class Tables:
    """Keeps tables by key. Safe to use from many threads.

    :param max_bytes: most bytes of all tables together, those under way included
    :param keep_seconds: how long a table stays that nobody holds
    """

    def __init__(self, max_bytes: int, keep_seconds: float = KEEP_SECONDS) -> None:
        self.max_bytes = max_bytes
        self.keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._references: dict[Hashable, _Reference] = {}
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()  # least recently used first
        self._making: dict[Hashable, threading.Event] = {}
        self._num_bytes = 0
        #: Tables that went for others, since the start.
        self.num_evictions = 0
        # What is gone. Memory is freed, and the garbage collector runs, anywhere, also where this
        # thread has the lock: so it is only noted, which takes no lock.
        self._gone: deque[Any] = deque()

    @property
    def num_bytes(self) -> int:
        """Bytes of all tables that are in memory, or under way."""
        with self._lock:
            self._settle()
            return self._num_bytes

    def bytes_of(self, graph: object) -> int:
        """Bytes of the tables of one graph that are in memory.

        :param graph: what stands for it in the keys
        """
        with self._lock:
            self._settle()
            return sum(
                reference.nbytes
                for key, reference in self._references.items()
                if isinstance(key, tuple) and key[0] is graph
            )

    def __len__(self) -> int:
        """Count the tables in memory."""
        with self._lock:
            self._settle()
            return len(self._references)

    def get(
        self, key: Hashable, make: Callable[[], _T], *, num_bytes: int = 0, keep: bool = False
    ) -> _T:
        """Give a table, made on first use; others wait only for the same key.

        A table that can't be made leaves nothing behind.

        :param make: makes it; may get other tables
        :param num_bytes: what it will take at least, as far as that is known before: it is
            refused before it is made
        :param keep: whether it stays for a while when nobody holds it; else it goes at once
        :raises TablesFull: if those that are held leave no room
        """
        while True:
            with self._lock:
                self._settle()
                table: _T | None = self._find(key, keep)
                if table is not None:
                    return table
                others = self._making.get(key)
                if others is None:
                    made = self._making[key] = threading.Event()
                    break
            others.wait()
        try:
            return self._make(key, make, num_bytes, keep)
        finally:
            with self._lock:
                del self._making[key]
            made.set()

    def hold(self, key: Hashable, holder: object) -> None:
        """Count a kept table as used until an object is gone.

        Holding the table itself keeps it, too, but then it goes with its last holder.
        """
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                reference = _Holder(holder, self._gone.append)
                reference.key = key
                kept.holders[id(reference)] = reference

    def drop_idle(self, seconds: float | None = None) -> int:
        """Drop what nobody has held or asked for lately; give the bytes that became free.

        :param seconds: for how long; None for ``keep_seconds``
        """
        with self._lock:
            self._settle()
            before = self._num_bytes
            self._drop_unused(self.keep_seconds if seconds is None else seconds)
            return before - self._num_bytes

    def note(self, gone: object) -> None:
        """Take note, soon and without a lock, that a graph is gone."""
        self._gone.append(gone)

    def _find(self, key: Hashable, keep: bool) -> Any:
        reference = self._references.get(key)
        table = None if reference is None else reference()
        if table is not None and keep:
            kept = self._kept.setdefault(key, _Kept(table))
            kept.last_used = time.monotonic()
            self._kept.move_to_end(key)
        return table

    def _make(self, key: Hashable, make: Callable[[], _T], num_bytes: int, keep: bool) -> _T:
        with self._lock:
            # Where nobody calls drop_idle from time to time, as in a trainer's own process.
            self._drop_unused(self.keep_seconds)
            self._take(num_bytes)
        reserved = num_bytes
        try:
            table = make()
            with self._lock:
                self._num_bytes -= reserved
                reserved = 0
                self._take(table.nbytes)
                reference = _Reference(table, self._gone.append)
                reference.key, reference.nbytes = key, table.nbytes
                self._references[key] = reference
                if keep:
                    self._kept[key] = _Kept(table)
            return table
        finally:
            with self._lock:
                self._num_bytes -= reserved

    def _take(self, num_bytes: int) -> None:
        """Count bytes, and make room for them.

        :raises TablesFull: if there is none
        """
        self._settle()
        for key in list(self._kept):
            if self._num_bytes + num_bytes <= self.max_bytes:
                break
            if not self._kept[key].holders:
                del self._kept[key]
                self.num_evictions += 1
                self._settle()
        if self._num_bytes + num_bytes > self.max_bytes:
            raise TablesFull(num_bytes=num_bytes, in_use=self._num_bytes, limit=self.max_bytes)
        self._num_bytes += num_bytes

    def _drop_unused(self, seconds: float) -> None:
        """Drop what nobody has held or asked for in so many seconds."""
        self._settle()
        limit = time.monotonic() - seconds
        idle = [
            key for key, kept in self._kept.items() if kept.last_used <= limit and not kept.holders
        ]
        for key in idle:
            del self._kept[key]
        self._settle()

    def _settle(self) -> None:
        """Take note of what is gone."""
        while self._gone:
            gone = self._gone.popleft()
            if isinstance(gone, _Graph):
                for key in [key for key in self._kept if isinstance(key, tuple) and key[0] is gone]:
                    del self._kept[key]
                continue
            if isinstance(gone, _Reference):
                self._num_bytes -= gone.nbytes
                if self._references.get(gone.key) is gone:
                    del self._references[gone.key]
                continue
            kept = self._kept.get(gone.key)
            if kept is not None and kept.holders.pop(id(gone), None) is not None:
                kept.last_used = time.monotonic()
                self._kept.move_to_end(gone.key)


class GraphTables:
    """The tables of one graph in a store that graphs share.

    :param store: where they are
    :param graph: what has them: when it is gone, nothing is kept for it
    """

    def __init__(self, store: Tables, graph: object = None) -> None:
        self.store = store
        self._graph = _Graph()
        if graph is not None:
            weakref.finalize(graph, self._note_end).atexit = False

    @property
    def num_bytes(self) -> int:
        """Bytes of the tables of this graph."""
        return self.store.bytes_of(self._graph)

    def _note_end(self) -> None:
        # Runs anywhere, as memory is freed anywhere: see Tables._gone.
        self.store.note(self._graph)

    def get(
        self, key: Hashable, make: Callable[[], _T], *, num_bytes: int = 0, keep: bool = False
    ) -> _T:
        """Give a table of this graph; see :meth:`Tables.get`."""
        return self.store.get((self._graph, key), make, num_bytes=num_bytes, keep=keep)

    def hold(self, key: Hashable, holder: object) -> None:
        """Count a table as used until an object is gone; see :meth:`Tables.hold`."""
        self.store.hold((self._graph, key), holder)


#: The store of graphs that nobody gives another.
TABLES = Tables(default_table_bytes())
