"""The retry budget: shares of replicas, pauses, and the end."""

from __future__ import annotations

import pytest

from negserve import (
    InvalidAnswerError,
    InvalidRequestError,
    OverloadedError,
    ServerFaultError,
    ServiceError,
    StalledError,
    UnavailableError,
)
from negserve._transport import transport as module
from negserve._transport.transport import RetryBudget

GONE = UnavailableError("10.0.0.1:7733: gone", reason="DRAINING", target="10.0.0.1:7733")


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 5])
@pytest.mark.parametrize("patience", [1.0, 10.0, 37.0])
def test_every_replica_is_asked_however_silent_the_others_are(
    clock: Clock, num_replicas: int, patience: float
):
    budget = RetryBudget(10.0, patience, num_replicas)
    assert budget.limit() == 10.0
    limits = []
    begin = clock.now + 10.0
    with pytest.raises(StalledError):
        while True:
            limits.append(budget.limit())
            clock.now += limits[-1]
            clock.now += budget.pause_after(StalledError("silent"))
    assert len(limits) >= max(num_replicas, 2)
    assert min(limits[1:num_replicas], default=10.0) > 0.6 * min(10.0, patience / num_replicas)
    assert clock.now - begin == pytest.approx(patience, abs=0.1)


def test_pauses_grow_with_jitter_and_use_up_the_rest(clock: Clock):
    pauses = []
    budget = RetryBudget(1.0, 30.0, 1)
    with pytest.raises(UnavailableError, match="given up after"):
        while True:
            pauses.append(budget.pause_after(GONE))
            clock.now += pauses[-1]
    assert all(0.5 <= pause / (0.05 * 2**i) <= 1 for i, pause in enumerate(pauses[:6]))
    assert max(pauses) <= 2
    assert len(set(pauses)) == len(pauses)
    assert sum(pauses) == pytest.approx(30, abs=0.06)
    assert len(pauses) < 50


def test_patience_without_end_does_not_overflow(clock: Clock):
    budget = RetryBudget(1.0, 1e9, 1)
    for _ in range(3000):
        assert 0 < budget.pause_after(GONE) <= 2


def test_progress_begins_anew(clock: Clock):
    budget = RetryBudget(1.0, 2.0, 1)
    for _ in range(10):
        assert budget.pause_after(GONE) <= 0.05
        clock.now += 1.99
        assert budget.limit() == 0.05
        budget.note_progress()
        assert budget.limit() == 1.0


def test_the_error_that_spends_the_budget_has_the_previous_one_as_its_cause(clock: Clock):
    budget = RetryBudget(1.0, 2.0, 1)
    budget.pause_after(StalledError("silent"))
    clock.now += 2
    with pytest.raises(UnavailableError, match=r"gone; given up after 2 tries and 2 sec") as caught:
        budget.pause_after(GONE)
    assert caught.value.reason == "DRAINING"
    assert caught.value.target == GONE.target
    assert caught.value.__cause__ is GONE


def test_a_last_try_that_patience_cut_short_does_not_hide_what_was_wrong(clock: Clock):
    silent = StalledError("silent", target=GONE.target)

    def raised(num_seconds_of_the_last_try: float) -> ServiceError:
        budget = RetryBudget(1.0, 2.0, 1)
        budget.pause_after(GONE)
        clock.now += 2.0 - num_seconds_of_the_last_try
        assert budget.limit() == pytest.approx(min(1.0, num_seconds_of_the_last_try))
        clock.now += num_seconds_of_the_last_try
        with pytest.raises(ServiceError) as caught:
            budget.pause_after(silent)
        return caught.value

    assert isinstance(raised(0.2), UnavailableError)
    assert "gone; given up after 2 tries" in str(raised(0.2))
    assert isinstance(raised(1.5), StalledError)  # it was silent for all of its timeout


def test_only_temporary_errors_are_retried(clock: Clock):
    for error in (UnavailableError, StalledError, OverloadedError):
        assert RetryBudget(1.0, 1.0, 1).pause_after(error("x")) > 0
    fault = ServerFaultError("x")
    with pytest.raises(ServerFaultError) as caught:
        RetryBudget(1.0, 1.0, 1).pause_after(fault)
    assert caught.value is fault
    assert not issubclass(InvalidRequestError, module.ServiceError)


def test_answers_that_cannot_be_true_end_a_call_when_no_replica_is_left(clock: Clock):
    one, other = (InvalidAnswerError("wrong", target=target) for target in ("one:1", "other:1"))
    budget = RetryBudget(10.0, 1000.0, 2)
    for _ in range(5):
        clock.now += budget.pause_after(one)  # the other one may come back
        clock.now += budget.pause_after(GONE)
    for _ in range(2):
        clock.now += budget.pause_after(other)
    with pytest.raises(InvalidAnswerError, match="3 such answers of each replica") as caught:
        budget.pause_after(other)
    assert caught.value.target == "other:1"
    assert clock.now < 1000.0 + 100.0

    budget = RetryBudget(10.0, 1000.0, 1)
    for _ in range(9):
        budget.pause_after(one)
        budget.note_progress()
