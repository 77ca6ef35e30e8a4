"""A bound on the memory of answers that clients have not taken yet, for all streams together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

from negserve_server.access.caller import Caller
from negserve_server.access.usage import USE
from negserve_server.process.malloc import give_back

#: A client that takes nothing of an answer for this long has stopped reading.
_STALLED_SECONDS = 1.0
#: Of all clients that stopped reading: with so many bytes a stream counts as alone.
_STALLED_BYTES = 16 * 1024 * 1024
#: An answer that is being sent is in memory twice: ours, and gRPC's copy of it.
_COPIES = 2
#: Freed memory goes back to the system when it exceeds this, or when nothing was freed for this
#: long.
_TRIM_BYTES = 16 * 1024 * 1024
_TRIM_SECONDS = 1.0


class SendBudget:
    """Counts the bytes of answers until their clients have taken them.

    A stream that holds no answer waits until there is room for one. It prepares further answers
    only while there is room within its share. gRPC can't give back an answer whose client stopped
    reading before that client reads or leaves. Such an answer is counted apart, so that other
    streams need not wait for it. A stream has at most one of them, and the more there are, the
    smaller the messages of epochs become.

    :param max_bytes: the bound
    :ivar num_bytes: bytes of answers, without stalled ones
    :ivar num_stalled_bytes: bytes of answers whose clients stopped reading
    :ivar num_holders: number of streams that hold answers
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self.num_stalled_bytes = 0
        self.num_holders = 0
        self._waiting: deque[tuple[asyncio.Future[None], BudgetShare, int]] = deque()
        self._peak = 0
        self._is_trimming = False
        self._freed_at = 0.0
        self._senders: set[BudgetShare] = set()
        self._is_watching = False
        #: Budgets of callers that have one of their own, by name.
        self._of_callers: dict[str, SendBudget] = {}

    def open(self, caller: Caller) -> BudgetShare:
        """Create the share of a stream; a context manager, which releases it in the end.

        :param caller: whose stream it is; its answers may be bounded besides
        """
        share = USE.get().answers = self._share(caller)
        return share

    def _share(self, caller: Caller) -> BudgetShare:
        most = caller.quotas.max_ahead_bytes
        if most is None:
            return BudgetShare(self)
        own = self._of_callers.get(caller.name)
        if own is None or own.max_bytes != most:
            own = self._of_callers[caller.name] = SendBudget(most)
        return _NestedShare(self, BudgetShare(own))

    @property
    def fair_bytes(self) -> int:
        """Largest answer that each holder, and one more, could have at the same time."""
        return self.max_bytes // (_COPIES * (self.num_holders + 1))

    def has_room(self, num_bytes: int) -> bool:
        """Whether this many bytes fit, regardless of waiting streams."""
        return not self.num_bytes or self.num_bytes + num_bytes <= self.max_bytes

    @property
    def has_waiters(self) -> bool:
        """Whether streams wait for room."""
        return bool(self._waiting)

    @property
    def num_waiting(self) -> int:
        """Count the streams that wait for room."""
        return len(self._waiting)

    async def wait(self, share: BudgetShare, num_bytes: int) -> None:
        """Wait for room, first come, first served, and reserve it."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (future, share, num_bytes)
        self._waiting.append(entry)
        share.waits = True
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                if entry in self._waiting:
                    self._waiting.remove(entry)
                self.serve_waiters()
            else:  # reserved in the same round of the loop
                share.subtract(num_bytes)
            raise
        finally:
            share.waits = False

    def add(self, num_bytes: int) -> None:
        """Count more bytes, or fewer if negative."""
        self.num_bytes += num_bytes
        self._peak = max(self._peak, self.num_bytes + self.num_stalled_bytes)
        if num_bytes < 0:
            self._freed_at = time.monotonic()
            if not self._is_trimming:
                self._is_trimming = True
                asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        """Return freed memory to the system after a peak, and after a quiet second."""
        num_all = self.num_bytes + self.num_stalled_bytes
        is_quiet = time.monotonic() - self._freed_at >= _TRIM_SECONDS
        if is_quiet or self._peak - num_all > _TRIM_BYTES:
            self._peak = num_all
            asyncio.get_running_loop().run_in_executor(None, give_back)
        self._is_trimming = not is_quiet
        if self._is_trimming:
            asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim)

    def watch(self, share: BudgetShare) -> None:
        """Watch the answer of a share until its client has taken it.

        One timer watches all answers, since a timer for each would cost more.
        """
        self._senders.add(share)
        if not self._is_watching:
            self._is_watching = True
            asyncio.get_running_loop().call_later(_STALLED_SECONDS / 4, self._check_senders)

    def unwatch(self, share: BudgetShare) -> None:
        """Stop watching the answer of a share."""
        self._senders.discard(share)

    def _check_senders(self) -> None:
        now = time.monotonic()
        for share in list(self._senders):
            share.stall_if_slow(now)
        self._is_watching = bool(self._senders)
        if self._is_watching:
            asyncio.get_running_loop().call_later(_STALLED_SECONDS / 4, self._check_senders)

    def serve_waiters(self) -> None:
        """Reserve free room for waiting streams, in order."""
        while self._waiting and self.has_room(self._waiting[0][2]):
            future, share, num_bytes = self._waiting.popleft()
            if not future.done():  # else cancelled in the same round of the loop
                share.add(num_bytes)
                future.set_result(None)


class BudgetShare:
    """The bytes that one stream holds.

    :ivar num_bytes: their number, without a stalled answer
    :ivar waits: whether it waits for room in its budget
    """

    __slots__ = (
        "_budget", "_num_sending", "_num_stalled_bytes", "_on_stall", "_sending_since", "num_bytes",
        "waits",
    )  # fmt: skip

    def __init__(self, budget: SendBudget) -> None:
        self._budget = budget
        self.num_bytes = 0
        self._num_sending = 0
        self._num_stalled_bytes = 0
        self._sending_since = 0.0
        self._on_stall: Callable[[], None] | None = None
        self.waits = False

    @property
    def is_alone(self) -> bool:
        """Whether no other stream holds answers, but for few bytes of clients that stopped reading.

        Each of those holds a message, which should not be large where they are many.
        """
        budget = self._budget
        num_others = budget.num_holders - (self.num_bytes > 0)
        return not num_others and budget.num_stalled_bytes <= _STALLED_BYTES

    @property
    def held_bytes(self) -> int:
        """Bytes of its answers that the client has not taken yet."""
        return self.num_bytes + self._num_stalled_bytes

    @property
    def is_waiting(self) -> bool:
        """Whether its next answer waits for room."""
        return self.waits

    def __enter__(self) -> BudgetShare:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._budget.unwatch(self)
        self._end_stall()
        # Else this and what it is called on hold each other, and with it the graph, until the
        # garbage collector comes.
        self._on_stall = None
        if self.num_bytes:
            self.subtract(self.num_bytes)

    async def reserve(self, num_bytes: int) -> None:
        """Wait until there is room for an answer, and reserve it."""
        num_bytes *= _COPIES
        if self._budget.has_waiters or not self._budget.has_room(num_bytes):
            await self._budget.wait(self, num_bytes)
        else:
            self.add(num_bytes)

    def try_reserve(self, num_bytes: int) -> bool:
        """Reserve room for a further answer, if the stream's share has some.

        :return: whether it was reserved
        """
        num_bytes *= _COPIES
        budget = self._budget
        fair = budget.max_bytes // max(budget.num_holders, 1)
        if (
            budget.has_waiters
            or self.num_bytes + num_bytes > fair
            or not budget.has_room(num_bytes)
        ):
            return False
        self.add(num_bytes)
        return True

    def begin_sending(self, num_bytes: int, on_stall: Callable[[], None] | None = None) -> None:
        """Record that an answer is handed to gRPC, which holds it until its client takes it.

        :param on_stall: called if the client takes nothing for a while
        """
        self._num_sending = num_bytes * _COPIES
        self._on_stall = on_stall
        self._sending_since = time.monotonic()
        self._budget.watch(self)

    def end_sending(self) -> None:
        """Release the room of an answer that the client has taken."""
        self._budget.unwatch(self)
        if self._num_stalled_bytes:
            self._end_stall()
        num_bytes, self._num_sending = self._num_sending, 0
        self.subtract(num_bytes)

    def stall_if_slow(self, now: float) -> None:
        """Count the answer apart if sending takes too long.

        :param now: seconds of the monotonic clock
        """
        if self._num_stalled_bytes or now - self._sending_since < _STALLED_SECONDS:
            return
        self._num_stalled_bytes = self._num_sending
        self._budget.num_stalled_bytes += self._num_sending
        self._budget.add(-self._num_sending)
        if self._on_stall is not None:
            self._on_stall()
        self._budget.serve_waiters()

    def _end_stall(self) -> None:
        self._budget.num_stalled_bytes -= self._num_stalled_bytes
        self._budget.add(self._num_stalled_bytes)
        self._num_stalled_bytes = 0

    def release(self, num_bytes: int) -> None:
        """Release the room of an answer that is not sent."""
        self.subtract(num_bytes * _COPIES)

    def add(self, num_bytes: int) -> None:
        """Count more bytes."""
        if num_bytes and not self.num_bytes:
            self._budget.num_holders += 1
        self.num_bytes += num_bytes
        self._budget.add(num_bytes)

    def subtract(self, num_bytes: int) -> None:
        """Count fewer bytes, and serve waiting streams."""
        self.num_bytes -= num_bytes
        self._budget.add(-num_bytes)
        if num_bytes and not self.num_bytes:
            self._budget.num_holders -= 1
        if self._budget.has_waiters:
            self._budget.serve_waiters()


class _NestedShare(BudgetShare):
    """The bytes that one stream holds, which count against the budget of its caller, too.

    :param own: its share of that budget
    """

    __slots__ = ("_own",)

    def __init__(self, budget: SendBudget, own: BudgetShare) -> None:
        super().__init__(budget)
        self._own = own

    @property
    def is_waiting(self) -> bool:
        """As of any share."""
        return self.waits or self._own.waits

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        super().__exit__(kind, error, trace)
        self._own.__exit__(kind, error, trace)

    async def reserve(self, num_bytes: int) -> None:
        """As of any share; the caller's own budget first, so that nobody else waits for it."""
        await self._own.reserve(num_bytes)
        try:
            await super().reserve(num_bytes)
        except BaseException:
            self._own.release(num_bytes)
            raise

    def try_reserve(self, num_bytes: int) -> bool:
        """As of any share."""
        if not self._own.try_reserve(num_bytes):
            return False
        if super().try_reserve(num_bytes):
            return True
        self._own.release(num_bytes)
        return False

    def begin_sending(self, num_bytes: int, on_stall: Callable[[], None] | None = None) -> None:
        """As of any share."""
        self._own.begin_sending(num_bytes)
        super().begin_sending(num_bytes, on_stall)

    def end_sending(self) -> None:
        """As of any share."""
        super().end_sending()
        self._own.end_sending()

    def release(self, num_bytes: int) -> None:
        """As of any share."""
        super().release(num_bytes)
        self._own.release(num_bytes)
