"""When certificates are renewed: tables, and what holds for all lives and chances."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.control.renewal import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    URGENT_RETRY_S,
    renew_at_s,
    retry_at_s,
    suggested_at_s,
)

DAY_S = 86_400.0
chances = st.floats(0, 1, exclude_max=True)
lives = st.floats(3600, 400 * DAY_S)


@pytest.mark.parametrize(
    ("days", "chance", "after_days"), [(90, 0.0, 60.0), (90, 1.0, 57.0), (6, 0.0, 4.0), (6, 0.5, 3.9)]
)
def test_two_thirds_of_its_life_less_some(days: float, chance: float, after_days: float) -> None:
    assert renew_at_s(0.0, days * DAY_S, chance) == pytest.approx(after_days * DAY_S)


@given(st.floats(0, 2e9), lives, chances)
def test_there_is_time_left_for_mistakes(begin_s: float, life_s: float, chance: float) -> None:
    at_s = renew_at_s(begin_s, begin_s + life_s, chance)
    assert begin_s + 0.6 * life_s < at_s <= begin_s + 0.67 * life_s


@given(st.floats(0, 4e9), lives)
def test_a_suggestion_is_followed_unless_it_is_reckless(suggested_s: float, life_s: float) -> None:
    at_s = suggested_at_s(suggested_s, 1e9, 1e9 + life_s)
    assert at_s == suggested_s or at_s == pytest.approx(1e9 + life_s * 5 / 6)
    assert at_s <= 1e9 + life_s * 5 / 6 + 1


@pytest.mark.parametrize(
    ("failures", "lasts_s", "delay_s"),
    [
        (1, 30 * DAY_S, FIRST_RETRY_S),
        (2, 30 * DAY_S, 2 * FIRST_RETRY_S),
        (5, 30 * DAY_S, 16 * FIRST_RETRY_S),
        (20, 30 * DAY_S, LONGEST_RETRY_S),
        (10_000, 30 * DAY_S, LONGEST_RETRY_S),
        (20, 2 * DAY_S, URGENT_RETRY_S),
        (1, 2 * DAY_S, FIRST_RETRY_S),
        (20, -DAY_S, LONGEST_RETRY_S),  # it has ended: hurry helps nobody
    ],
)
def test_retries(failures: int, lasts_s: float, delay_s: float) -> None:
    assert retry_at_s(failures, 1e9, 1e9 + lasts_s, 0.5) - 1e9 == pytest.approx(delay_s)


@given(st.integers(1, 10_000), st.floats(-400 * DAY_S, 400 * DAY_S), chances)
def test_a_retry_is_never_at_once_and_never_far_away(failures: int, lasts_s: float, chance: float) -> None:
    delay_s = retry_at_s(failures, 1e9, 1e9 + lasts_s, chance) - 1e9
    assert 0.79 * FIRST_RETRY_S <= delay_s <= 1.21 * LONGEST_RETRY_S
