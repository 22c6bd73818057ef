"""Every world of small networks: nothing is found with all rules in force, something without each of them."""

from __future__ import annotations

import msgspec
import pytest

from atoll.anycast import floor
from atoll.anycast.ladder import Band, LadderLimits
from atoll.anycast.model_check import Outcome, check
from atoll.anycast.model_world import Network, Setup, first_world

NO_HYSTERESIS = LadderLimits(
    cpu=Band(high=0.85, low=0.849),
    rise_s=0.0,
    calm_s=0.0,
    window_s=0.0,
    moves=1_000_000,
    forget_s=0.0,
    max_doublings=0,
)


def found(outcome: Outcome) -> set[str]:
    """The kinds of findings."""
    return {finding.kind for finding in outcome.findings}


@pytest.mark.parametrize(("sites", "events", "at_least"), [(2, 2, 20_000), (3, 1, 300), (4, 1, 400)])
def test_nothing_is_found_with_all_rules_in_force(sites: int, events: int, at_least: int) -> None:
    outcome = check(Setup(sites=sites, events=events))
    assert outcome.findings == ()
    assert outcome.is_complete
    assert outcome.worlds >= at_least
    assert outcome.shedding > 0  # sites did withdraw, with permits
    assert outcome.shortest_loop_s is None or outcome.shortest_loop_s >= 1200


@pytest.mark.parametrize(("sites", "soft"), [(3, (0,)), (4, (0, 1))])
def test_nothing_is_found_when_checks_fail_from_the_start(sites: int, soft: tuple[int, ...]) -> None:
    outcome = check(Setup(sites=sites, events=1, soft=soft))
    assert outcome.findings == ()
    assert outcome.is_complete
    assert outcome.worlds > 5000


def test_two_who_trust_each_other_to_stay_leave_in_the_moment_a_third_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    careful = floor.announcing

    def trusting(sight: floor.Sight, now_s: float, limits: floor.FloorLimits) -> int:
        return careful(msgspec.structs.replace(sight, permits=None), now_s, limits)

    monkeypatch.setattr(floor, "announcing", trusting)
    outcome = check(Setup(sites=4, events=1, soft=(0, 1)))
    assert found(outcome) == {"below the floor"}
    assert outcome.findings[0].way[-1].startswith("s2 hard: s0 nothing, s1 nothing, s2 nothing")


@pytest.mark.parametrize("sites", [2, 3])
def test_without_the_floor_a_broken_check_takes_the_network_dark(sites: int) -> None:
    outcome = check(Setup(sites=sites, events=1, has_floor=False))
    assert {"dark", "below the floor"} <= found(outcome)
    dark = next(finding for finding in outcome.findings if finding.kind == "dark")
    assert dark.way[-1].startswith("the check breaks everywhere: s0 nothing, s1 nothing")


def test_without_hysteresis_a_busy_site_flaps() -> None:
    limits = msgspec.structs.replace(Setup().limits, ladder=NO_HYSTERESIS)
    outcome = check(Setup(events=1, limits=limits))
    assert found(outcome) == {"flapping"}
    assert len(outcome.findings[0].way) > 3


def test_without_hysteresis_and_budget_it_flaps_for_ever() -> None:
    limits = msgspec.structs.replace(Setup().limits, ladder=NO_HYSTERESIS, damping=())
    outcome = check(Setup(events=1, limits=limits))
    assert found(outcome) == {"flapping"}
    assert "for ever:" in outcome.findings[0].way
    assert outcome.shortest_loop_s == 450.0


def test_with_hysteresis_alone_neighbours_would_still_forgive_it() -> None:
    limits = msgspec.structs.replace(Setup().limits, damping=())
    assert check(Setup(events=1, limits=limits)).findings == ()


def test_too_few_worlds_are_told() -> None:
    outcome = check(Setup(events=1), max_worlds=10)
    assert (outcome.worlds, outcome.is_complete) == (10, False)


def test_users_go_to_the_next_site_when_theirs_prepends() -> None:
    network = Network(Setup(events=0))
    quiet = next(network.round(first_world(network.setup)))
    busy = quiet._replace(busy=(True, False))
    assert network.loads(busy) == (0.9, 0.27)
    shed = busy
    for _ in range(2):  # overload has to last
        shed = next(network.round(shed))
    assert network.loads(shed) == (0.5, 0.67)
