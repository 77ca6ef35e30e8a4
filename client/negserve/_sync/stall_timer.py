"""Ends calls whose next message does not come in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from negserve._sync import forks

#: Without waits for so long, the thread ends; the next wait starts another.
_IDLE_SECONDS = 5.0


class _Cancellable(Protocol):
    def cancel(self) -> object: ...


class StallTimer:
    """One thread that watches over any number of waits.

    grpc knows deadlines of whole calls only; a stream lives for hours, and must still not
    wait forever for a message. Waiting costs two dictionary operations, no thread.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waits: dict[object, tuple[float, _Cancellable]] = {}
        self._expired: set[object] = set()
        self._thread: threading.Thread | None = None
        self._next_check = float("inf")

    @contextmanager
    def limit(self, call: _Cancellable, seconds: float) -> Iterator[None]:
        """Cancel a call unless the body ends in time.

        :raises TimeoutError: in place of what the body raised, if the call was cancelled
        """
        key = object()
        deadline = time.monotonic() + seconds
        with self._condition:
            self._waits[key] = (deadline, call)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="negserve-stall-timer", daemon=True
                )
                self._thread.start()
            if deadline < self._next_check:
                self._condition.notify()
        try:
            yield
        except Exception as error:
            if key in self._expired:
                raise TimeoutError(f"no message for {seconds:g} seconds") from error
            raise
        finally:
            with self._condition:
                self._waits.pop(key, None)
                self._expired.discard(key)

    def _run(self) -> None:
        while True:
            for call in self._expire():
                with forks.using():
                    call.cancel()
            with self._condition:
                now = time.monotonic()
                self._next_check = min(
                    (deadline for deadline, _ in self._waits.values()), default=float("inf")
                )
                was_called = self._condition.wait(min(self._next_check - now, _IDLE_SECONDS))
                if not (was_called or self._waits):
                    self._thread = None
                    return

    def _expire(self) -> list[_Cancellable]:
        with self._condition:
            now = time.monotonic()
            late = [key for key, (deadline, _) in self._waits.items() if deadline <= now]
            self._expired.update(late)
            return [self._waits.pop(key)[1] for key in late]
