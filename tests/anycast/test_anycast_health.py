"""Health: every row of the module's table with exact counts, damping to the second, and invariants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.anycast.health import (
    Health,
    HealthLimits,
    State,
    Verdict,
    classify,
    decayed,
    forgiven,
    observe,
    resumed,
)

LIMITS = HealthLimits()
P, W, S, R = Verdict.PASS, Verdict.WRONG, Verdict.SILENT, Verdict.REFUSED
UP = Health(state="up", passes=2)
SOFT = Health(state="soft", fails=3)
HARD = Health(state="hard", fails=1)


def after(health: Health, *verdicts: Verdict, step_s: float = 0.0, limits: HealthLimits = LIMITS) -> Health:
    """`health` after checks `step_s` apart, the first at `checked_s + step_s`."""
    for verdict in verdicts:
        health = observe(health, verdict, health.checked_s + step_s, limits)
    return health


def test_the_defaults_are_the_documented_ones() -> None:
    assert HealthLimits() == HealthLimits(rise=2, fall=3, suppress=3.5, reuse=1.5, penalty_half_life_s=60.0)
    assert Health() == Health(
        state="starting", passes=0, fails=0, silent=0, penalty=0.0, suppressed=False, checked_s=0.0
    )


@pytest.mark.parametrize(
    ("start", "verdicts", "state"),
    [
        (Health(), (), "starting"),
        (Health(), (P,), "starting"),
        (Health(), (P, P), "up"),
        (Health(), (P, W, P), "starting"),
        (Health(), (P, W, P, P), "up"),
        (Health(), (R, R, R), "starting"),
        (Health(), (S, S, S, S), "starting"),
        (Health(), (W, W, W, W), "starting"),
        (UP, (P, P, P), "up"),
        (UP, (R,), "hard"),
        (UP, (W, W), "up"),
        (UP, (W, W, W), "soft"),
        (UP, (W, W, P, W, W), "up"),
        (UP, (S, S), "up"),
        (UP, (S, S, S), "hard"),
        (UP, (S, S, W), "soft"),
        (UP, (S, S, P, S, S), "up"),
        (UP, (W, S, S), "soft"),
        (UP, (S, W, S), "soft"),
        (UP, (W, R), "hard"),
        (SOFT, (P,), "soft"),
        (SOFT, (P, P), "up"),
        (SOFT, (P, W, P), "soft"),
        (SOFT, (W,), "soft"),
        (SOFT, (R,), "hard"),
        (SOFT, (S, S), "soft"),
        (SOFT, (S, S, S), "hard"),
        (SOFT, (S, S, W, S, S), "soft"),
        (HARD, (P,), "hard"),
        (HARD, (P, P), "up"),
        (HARD, (P, R, P), "hard"),
        (HARD, (W, W, W, W), "hard"),
        (HARD, (S,), "hard"),
    ],
)
def test_states(start: Health, verdicts: tuple[Verdict, ...], state: State) -> None:
    assert after(start, *verdicts).state == state


def test_counts_are_of_runs() -> None:
    health = after(UP, W, S, S)
    assert (health.passes, health.fails, health.silent) == (0, 3, 2)
    health = after(health, W)
    assert (health.passes, health.fails, health.silent) == (0, 4, 0)
    health = after(health, P)
    assert (health.passes, health.fails, health.silent) == (1, 0, 0)
    assert after(health, P).passes == 2
    assert after(UP, P).passes == 3


def test_rise_and_fall_are_the_limits_own() -> None:
    limits = HealthLimits(rise=3, fall=1)
    assert after(Health(), P, P, limits=limits).state == "starting"
    assert after(Health(), P, P, P, limits=limits).state == "up"
    assert after(UP, W, limits=limits).state == "soft"
    assert after(UP, S, limits=limits).state == "hard"


def test_a_fall_costs_one_and_half_of_it_is_forgiven_in_a_half_life() -> None:
    fallen = observe(UP, R, 100.0, LIMITS)
    assert (fallen.penalty, fallen.suppressed, fallen.checked_s) == (1.0, False, 100.0)
    assert decayed(fallen, 100.0, LIMITS) == 1.0
    assert decayed(fallen, 160.0, LIMITS) == 0.5
    assert decayed(fallen, 220.0, LIMITS) == 0.25
    assert decayed(fallen, 50.0, LIMITS) == 1.0, "a clock that went back forgives nothing"
    assert decayed(fallen, 110.0, HealthLimits(penalty_half_life_s=10.0)) == 0.5
    assert observe(fallen, P, 160.0, LIMITS).penalty == 0.5


def test_only_a_fall_from_up_costs() -> None:
    assert observe(SOFT, R, 0.0, LIMITS).penalty == 0.0
    assert observe(HARD, R, 0.0, LIMITS).penalty == 0.0
    assert observe(Health(), R, 0.0, LIMITS).penalty == 0.0
    assert after(UP, W, W).penalty == 0.0
    assert after(UP, W, W, W).penalty == 1.0
    assert after(UP, W, W, W, R).penalty == 1.0


def test_the_fourth_quick_fall_is_not_forgiven_at_once() -> None:
    health = UP
    for fall in range(1, 4):
        health = after(health, R)
        assert (health.penalty, health.suppressed) == (fall, False)
        health = after(health, P, P)
        assert health.state == "up"
    health = after(health, R)
    assert (health.penalty, health.suppressed) == (4.0, True)
    health = after(health, P, P, P, P)
    assert (health.state, health.suppressed) == ("hard", True)
    # 4.0 is 2.0 after one half-life, 1.5 after 84.9 s: reuse is below, not at
    health = observe(health, P, 60.0, LIMITS)
    assert (health.state, health.penalty, health.suppressed) == ("hard", 2.0, True)
    health = observe(health, P, 85.0, LIMITS)
    assert (health.state, health.suppressed) == ("up", False)


def test_suppression_starts_above_its_limit_and_ends_at_reuse() -> None:
    exact = HealthLimits(suppress=1.0, reuse=0.5)
    assert not observe(UP, R, 0.0, exact).suppressed
    assert observe(Health(state="up", penalty=0.001), R, 0.0, exact).suppressed
    held = Health(state="hard", passes=5, penalty=1.0, suppressed=True)
    assert observe(held, P, 59.0, exact).suppressed
    released = observe(held, P, 60.0, exact)
    assert (released.suppressed, released.state) == (False, "up")
    again = observe(held, R, 60.0, exact)
    assert (again.suppressed, again.state) == (False, "hard")


def test_a_pop_that_is_not_suppressed_never_becomes_so_without_a_fall() -> None:
    heavy = Health(state="hard", penalty=9.0)
    assert not observe(heavy, R, 0.0, LIMITS).suppressed
    assert after(heavy, P, P).state == "up"


@pytest.mark.parametrize(("status", "verdict"), [(200, P), (199, W), (201, W), (404, W), (500, W), (503, W)])
def test_only_200_passes(status: int, verdict: Verdict) -> None:
    assert classify(status) is verdict


_verdicts = st.lists(st.sampled_from(list(Verdict)), max_size=60)


@given(_verdicts, st.floats(0.0, 5.0))
def test_what_is_up_passed_lately_and_what_was_refused_is_not_up(
    verdicts: list[Verdict], step_s: float
) -> None:
    health = Health()
    for seen in range(len(verdicts)):
        before, health = health, after(health, verdicts[seen], step_s=step_s)
        last = verdicts[max(0, seen + 1 - LIMITS.rise) : seen + 1]
        if verdicts[seen] is R:
            assert health.state in ("starting", "hard")
        if health.state == "up" and before.state != "up":
            assert last == [P] * LIMITS.rise
            assert not health.suppressed
        if before.state != "starting":
            assert health.state != "starting"
        assert 0.0 <= health.penalty <= 60.0


@pytest.mark.parametrize(
    ("penalty", "suppressed", "fell", "now_s", "expected"),
    [
        (0.0, False, False, 100.0, (0.0, False)),
        (0.0, False, True, 100.0, (1.0, False)),
        (2.0, False, True, 160.0, (2.0, False)),
        (3.0, False, True, 100.0, (4.0, True)),
        (4.0, True, False, 160.0, (2.0, True)),
        (4.0, True, False, 220.0, (1.0, False)),
        (4.0, True, False, 40.0, (4.0, True)),  # the clock was set back
    ],
)
def test_what_was_remembered_counts_at_the_start(
    penalty: float, suppressed: bool, fell: bool, now_s: float, expected: tuple[float, bool]
) -> None:
    health = resumed(penalty, suppressed, 100.0, fell, now_s, LIMITS)
    assert (health.penalty, health.suppressed) == expected
    assert (health.state, health.checked_s) == ("starting", now_s)
    assert after(health, P, P).state == ("starting" if expected[1] else "up")
    assert after(forgiven(health), P, P).state == "up"
