"""Whose turn it is to draw: one visitor at a time, and a few times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from negserve_server.pages.refused_request import RefusedRequest

_T = TypeVar("_T")

#: Turns a second in the long run, and at once after a pause.
TURNS_A_SECOND, MOST_AT_ONCE = 2.0, 10.0
#: How long a visitor waits for those before, and then for a drawing: less than a connection lasts.
_QUEUE_SECONDS, _WORK_SECONDS = 1.0, 6.0


class DrawingTurns:
    """Bounds what all visitors together cost this process."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._left = MOST_AT_ONCE
        self._counted_at = time.monotonic()

    def run(self, work: Callable[[], _T]) -> _T:
        """Do some work in a thread, alone, and give its result.

        :raises RefusedRequest: if there were too many turns, or one takes too long; what takes long
            goes on, so that it is there for the next one
        """
        self._count()
        if not self._turn.acquire(timeout=_QUEUE_SECONDS):
            raise RefusedRequest(
                "503 Service Unavailable",
                "another drawing is under way, the limit is one; try again in some seconds",
            )
        result: Future[_T] = Future()
        # Not one of a pool, which the end of the process would wait for.
        threading.Thread(
            target=self._work, args=(work, result), name="playground", daemon=True
        ).start()
        try:
            return result.result(_WORK_SECONDS)
        except TimeoutError:
            raise RefusedRequest(
                "503 Service Unavailable",
                f"the tables of this sampler are not made after {_WORK_SECONDS:g} seconds; they "
                f"are still being made, so try again in a while",
            ) from None

    def _work(self, work: Callable[[], _T], result: Future[_T]) -> None:
        try:
            made = work()
        except BaseException as error:
            result.set_exception(error)
        else:
            result.set_result(made)
        finally:
            self._turn.release()

    def _count(self) -> None:
        with self._lock:
            now = time.monotonic()
            self._left = min(self._left + (now - self._counted_at) * TURNS_A_SECOND, MOST_AT_ONCE)
            self._counted_at = now
            if self._left < 1:
                raise RefusedRequest(
                    "429 Too Many Requests",
                    f"visitors draw too often, the limit is {TURNS_A_SECOND:g} times a second; try "
                    f"again in a second",
                )
            self._left -= 1
