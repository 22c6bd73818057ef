"""The ladder: thresholds, dwell times, its limits, and what holds for any load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.anycast.ladder import (
    ALL_STEPS,
    WITHOUT_PARTIAL,
    Ladder,
    LadderLimits,
    Load,
    Step,
    Strain,
    calm_s,
    climbed,
    felt,
    strain,
)

LIMITS = LadderLimits()
OVER, CALM, BETWEEN, FAILING = Strain.OVER, Strain.CALM, Strain.BETWEEN, Strain.FAILING


def run(
    ladder: Ladder,
    verdicts: list[tuple[float, Strain]],
    top: Step = Step.WITHDRAWN,
    steps: tuple[Step, ...] = ALL_STEPS,
) -> tuple[Ladder, list[tuple[float, Step]]]:
    """The ladder after `verdicts` (at, what), and each step it took."""
    taken = []
    for at_s, verdict in verdicts:
        before = ladder.step
        ladder = climbed(felt(ladder, verdict, at_s, LIMITS), at_s, LIMITS, steps, top)
        if ladder.step is not before:
            taken.append((at_s, ladder.step))
    return ladder, taken


def every(period_s: float, start_s: float, end_s: float, verdict: Strain) -> list[tuple[float, Strain]]:
    """The same verdict again and again."""
    return [(start_s + i * period_s, verdict) for i in range(int((end_s - start_s) / period_s))]


@pytest.mark.parametrize(
    ("cpu", "connections", "p99_ms", "expected"),
    [
        (0.60, 0.60, 200, CALM),
        (0.61, 0.60, 200, BETWEEN),
        (0.60, 0.60, 201, BETWEEN),
        (0.84, 0.84, 499, BETWEEN),
        (0.85, 0.00, 0, OVER),
        (0.00, 0.85, 0, OVER),
        (0.00, 0.00, 500, OVER),
    ],
)
def test_any_measure_is_enough_for_over_and_all_are_asked_for_calm(
    cpu: float, connections: float, p99_ms: float, expected: Strain
) -> None:
    assert strain(Load(cpu=cpu, connections=connections, p99_ms=p99_ms), LIMITS) is expected


def test_nothing_measured_moves_nothing() -> None:
    assert strain(None, LIMITS) is Strain.UNKNOWN
    ladder, taken = run(Ladder(step=Step.PREPEND), every(10, 0, 5000, Strain.UNKNOWN))
    assert (ladder.step, taken) == (Step.PREPEND, [])


def test_overload_has_to_last() -> None:
    assert run(Ladder(), [(0, OVER), (29, OVER), (29.5, BETWEEN), (30, OVER), (59, OVER)])[1] == []
    assert run(Ladder(), [(0, OVER), (29, OVER), (30, OVER)])[1] == [(30, Step.PREPEND)]


def test_each_step_has_its_own_dwell_and_no_more_than_two_come_in_ten_minutes() -> None:
    _, taken = run(Ladder(), every(10, 0, 2000, OVER))
    assert taken == [(30, Step.PREPEND), (60, Step.PARTIAL), (630, Step.WITHDRAWN)]


def test_without_a_permit_it_ends_at_prepending() -> None:
    ladder, taken = run(Ladder(), every(10, 0, 9000, OVER), top=Step.PREPEND)
    assert taken == [(30, Step.PREPEND)]
    assert ladder.step is Step.PREPEND


def test_a_single_prefix_has_no_partial_step() -> None:
    ladder, taken = run(Ladder(), every(10, 0, 600, OVER), steps=WITHOUT_PARTIAL)
    assert taken == [(30, Step.PREPEND), (60, Step.WITHDRAWN)]
    _, taken = run(ladder, every(10, 600, 3000, CALM), steps=WITHOUT_PARTIAL)
    assert [step for _, step in taken] == [Step.PREPEND, Step.NORMAL]


def test_failing_checks_go_as_far_as_allowed_at_once() -> None:
    assert run(Ladder(), [(0, FAILING)])[1] == [(0, Step.WITHDRAWN)]
    assert run(Ladder(), [(0, FAILING)], top=Step.PREPEND)[1] == [(0, Step.PREPEND)]


def test_a_lost_permit_returns_at_once_whatever_the_limits_say() -> None:
    full = Ladder(step=Step.WITHDRAWN, strain=OVER, moved_s=(98.0, 99.0))
    assert run(full, [(100, OVER)], top=Step.PREPEND)[1] == [(100, Step.PREPEND)]


def test_calm_waits_longer_after_each_relapse_and_a_quiet_hour_forgives() -> None:
    ladder, waits, now_s = Ladder(step=Step.PREPEND), [], 0.0
    for _ in range(5):
        ladder, taken = run(ladder, every(10, now_s, now_s + 4000, CALM)[:260])
        waits.append(taken[0][0] - now_s)
        now_s = taken[0][0] + 700
        ladder = Ladder(step=Step.NORMAL, relaxed_s=taken[0][0], relapses=ladder.relapses)
        ladder, taken = run(ladder, every(10, now_s, now_s + 50, OVER))
        assert [step for _, step in taken] == [Step.PREPEND]
        now_s += 1000
    assert waits == [300, 600, 1200, 2400, 2400]
    rested, _ = run(Ladder(relaxed_s=0.0, relapses=3), [(3600, CALM)])
    assert (rested.relapses, calm_s(rested, LIMITS)) == (0, 300)


@given(
    verdicts=st.lists(st.tuples(st.floats(1, 400), st.sampled_from(list(Strain)), st.booleans()), max_size=60)
)
def test_never_more_than_the_allowed_steps_in_any_window(
    verdicts: list[tuple[float, Strain, bool]],
) -> None:
    ladder, now_s = Ladder(), 0.0
    wished: list[float] = []
    for pause_s, verdict, has_permit in verdicts:
        now_s += pause_s
        top = Step.WITHDRAWN if has_permit else Step.PREPEND
        is_forced = ladder.step > top
        after = climbed(felt(ladder, verdict, now_s, LIMITS), now_s, LIMITS, ALL_STEPS, top)
        assert after.step <= top
        if after.step is not ladder.step and not is_forced:
            wished.append(now_s)
            assert sum(at_s > now_s - LIMITS.window_s for at_s in wished) <= LIMITS.moves
            assert abs(after.step - ladder.step) == 1 or verdict is FAILING
        ladder = after
