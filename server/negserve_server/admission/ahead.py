"""Bytes of answers that are made and not yet taken: one bound for all streams together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from negserve_server.process.c_memory import give_back

#: A client that takes nothing of an answer for so long has stopped reading.
_STOPPED_SECONDS = 1.0
#: An answer that is on its way is there twice: ours, and gRPC's copy of it.
_COPIES = 2
#: So many bytes that are free go back to the system, or all, once nothing was freed for so long.
_TRIM_BYTES = 16 * 1024 * 1024
_TRIM_SECONDS = 1.0


class Ahead:
    """Keeps account of what answers take until their clients have taken them.

    A stream that holds nothing waits until there is room for its answer. What it makes ahead of
    its client it makes only where there is room for it anyway, within its share. An answer whose
    client stopped reading is with gRPC, and can't be had back before that reads or leaves: it is
    counted apart then, so that others need not wait for it. A stream has one such answer at most,
    and the more there are, the smaller the messages of epochs become.

    :param max_bytes: the bound
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_stopped_bytes = 0
        self.num_holders = 0
        self._waiting: deque[tuple[asyncio.Future[None], Share, int]] = deque()
        self._peak = 0
        self._is_trimming = False
        self._noted_at = 0.0
        self._senders: set[Share] = set()
        self._is_watching = False

    def open(self) -> Share:
        """Begin a stream's account; leave it as a context manager."""
        return Share(self)

    @property
    def fair_bytes(self) -> int:
        """Largest answer of which each holder, and one more, may have one."""
        return self.max_bytes // (_COPIES * (self.num_holders + 1))

    def has_room(self, num_bytes: int) -> bool:
        """Whether so many bytes fit, before those who wait."""
        return not self.num_bytes or self.num_bytes + num_bytes <= self.max_bytes

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._waiting)

    async def wait(self, share: Share, num_bytes: int) -> None:
        """Wait for room, first come, first served; it is taken then."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (future, share, num_bytes)
        self._waiting.append(entry)
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                if entry in self._waiting:
                    self._waiting.remove(entry)
                self.serve()
            else:  # it was given just now
                share.give_back_taken(num_bytes)
            raise

    def note(self, num_bytes: int) -> None:
        """Count bytes more, or less."""
        self.num_bytes += num_bytes
        self._peak = max(self._peak, self.num_bytes + self.num_stopped_bytes)
        if num_bytes < 0:
            self._noted_at = time.monotonic()
            if not self._is_trimming:
                self._is_trimming = True
                asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        """Let the system have what was freed: after a peak, and when all is quiet."""
        num_all = self.num_bytes + self.num_stopped_bytes
        is_quiet = time.monotonic() - self._noted_at >= _TRIM_SECONDS
        if is_quiet or self._peak - num_all > _TRIM_BYTES:
            self._peak = num_all
            asyncio.get_running_loop().run_in_executor(None, give_back)
        self._is_trimming = not is_quiet
        if self._is_trimming:
            asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim)

    def note_sending(self, share: Share) -> None:
        """Watch a share's answer until its client has taken it.

        One timer watches all: to begin and cancel one for each answer takes longer.
        """
        self._senders.add(share)
        if not self._is_watching:
            self._is_watching = True
            asyncio.get_running_loop().call_later(_STOPPED_SECONDS / 4, self._watch)

    def note_sent(self, share: Share) -> None:
        """Watch a share's answer no more."""
        self._senders.discard(share)

    def _watch(self) -> None:
        now = time.monotonic()
        for share in list(self._senders):
            share.stop_if_slow(now)
        self._is_watching = bool(self._senders)
        if self._is_watching:
            asyncio.get_running_loop().call_later(_STOPPED_SECONDS / 4, self._watch)

    def serve(self) -> None:
        """Give those who wait the room that there is."""
        while self._waiting and self.has_room(self._waiting[0][2]):
            future, share, num_bytes = self._waiting.popleft()
            if not future.done():  # cancelled, in the same round of the loop
                share.note_taken(num_bytes)
                future.set_result(None)


class Share:
    """What one stream holds."""

    __slots__ = (
        "_ahead", "_num_sending", "_num_stopped_bytes", "_on_stop", "_sending_since", "num_bytes",
    )  # fmt: skip

    def __init__(self, ahead: Ahead) -> None:
        self._ahead = ahead
        self.num_bytes = 0
        self._num_sending = 0
        self._num_stopped_bytes = 0
        self._sending_since = 0.0
        self._on_stop: Callable[[], None] | None = None

    def __enter__(self) -> Share:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ahead.note_sent(self)
        self._go_on()
        if self.num_bytes:
            self.give_back_taken(self.num_bytes)

    async def take(self, num_bytes: int) -> None:
        """Wait until there is room for an answer, and take it."""
        num_bytes *= _COPIES
        if self._ahead.is_waited_for or not self._ahead.has_room(num_bytes):
            await self._ahead.wait(self, num_bytes)
        else:
            self.note_taken(num_bytes)

    def take_ahead(self, num_bytes: int) -> bool:
        """Take room for a further answer if there is some, within the stream's share."""
        num_bytes *= _COPIES
        ahead = self._ahead
        fair = ahead.max_bytes // max(ahead.num_holders, 1)
        if (
            ahead.is_waited_for
            or self.num_bytes + num_bytes > fair
            or not ahead.has_room(num_bytes)
        ):
            return False
        self.note_taken(num_bytes)
        return True

    def begin_sending(self, num_bytes: int, on_stop: Callable[[], None] | None = None) -> None:
        """Say that an answer is handed to gRPC, which has it until its client takes it.

        :param on_stop: called if the client takes nothing for a while
        """
        self._num_sending = num_bytes * _COPIES
        self._on_stop = on_stop
        self._sending_since = time.monotonic()
        self._ahead.note_sending(self)

    def end_sending(self) -> None:
        """Say that the client has taken the answer, and give back its room."""
        self._ahead.note_sent(self)
        if self._num_stopped_bytes:
            self._go_on()
        num_bytes, self._num_sending = self._num_sending, 0
        self.give_back_taken(num_bytes)

    def stop_if_slow(self, now: float) -> None:
        """Count the answer apart if it has been under way for too long.

        :param now: seconds of the monotonic clock
        """
        if self._num_stopped_bytes or now - self._sending_since < _STOPPED_SECONDS:
            return
        self._num_stopped_bytes = self._num_sending
        self._ahead.num_stopped_bytes += self._num_sending
        self._ahead.note(-self._num_sending)
        if self._on_stop is not None:
            self._on_stop()
        self._ahead.serve()

    def _go_on(self) -> None:
        self._ahead.num_stopped_bytes -= self._num_stopped_bytes
        self._ahead.note(self._num_stopped_bytes)
        self._num_stopped_bytes = 0

    def give_back(self, num_bytes: int) -> None:
        """Give back the room of an answer that is not needed."""
        self.give_back_taken(num_bytes * _COPIES)

    def note_taken(self, num_bytes: int) -> None:
        """Count bytes."""
        if num_bytes and not self.num_bytes:
            self._ahead.num_holders += 1
        self.num_bytes += num_bytes
        self._ahead.note(num_bytes)

    def give_back_taken(self, num_bytes: int) -> None:
        """Count bytes no more."""
        self.num_bytes -= num_bytes
        self._ahead.note(-num_bytes)
        if num_bytes and not self.num_bytes:
            self._ahead.num_holders -= 1
        if self._ahead.is_waited_for:
            self._ahead.serve()
