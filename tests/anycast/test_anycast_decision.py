"""The whole decision: its rules in order, what waits and what does not, and what holds for any history."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll.anycast.damping import KNOWN, suppressed
from atoll.anycast.decision import (
    DecisionLimits,
    DecisionState,
    FamilyInputs,
    FamilyState,
    Inputs,
    Intent,
    Window,
    decide,
    reported,
)
from atoll.anycast.floor import Lease, Permits, Report, Sight
from atoll.anycast.health import Health, State
from atoll.anycast.ladder import Load, Step
from atoll.anycast.speaker import Announcement

A, B, V6 = "192.0.2.0/24", "198.51.100.0/24", "2001:db8:a70::/48"
PLAIN = (Announcement(prefix=A), Announcement(prefix=B))
PREPENDED = tuple(msgspec.structs.replace(route, prepend=3) for route in PLAIN)
LEAVING = tuple(msgspec.structs.replace(route, communities=("65535:0",)) for route in PREPENDED)
BUSY, IDLE = Load(cpu=0.9, connections=0.1, p99_ms=9.0), Load(cpu=0.1, connections=0.1, p99_ms=9.0)


def sight(now_s: float, permit: bool = False, others: int = 2, permits: bool = True) -> Sight:
    """Two other sites, both well, unless told otherwise."""
    leases = (Lease(site="iad", until_s=now_s + 60),) if permit else ()
    return Sight(
        site="iad",
        sites=3,
        reports=tuple(
            Report(site=f"s{i}", state="up", announcing=True, heard_s=now_s) for i in range(others)
        ),
        permits=Permits(leases=leases) if permits else None,
    )


def v4(known: Sight, state: State = "up") -> FamilyInputs:
    """The IPv4 part of the inputs."""
    return FamilyInputs(family="ipv4", prefixes=(A, B), health=Health(state=state), sight=known)


class Site:
    """A site over time; each `at` is one decision."""

    def __init__(self) -> None:
        self.state = DecisionState()
        self.announced: tuple[Announcement, ...] = ()

    def at(
        self,
        now_s: float,
        state: State = "up",
        load: Load | None = IDLE,
        intent: Intent | None = None,
        known: Sight | None = None,
    ) -> tuple[Announcement, ...]:
        """Decide for IPv4."""
        inputs = Inputs(families=(v4(known or sight(now_s), state),), load=load, intent=intent or Intent())
        self.announced, self.state = decide(inputs, self.state, now_s)
        return self.announced

    @property
    def mine(self) -> FamilyState:
        """The state of IPv4."""
        return self.state.families[0]


def test_a_healthy_site_announces_everything_and_the_first_time_is_free() -> None:
    site = Site()
    assert site.at(0) == PLAIN
    assert site.mine.reason == "healthy"
    assert not any(ledger.penalties for _, ledger in site.mine.ledgers)


def test_overload_prepends_asks_for_a_permit_and_goes_on_with_it() -> None:
    site = Site()
    assert site.at(0, load=BUSY) == PLAIN
    assert site.at(30, load=BUSY) == PREPENDED
    early = site.mine.wants_permit
    assert site.at(60, load=BUSY) == PREPENDED
    assert (early, site.mine.wants_permit) == (False, True)
    assert site.at(61, load=BUSY, known=sight(61, permit=True)) == PREPENDED[:1]
    assert site.at(700, load=BUSY, known=sight(700, permit=True)) == ()
    assert site.mine.ladder.step is Step.WITHDRAWN


def test_shed_communities_are_the_operators() -> None:
    mine = v4(sight(0), "soft")
    limits = DecisionLimits(shed_communities=("65000:2",))
    announced, _ = decide(Inputs(families=(mine,), limits=limits), DecisionState(), 0.0)
    assert {route.communities for route in announced} == {("65000:2",)}


def test_failing_checks_prepend_at_once_and_withdraw_with_a_permit() -> None:
    site = Site()
    site.at(0)
    assert site.at(10, "soft") == PREPENDED
    assert site.mine.reason == "shedding: prepended, checks fail"
    assert site.at(12, "soft", known=sight(12, permit=True)) == ()
    assert site.at(14, "up", known=sight(14, permit=True)) == ()  # two passes are not five minutes


def test_a_hard_failure_withdraws_without_asking_anybody() -> None:
    site = Site()
    site.at(0)
    assert site.at(1, "hard", known=sight(1, others=0)) == ()
    assert site.mine.reason == "nobody answers"


def test_coming_back_waits_for_the_neighbours_patience_unless_the_site_is_needed() -> None:
    def flapped() -> Site:
        site = Site()
        for i in range(3):
            site.at(i * 10)
            site.at(i * 10 + 5, "hard")
        return site

    patient = flapped()
    assert patient.at(30) == ()
    assert patient.mine.reason.startswith("healthy; waits")
    assert patient.at(600) == ()
    assert patient.at(660) == PLAIN  # Junos: 3000 has to be 0.95 × 3000 − 1000, after 10.5 minutes
    assert flapped().at(30, known=sight(30, others=1)) == PLAIN
    assert flapped().at(30, known=sight(20)) == PLAIN  # the news is old


def test_a_holder_returns_when_others_fall_and_when_it_hears_nothing() -> None:
    for news in (sight(13, permit=True, others=1), sight(13, permits=False, others=0), sight(7, permit=True)):
        site = Site()
        site.at(0)
        site.at(10, "soft")
        assert site.at(12, "soft", known=sight(12, permit=True)) == ()
        assert site.at(13, "soft", known=news) == PREPENDED


def test_a_drain_says_goodbye_and_needs_no_permit() -> None:
    site = Site()
    site.at(0)
    assert site.at(100, intent=Intent(drain_since_s=100)) == LEAVING
    assert site.at(104, intent=Intent(drain_since_s=100)) == LEAVING
    assert site.at(105, intent=Intent(drain_since_s=100), known=sight(105, others=0)) == ()
    assert site.at(106) == PLAIN  # 500 + 1000 + 1000 are below Junos' 3000
    assert site.at(107, intent=Intent(drain_since_s=100, drained=True)) == ()  # obeyed, but costly
    assert site.at(108) == ()
    assert site.at(1200) == ()  # Junos ignores the prefix until 3500 are 750
    assert site.at(2200) == PLAIN


def test_maintenance_withdraws_only_with_a_permit() -> None:
    site, intent = Site(), Intent(windows=(Window(start_s=100, end_s=5000),))
    assert site.at(99, intent=intent) == PLAIN
    assert site.at(100, intent=intent, known=sight(100, permit=True)) == LEAVING
    assert site.at(105, intent=intent) == LEAVING
    assert site.mine.wants_permit
    assert site.at(1000, intent=intent, known=sight(1000, permit=True)) == ()
    assert site.at(5000, intent=intent) == PLAIN
    assert not site.mine.wants_permit


def test_the_operators_prepending_and_the_ladders_do_not_add_up() -> None:
    site = Site()
    assert {route.prepend for route in site.at(0, intent=Intent(prepend=2))} == {2}
    assert {route.prepend for route in site.at(1, "soft", intent=Intent(prepend=2))} == {3}
    assert {route.prepend for route in Site().at(0, intent=Intent(prepend=99))} == {16}


def test_families_are_decided_apart() -> None:
    v6 = FamilyInputs(family="ipv6", prefixes=(V6,), health=Health(state="hard"), sight=sight(0))
    announced, state = decide(Inputs(families=(v4(sight(0)), v6), load=IDLE), DecisionState(), 0.0)
    assert announced == PLAIN
    assert [family.reason for family in state.families] == ["healthy", "nobody answers"]


def test_a_prefix_that_is_no_longer_ours_goes_and_is_remembered_while_it_costs() -> None:
    site = Site()
    site.at(0)
    only = FamilyInputs(family="ipv4", prefixes=(A,), health=Health(state="up"), sight=sight(1))
    announced, state = decide(Inputs(families=(only,), load=IDLE), site.state, 1.0)
    assert announced == PLAIN[:1]
    assert [prefix for prefix, _ in state.families[0].ledgers] == [A, B]
    _, later = decide(Inputs(families=(only,), load=IDLE), state, 1e6)
    assert [prefix for prefix, _ in later.families[0].ledgers] == [A]


@pytest.mark.parametrize(
    ("state", "load", "announcing", "shedding"),
    [("up", IDLE, True, False), ("soft", IDLE, True, True), ("hard", IDLE, False, False)],
)
def test_what_others_hear(state: State, load: Load, announcing: bool, shedding: bool) -> None:
    site = Site()
    site.at(0, state, load)
    report = reported("iad", v4(sight(0), state), site.mine, 7.0)
    assert report == Report(site="iad", state=state, announcing=announcing, shedding=shedding, heard_s=7.0)


def test_the_state_survives_a_disk() -> None:
    site = Site()
    for i in range(4):
        site.at(i * 10, "hard" if i % 2 else "up")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(site.state), type=DecisionState) == site.state


STEP = st.tuples(
    st.floats(0.5, 2000),
    st.sampled_from([BUSY, IDLE, None]),
    st.sampled_from(["up", "soft"]),
    st.integers(0, 2),  # how many others announce
    st.booleans(),  # whether there is a permit
    st.integers(0, 3),  # the operator's prepending
)


@settings(max_examples=200)
@given(steps=st.lists(STEP, max_size=40))
def test_soft_changes_never_get_us_suppressed_and_nobody_needed_is_away(
    steps: list[tuple[float, Load | None, State, int, bool, int]],
) -> None:
    site, now_s = Site(), 0.0
    for pause_s, load, state, others, permit, prepend in steps:
        now_s += pause_s
        known = sight(now_s, permit=permit, others=others)
        announced = site.at(now_s, state, load, Intent(prepend=prepend), known)
        for _, ledger in site.mine.ledgers:
            assert not any(suppressed(ledger, now_s, KNOWN))
        if others < 2:
            assert {route.prefix for route in announced} == {A, B}
