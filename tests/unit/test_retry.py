"""When to try again: which errors, after how long, and when a store is spared."""

from __future__ import annotations

import pytest

from llmspan.errors import PermanentError, RetryableError, SchemaError, SettingsError, ThrottledError
from llmspan.pipeline.retry import Backoff, is_retryable

AWAY = RetryableError("away")


def longest(_: float, bound: float) -> float:
    return bound


def shortest(bound: float, _: float) -> float:
    return bound


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AWAY, True),
        (ThrottledError("busy", 1.0), True),
        (SettingsError("no such host"), True),
        (SchemaError("newer"), True),
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (PermanentError("no"), False),
        (ZeroDivisionError("a defect"), False),
        (ValueError("a defect"), False),
    ],
)
def test_what_is_tried_again(error: Exception, expected: bool) -> None:
    """What the store, its set-up or the machine refuses may pass; what the record or the code causes will not."""
    assert is_retryable(error) is expected


def test_pauses_double_up_to_a_bound() -> None:
    """The bound of the pause doubles from half a second to thirty."""
    breaker = Backoff(longest)
    assert [breaker.next_delay(AWAY) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_pauses_are_drawn_from_zero() -> None:
    """Full jitter: a pause may be anything from nothing, until the breaker opens."""
    breaker = Backoff(shortest)
    assert [breaker.next_delay(AWAY) for _ in range(6)] == [0, 0, 0, 0, 1, 1]


def test_the_breaker_opens_tries_and_closes() -> None:
    """Five failures in a row open it; one write at a time finds out; an answer closes it and starts anew."""
    breaker = Backoff(longest)
    for _ in range(4):
        breaker.on_attempt()
        breaker.next_delay(AWAY)
        assert breaker.state == "closed"
    breaker.on_attempt()
    breaker.next_delay(AWAY)
    assert breaker.state == "open"
    breaker.on_attempt()
    assert breaker.state == "half_open"
    breaker.next_delay(AWAY)
    assert breaker.state == "open"
    breaker.on_attempt()
    breaker.on_answer()
    assert breaker.state == "closed"
    assert breaker.next_delay(AWAY) == 0.5


def test_a_store_is_believed_about_its_pause() -> None:
    """A throttled write waits exactly what was asked, hurried or not, but not for ever."""
    breaker = Backoff(shortest)
    assert breaker.next_delay(ThrottledError("busy", 7.0)) == 7.0
    assert breaker.state == "open"
    assert breaker.shortened_for_flush(7.0) == 7.0
    assert breaker.next_delay(ThrottledError("busy", 1e9)) == 600.0
    assert breaker.next_delay(ThrottledError("busy", -1.0)) == 0.0


def test_a_hurry_shortens_pauses() -> None:
    """While somebody waits, tries come faster: a little, where the store is down."""
    breaker = Backoff(longest)
    assert breaker.shortened_for_flush(breaker.next_delay(AWAY)) == 0.1
    for _ in range(5):
        pause = breaker.next_delay(AWAY)
    assert breaker.shortened_for_flush(pause) == 1.0


def test_a_wrong_set_up_is_tried_slowly() -> None:
    """A store that is set up wrongly opens the breaker at once."""
    breaker = Backoff(longest)
    assert breaker.next_delay(SettingsError("no such database")) == 30.0
    assert breaker.state == "open"
