"""Negatives of a caller are spread over time."""

from __future__ import annotations

import pytest

from negserve_server.access import negative_rate
from negserve_server.access.negative_rate import NegativeRate
from negserve_server.errors import Refusal


class Clock:
    """A clock that tests set."""

    now = 1000.0

    def monotonic(self) -> float:
        """Give the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(negative_rate, "time", clock)
    return clock


def test_a_caller_has_its_rate_and_a_burst_of_a_second(clock: Clock):
    rate, taken = NegativeRate(100.0, "team-a"), 0
    begin = clock.now
    while clock.now < begin + 60:
        clock.now += rate.take(30)
        taken += 30
    assert 60 * 100 <= taken <= 61 * 100 + 2 * 30
    clock.now += 3600
    assert [rate.take(50) for _ in range(3)] == [0.0, 0.0, 0.0], "a second of it at once"
    assert rate.take(50) == pytest.approx(0.5)


def test_a_message_beyond_the_bucket_is_sent_and_paid_for_later(clock: Clock):
    rate = NegativeRate(100.0, "team-a")
    assert rate.take(700) == 0.0
    assert rate.take(1) == pytest.approx(6.0)
    rate.give_back(1)
    assert rate.take(1) == pytest.approx(6.0)


def test_a_turn_too_far_away_is_refused_with_its_time(clock: Clock):
    rate = NegativeRate(100.0, "team-a")
    rate.take(5000)
    for _ in range(3):
        with pytest.raises(Refusal, match="team-a has drawn more than its 100") as caught:
            rate.take(1)
        assert caught.value.reason == "QUOTA_EXCEEDED"
        assert caught.value.retry_seconds == pytest.approx(49.0)
        assert caught.value.metadata["limit"] == "100.0"
    clock.now += 39.5
    assert rate.take(1) == pytest.approx(9.5), "what was refused is not charged"


def test_a_refusal_names_a_long_subject_in_part_and_without_controls(clock: Clock):
    subject = "CN=trainer\x1b[2J\u202e,O=" + "x" * 5000 + "-the-end"
    rate = NegativeRate(100.0, subject)
    rate.take(5000)
    with pytest.raises(Refusal) as caught:
        rate.take(1)
    for said in (str(caught.value), caught.value.metadata["caller"]):
        assert said.isprintable()
        assert "CN=trainer\\u001b[2J\\u202e" in said
        assert "-the-end" in said
        assert len(said) < 600
    assert "ask the operator to raise negatives_per_second" in str(caught.value)
