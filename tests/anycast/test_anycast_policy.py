"""Policy: each rule by exact value, their order, and what must hold for any input."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.anycast.health import Health, State
from atoll.anycast.policy import Changes, Decision, Inputs, PolicyLimits, changes, policy
from atoll.anycast.speaker import Announcement

V4, V6 = "192.0.2.0/24", "2001:db8:a70::/48"
PLAIN = (Announcement(prefix=V4), Announcement(prefix=V6))
LEAVING = (
    Announcement(prefix=V4, prepend=3, communities=("65535:0",)),
    Announcement(prefix=V6, prepend=3, communities=("65535:0",)),
)
PREPENDED = (Announcement(prefix=V4, prepend=3), Announcement(prefix=V6, prepend=3))


def decide(
    state: State,
    drain_since_s: float | None = None,
    now_s: float = 1000.0,
    permit: bool = False,
    suppressed: bool = False,
    limits: PolicyLimits | None = None,
) -> Decision:
    """The decision for both prefixes."""
    inputs = Inputs(
        prefixes=(V4, V6),
        health=Health(state=state, suppressed=suppressed),
        drain_since_s=drain_since_s,
        permit=permit,
        limits=limits or PolicyLimits(),
    )
    return policy(inputs, now_s)


def test_the_defaults_are_the_documented_ones() -> None:
    assert PolicyLimits() == PolicyLimits(drain_window_s=5.0, drain_prepend=3, soft_prepend=3)
    plain = Inputs(prefixes=(V4,), health=Health(state="up"))
    assert (plain.drain_since_s, plain.permit, plain.limits) == (None, False, PolicyLimits())


@pytest.mark.parametrize(
    ("state", "drain_since_s", "permit", "announcements", "reason"),
    [
        ("up", None, False, PLAIN, "healthy"),
        ("up", None, True, PLAIN, "healthy"),
        ("starting", None, False, (), "starting: not healthy yet"),
        ("starting", None, True, (), "starting: not healthy yet"),
        ("starting", 999.0, False, (), "starting: not healthy yet"),
        ("hard", None, False, (), "nobody answers"),
        ("hard", 999.0, False, (), "nobody answers"),
        ("hard", None, True, (), "nobody answers"),
        ("soft", None, False, PREPENDED, "failing checks, no permit to withdraw: prepended"),
        ("soft", None, True, (), "failing checks, withdrawn with a permit"),
        ("soft", 999.0, False, LEAVING, "draining: graceful shutdown"),
        ("soft", 999.0, True, LEAVING, "draining: graceful shutdown"),
        ("soft", 900.0, False, (), "drained by the operator"),
        ("up", 1000.0, False, LEAVING, "draining: graceful shutdown"),
        ("up", 995.001, False, LEAVING, "draining: graceful shutdown"),
        ("up", 995.0, False, (), "drained by the operator"),
        ("up", 0.0, False, (), "drained by the operator"),
        ("up", 1005.0, False, LEAVING, "draining: graceful shutdown"),
    ],
)
def test_rules(
    state: State,
    drain_since_s: float | None,
    permit: bool,
    announcements: tuple[Announcement, ...],
    reason: str,
) -> None:
    decision = decide(state, drain_since_s, permit=permit)
    assert decision == Decision(announcements=announcements, reason=reason)


def test_a_pop_that_fell_too_often_says_so() -> None:
    assert decide("hard", suppressed=True) == Decision(announcements=(), reason="suppressed: fell too often")


def test_so_does_one_that_fell_too_often_before_it_started() -> None:
    assert decide("starting", suppressed=True).reason == "suppressed: fell too often"


def test_a_drain_that_was_finished_does_not_begin_again() -> None:
    inputs = Inputs(prefixes=(V4,), health=Health(state="up"), drain_since_s=1000.0, drained=True)
    assert policy(inputs, 0.0) == Decision(announcements=(), reason="drained by the operator")


def test_limits_are_the_operators() -> None:
    limits = PolicyLimits(drain_window_s=60.0, drain_prepend=5, soft_prepend=7)
    drained = decide("up", 941.0, limits=limits)
    assert [route.prepend for route in drained.announcements] == [5, 5]
    assert decide("up", 940.0, limits=limits).announcements == ()
    assert [route.prepend for route in decide("soft", limits=limits).announcements] == [7, 7]


_states = st.sampled_from(["starting", "up", "soft", "hard"])
_inputs = st.builds(
    Inputs,
    prefixes=st.lists(st.sampled_from([V4, V6, "198.51.100.0/24"]), min_size=1, unique=True).map(tuple),
    health=st.builds(Health, state=_states, suppressed=st.booleans(), penalty=st.floats(0, 9)),
    drain_since_s=st.none() | st.floats(0, 100),
    drained=st.booleans(),
    permit=st.booleans(),
)


@given(_inputs, st.floats(0, 200))
def test_for_any_input(inputs: Inputs, now_s: float) -> None:
    decision = policy(inputs, now_s)
    prefixes = tuple(route.prefix for route in decision.announcements)
    assert prefixes in ((), inputs.prefixes), "all or none"
    if inputs.health.state in ("starting", "hard"):
        assert not prefixes
    if inputs.drain_since_s is not None and now_s - inputs.drain_since_s >= 5.0:
        assert not prefixes
    if inputs.health.state == "up" and inputs.drain_since_s is None:
        assert prefixes == inputs.prefixes
    if not prefixes:
        assert decision.reason != "healthy"


@given(_inputs, st.floats(0, 200), st.floats(0, 200))
def test_a_drain_never_turns_back_by_itself(inputs: Inputs, one_s: float, other_s: float) -> None:
    early, late = sorted((one_s, other_s))
    if inputs.drain_since_s is not None and not policy(inputs, early).announcements:
        assert not policy(inputs, late).announcements


def test_changes_withdraw_what_is_gone_and_announce_what_differs() -> None:
    third = Announcement(prefix="198.51.100.0/24")
    assert changes((), PLAIN) == Changes(withdraw=(), announce=PLAIN)
    assert changes(PLAIN, PLAIN) == Changes(withdraw=(), announce=())
    assert changes(PLAIN, ()) == Changes(withdraw=(V4, V6), announce=())
    assert changes(PLAIN, LEAVING) == Changes(withdraw=(), announce=LEAVING)
    assert changes((PLAIN[0], third), (LEAVING[0], PLAIN[1])) == Changes(
        withdraw=("198.51.100.0/24",), announce=(LEAVING[0], PLAIN[1])
    )
