"""The floor: who may leave, who has to come back, and races for the last permit."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.anycast.floor import (
    FloorLimits,
    Lease,
    Permits,
    Report,
    Sight,
    announcing,
    asked,
    compare_and_set,
    is_needed,
    needed,
    permitted,
    released,
    staying,
)
from atoll.anycast.health import State

LIMITS = FloorLimits()
SITES = ("iad", "lhr", "nrt", "sjc", "sin")
NOW_S = 1000.0


def said(site: str, state: State = "up", announcing: bool = True, **other: float | bool) -> Report:
    """A report heard just now unless told otherwise."""
    heard_s = float(other.get("heard_s", NOW_S))
    return Report(
        site=site, state=state, announcing=announcing, shedding=bool(other.get("shedding")), heard_s=heard_s
    )


def sight(*reports: Report, permits: Permits | None = None, site: str = "iad", sites: int = 5) -> Sight:
    """What `site` knows; nobody holds a permit unless told otherwise."""
    return Sight(site=site, sites=sites, reports=reports, permits=permits or Permits())


def test_half_the_sites_stay_and_never_none() -> None:
    assert [needed(sites, LIMITS) for sites in (1, 2, 3, 4, 5, 30)] == [1, 1, 2, 2, 3, 15]
    assert needed(5, FloorLimits(keep=0, share=0.0)) == 1
    assert needed(2, FloorLimits(keep=4)) == 2


@pytest.mark.parametrize(
    ("last", "counts"),
    [
        (said("sin"), True),
        (said("sin", "soft"), False),
        (said("sin", "hard"), False),
        (said("sin", announcing=False), False),
        (said("sin", shedding=True), False),
        (said("sin", heard_s=NOW_S - 5.0), True),
        (said("sin", heard_s=NOW_S - 5.1), False),
        (said("sin", heard_s=NOW_S + 1.0), False),
        (said("iad"), False),  # what a site says of itself does not make it another one
        (said("lhr"), False),  # twice the same
    ],
)
def test_who_counts_as_staying(last: Report, counts: bool) -> None:
    known = sight(said("lhr"), said("nrt"), last)
    assert staying(known, NOW_S, LIMITS) == 2 + counts
    assert (asked(known, NOW_S, LIMITS) is not None) is counts


def test_the_latest_word_of_a_site_counts() -> None:
    old, new = said("lhr", heard_s=NOW_S - 2), said("lhr", "hard")
    assert announcing(sight(old, new), NOW_S, LIMITS) == announcing(sight(new, old), NOW_S, LIMITS) == 0


def test_a_permit_is_a_lease_that_ends_early_for_its_holder_and_late_for_the_others() -> None:
    others = tuple(said(site) for site in SITES[1:])
    granted = asked(sight(*others), NOW_S, LIMITS)
    assert granted == Permits(revision=1, leases=(Lease(site="iad", until_s=NOW_S + 60),))

    def at(now_s: float, site: str) -> Sight:
        reports = tuple(said(other, heard_s=now_s) for other in SITES if other != site)
        return sight(*reports, permits=granted, site=site)

    assert permitted(at(NOW_S + 57.9, "iad"), NOW_S + 57.9, LIMITS)
    assert not permitted(at(NOW_S + 58.0, "iad"), NOW_S + 58.0, LIMITS)
    assert staying(at(NOW_S + 61.9, "lhr"), NOW_S + 61.9, LIMITS) == 3
    assert (
        staying(at(NOW_S + 62.0, "lhr"), NOW_S + 62.0, LIMITS) == 4
    )  # a holder that is gone frees its permit


def test_a_holder_that_is_needed_or_knows_nothing_has_no_permit() -> None:
    held = Permits(revision=7, leases=(Lease(site="iad", until_s=NOW_S + 50),))
    three = (said("lhr"), said("nrt", "soft"), said("sjc"))
    assert permitted(sight(*three, permits=held), NOW_S, LIMITS)
    assert not permitted(sight(*three[:2], permits=held), NOW_S, LIMITS)
    assert not permitted(sight(*three, permits=held), NOW_S + 5.1, LIMITS)
    lost = Sight(site="iad", sites=5, reports=three, permits=None)
    assert not permitted(lost, NOW_S, LIMITS)
    assert asked(lost, NOW_S, LIMITS) is None
    assert released(lost, NOW_S, LIMITS) is None
    assert is_needed(Sight(site="iad"), NOW_S, LIMITS)


def test_giving_back_takes_out_the_dead_too() -> None:
    held = Permits(
        revision=7, leases=(Lease(site="iad", until_s=NOW_S + 50), Lease(site="lhr", until_s=NOW_S - 3))
    )
    assert released(sight(permits=held), NOW_S, LIMITS) == Permits(revision=8)
    assert released(sight(permits=Permits()), NOW_S, LIMITS) is None


def test_of_two_who_ask_at_once_one_gets_the_last_permit() -> None:
    stored = Permits(revision=3, leases=(Lease(site="iad", until_s=NOW_S + 60),))

    def of(site: str, permits: Permits) -> Sight:
        reports = tuple(said(other, announcing=other != "iad") for other in SITES if other != site)
        return sight(*reports, permits=permits, site=site)

    wishes = [asked(of(site, stored), NOW_S, LIMITS) for site in ("lhr", "nrt")]
    assert None not in wishes
    for first, second in itertools.permutations([wish for wish in wishes if wish is not None]):
        after = compare_and_set(stored, first)
        assert after is first
        assert compare_and_set(after, second) is None
        loser = second.leases[-1].site
        assert asked(of(loser, after), NOW_S, LIMITS) is None


@given(data=st.data(), sites=st.integers(2, 6))
def test_however_they_race_the_floor_stays(data: st.DataObject, sites: int) -> None:
    """Every site is sick in any order, reads the value whenever it likes, and writes later."""
    names = [f"s{i}" for i in range(sites)]
    stored = Permits()
    pending: list[Permits] = []
    for _ in range(data.draw(st.integers(1, 20))):
        site: str = data.draw(st.sampled_from(names))
        writes: bool = data.draw(st.booleans())
        if pending and writes:
            chosen: int = data.draw(st.integers(0, len(pending) - 1))
            wish = pending.pop(chosen)
            stored = compare_and_set(stored, wish) or stored
        else:  # nobody has withdrawn yet, as far as reports go: only leases tell
            reports = tuple(said(other) for other in names if other != site)
            wish_or_not = asked(sight(*reports, permits=stored, site=site, sites=sites), NOW_S, LIMITS)
            pending += [wish_or_not] if wish_or_not is not None else []
        holders = {lease.site for lease in stored.leases}
        assert sites - len(holders) >= needed(sites, LIMITS)
