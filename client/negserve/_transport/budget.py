"""How long something is tried again, and how long one try may take."""

from __future__ import annotations

import random
import time
from collections import Counter

from negserve.errors import (
    InvalidAnswerError,
    OverloadedError,
    ServiceError,
    StalledError,
    UnavailableError,
)

#: What passes by itself, or on another replica.
_PASSING = (UnavailableError, StalledError, OverloadedError, InvalidAnswerError)
#: Answers of one replica that can't be true, after which it is not expected to do better: every
#: RPC is pure, so what it says is what it goes on to say. More than one, since several servers may
#: stand behind an address, and what is between may have changed the bytes.
_MOST_INVALID_ANSWERS = 3
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0
#: With less than that left, nothing is tried any more.
_LEAST_SECONDS = 0.05


class Budget:
    """The time that a call, or a stream between two messages, may spend on tries that fail.

    Does no I/O and never waits: it says how long others may. Time counts from the first failure
    since there was progress; until then each message may take ``timeout``. After it, one silent
    replica never uses up what the others need: a try may take its equal share of what is left,
    among the replicas that were not asked yet in this round.

    A replica whose answers can't be true is asked a few times, not for all the patience: when that
    holds of each, nothing is tried any more.

    :ivar without_dataset: replicas that said so since there was progress
    :param timeout: seconds that a message may take
    :param patience: seconds from the first failure without progress to the last try's end
    :param num_replicas: among how many replicas the tries are shared
    """

    def __init__(self, timeout: float, patience: float, num_replicas: int) -> None:
        self._timeout = timeout
        self._patience = patience
        self._num_replicas = num_replicas
        self.note_progress()

    def note_progress(self) -> None:
        """Begin anew: a message came."""
        self._first_failure: float | None = None
        self._num_failures = 0
        self._invalid_answers: Counter[str] = Counter()
        self._num_unasked = self._num_replicas
        self.without_dataset: set[str] = set()
        self._longest_pause = _FIRST_PAUSE_SECONDS

    def limit(self) -> float:
        """Give how many seconds the next message may take."""
        if self._first_failure is None:
            return self._timeout
        return min(self._timeout, max(self._left() / self._num_unasked, _LEAST_SECONDS))

    def pause_after(self, error: ServiceError) -> float:
        """Give how many seconds to wait before the next try: with jitter, longer each round.

        :raises ServiceError: the error, if it does not pass; or one of its class that says how
            much was tried, if nothing is left
        """
        if not isinstance(error, _PASSING):
            raise error
        if self._first_failure is None:
            self._first_failure = time.monotonic()
        self._num_failures += 1
        self._num_unasked -= 1
        longest = self._longest_pause
        if self._num_unasked == 0:
            self._num_unasked = self._num_replicas
            self._longest_pause = min(2 * longest, _LONGEST_PAUSE_SECONDS)
        left = self._left()
        given_up = f"{self._patience:g} seconds of patience" if left <= _LEAST_SECONDS else ""
        if isinstance(error, InvalidAnswerError):
            self._invalid_answers[error.target] += 1
            if self._none_is_credible():
                given_up = f"{_MOST_INVALID_ANSWERS} such answers of each replica"
        if given_up:
            raise type(error)(
                f"{error}; given up after {self._num_failures} tries and {given_up}",
                reason=error.reason,
                metadata=error.metadata,
                target=error.target,
            ) from error
        # Pauses never use up what is left: the last tries come closer and closer together.
        return min(random.uniform(0.5, 1.0) * longest, left / 2 / self._num_unasked)

    def _none_is_credible(self) -> bool:
        return self._num_replicas == sum(
            count >= _MOST_INVALID_ANSWERS for count in self._invalid_answers.values()
        )

    def _left(self) -> float:
        assert self._first_failure is not None
        return self._first_failure + self._patience - time.monotonic()
