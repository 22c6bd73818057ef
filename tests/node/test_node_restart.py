from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.node import restart


@pytest.mark.parametrize(
    ("streak", "uptime_s", "after"),
    [(0, 0.1, 1), (1, 0.1, 2), (7, 9.9, 8), (7, 10.0, 1), (0, 3600.0, 1)],
)
def test_a_streak_ends_with_a_steady_run(streak: int, uptime_s: float, after: int) -> None:
    assert restart.streak_after(streak, uptime_s) == after


@pytest.mark.parametrize(
    ("streak", "chance", "delay_s"),
    [
        (0, 0.9, 0.0),
        (1, 0.9, 0.0),
        (2, 0.0, 0.125),
        (2, 1.0, 0.25),
        (3, 1.0, 0.5),
        (6, 1.0, 4.0),
        (7, 1.0, 5.0),
    ],
)
def test_the_first_restart_is_immediate_and_later_ones_wait_longer(
    streak: int, chance: float, delay_s: float
) -> None:
    assert restart.delay_s(streak, chance) == delay_s


@given(st.integers(2, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_bounded_and_at_least_half_its_ceiling(streak: int, chance: float) -> None:
    delay_s = restart.delay_s(streak, chance)
    assert restart.BASE_S / 2 <= delay_s <= restart.LONGEST_S
    assert delay_s >= restart.delay_s(streak, 0.0)


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "left with status 0"), (3, "left with status 3"), (-9, "was killed by SIGKILL")],
)
def test_exits_in_words(code: int, words: str) -> None:
    assert restart.describe_exit(code) == words
    assert restart.describe_exit(-4711) == "was killed by signal 4711"
