"""Damping: the tables' figures, worked examples, and that nobody who waits as told is ever suppressed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from atoll.anycast.damping import (
    CISCO,
    HEADROOM,
    JUNIPER,
    KNOWN,
    RFC_7196_CONSERVATIVE,
    RIPE_229,
    Change,
    Ledger,
    Parameters,
    charged,
    cycle_s,
    decay_s,
    next_change_s,
    penalties,
    suppressed,
)

WITHDRAW, READVERTISE, ATTRIBUTE = Change.WITHDRAW, Change.READVERTISE, Change.ATTRIBUTE
CHANGES = st.sampled_from(list(Change))
BURST = st.lists(st.tuples(CHANGES, st.floats(0, 5000)), max_size=40)


@st.composite
def parameter_sets(draw: st.DrawFn) -> tuple[Parameters, ...]:
    """Sets that somebody might configure: any threshold above one withdrawal and announcement."""
    sets = tuple(
        Parameters(
            name="drawn",
            readvertisement=draw(st.sampled_from([0.0, 500.0, 1000.0])),
            attribute=draw(st.sampled_from([0.0, 500.0, 1000.0])),
            half_life_s=draw(st.floats(60, 2700)),
            suppress=draw(st.floats(2200, 20000)),
            reuse=draw(st.floats(100, 2000)),
            max_suppress_s=draw(st.floats(3600, 15300)),
        )
        for _ in range(draw(st.integers(1, 4)))
    )
    assume(all(damping.ceiling > damping.suppress for damping in sets))  # the others never suppress
    return sets


def test_the_ceiling_is_what_decays_to_reuse_in_the_longest_time() -> None:
    assert CISCO.ceiling == JUNIPER.ceiling == 12_000
    assert RIPE_229.ceiling == 820 * 4
    assert RFC_7196_CONSERVATIVE.ceiling > 50_000
    for damping in KNOWN:
        assert damping.suppress < damping.ceiling
        assert decay_s(damping.ceiling, damping.reuse, damping.half_life_s) == pytest.approx(
            damping.max_suppress_s
        )


@pytest.mark.parametrize(
    ("damping", "changes", "until_suppressed"),
    [
        (CISCO, (WITHDRAW, READVERTISE), 5),  # the third withdrawal; two reach 2000 and do not exceed it
        (JUNIPER, (WITHDRAW, READVERTISE), 4),
        (CISCO, (ATTRIBUTE,), 5),
        (RFC_7196_CONSERVATIVE, (WITHDRAW, READVERTISE), 13),
    ],
)
def test_how_many_changes_at_once_suppress(
    damping: Parameters, changes: tuple[Change, ...], until_suppressed: int
) -> None:
    ledger, made = Ledger(), 0
    while not any(suppressed(ledger, 0.0, (damping,))):
        ledger = charged(ledger, changes[made % len(changes)], 0.0, (damping,))
        made += 1
    assert made == until_suppressed


def test_a_suppressed_route_is_back_when_the_penalty_is_below_reuse() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger = charged(ledger, WITHDRAW, 0.0, (CISCO,))
    assert suppressed(ledger, 1799.0, (CISCO,)) == (True,)  # 3000 → 750 takes two half lives
    assert suppressed(ledger, 1801.0, (CISCO,)) == (False,)
    assert next_change_s(ledger, (ATTRIBUTE,), 10.0, (CISCO,)) == pytest.approx(1800.0)
    assert next_change_s(ledger, (READVERTISE,), 10.0, (CISCO,)) == 10.0  # costs nothing, so it may as well


def test_a_second_withdrawal_waits_for_the_strictest() -> None:
    def ready_s(sets: tuple[Parameters, ...]) -> float:
        ledger = charged(Ledger(), WITHDRAW, 0.0, sets)
        ledger = charged(ledger, READVERTISE, 0.0, sets)
        return next_change_s(ledger, (WITHDRAW, READVERTISE), 0.0, sets)

    # Cisco: what is left of 1000 has to be 0.95 × 2000 − 1000 = 900. Junos: 2000 → 0.95 × 3000 − 2000 = 850.
    assert ready_s((CISCO,)) == pytest.approx(900 * math.log2(1000 / 900))
    assert ready_s((JUNIPER,)) == pytest.approx(900 * math.log2(2000 / 850))
    assert ready_s(KNOWN) == ready_s((JUNIPER,)) > ready_s((CISCO,))


def test_the_documented_table_is_the_codes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "anycast-policy.md").read_text()
    for damping in KNOWN:
        figures = (damping.withdrawal, damping.readvertisement, damping.attribute)
        row = [damping.name, *(f"{figure:.0f}" for figure in figures)]
        row += [f"{damping.half_life_s / 60:.0f} min", f"{damping.suppress:.0f}", f"{damping.reuse:.0f}"]
        row.append(f"{cycle_s((WITHDRAW, READVERTISE), (damping,)) / 60:.1f} min")
        assert f"| {' | '.join(row)} |" in page


def test_what_is_too_much_alone_is_never_affordable() -> None:
    assert next_change_s(Ledger(), (WITHDRAW,) * 3, 0.0, (CISCO,)) == math.inf
    assert cycle_s((WITHDRAW,) * 3, (CISCO,)) == math.inf


def test_a_clock_set_back_forgives_nothing() -> None:
    ledger = charged(Ledger(), WITHDRAW, 1000.0)
    assert penalties(ledger, 0.0) == ledger.penalties
    assert charged(ledger, WITHDRAW, 0.0).charged_s == 1000.0


@given(sets=parameter_sets(), wishes=BURST)
def test_who_waits_as_told_is_never_suppressed(
    sets: tuple[Parameters, ...], wishes: list[tuple[Change, float]]
) -> None:
    ledger, now_s = Ledger(), 0.0
    for change, pause_s in wishes:
        now_s = next_change_s(ledger, (change,), now_s + pause_s, sets)
        ledger = charged(ledger, change, now_s, sets)
        assert not any(suppressed(ledger, now_s, sets))
        for penalty, damping in zip(penalties(ledger, now_s, sets), sets, strict=True):
            assert penalty <= damping.suppress * HEADROOM + 1e-6


@given(wishes=BURST, now_s=st.floats(0, 1e6), changes=st.lists(CHANGES, min_size=1, max_size=2))
def test_the_time_told_is_the_earliest(
    wishes: list[tuple[Change, float]], now_s: float, changes: list[Change]
) -> None:
    ledger, at_s = Ledger(), 0.0
    for change, pause_s in wishes:
        at_s += pause_s
        ledger = charged(ledger, change, at_s)
    at_s += now_s
    told_s = next_change_s(ledger, tuple(changes), at_s)
    assert next_change_s(ledger, tuple(changes), told_s + 0.01) == pytest.approx(told_s + 0.01)
    if at_s + 0.02 < told_s < math.inf:
        assert next_change_s(ledger, tuple(changes), told_s - 0.01) > told_s - 0.01


@given(changes=st.lists(CHANGES, min_size=1, max_size=2), sets=parameter_sets())
def test_repeating_for_ever_at_the_period_is_affordable_and_faster_is_not(
    changes: list[Change], sets: tuple[Parameters, ...]
) -> None:
    cycle = tuple(changes)
    period_s = cycle_s(cycle, sets)
    for pace, is_affordable in ((1.01, True), (0.9, False)):
        ledger, now_s, affordable = Ledger(), 0.0, True
        for _ in range(200):
            affordable = affordable and next_change_s(ledger, cycle, now_s, sets) <= now_s
            for change in cycle:
                ledger = charged(ledger, change, now_s, sets)
            now_s += period_s * pace
        assert affordable is (is_affordable or period_s == 0.0)
