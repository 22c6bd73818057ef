"""The floor: how many sites go on announcing whatever happens, and who may leave (a permit, held as a lease).

A soft failure may be everybody's at the same moment: a bad deploy, a broken check, a crowd. So a site that
could still serve withdraws only with a permit. Permits are leases in one value that all sites share, written
by compare-and-set of its revision: of two who ask at once one succeeds; the other asks again and finds the
first one's lease. A hard failure needs no permit; it only makes fewer sites count.

1. A permit is granted if, without the site and without those who hold one, enough sites stay: healthy, not
   shedding themselves, announcing everything, and heard of lately.
2. A lease ends by itself. Its holder returns `skew_s` before that; the others count it for as much longer.
3. A holder returns at once when fewer than the floor announce, or when it no longer knows: without news a
   site announces. So a network cut into pieces, or one whose shared value is lost, announces everywhere.

Each address family has its own value and reports.
"""

from __future__ import annotations

import math

import msgspec

from atoll.anycast.health import State


class FloorLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many sites stay, and how old news may be."""

    keep: int = 1
    share: float = 0.5  # of all sites there are, rounded up
    max_age_s: float = 5.0
    lease_s: float = 60.0
    skew_s: float = 2.0  # by how much two sites' clocks may differ


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What another site said last, and when it was heard, by the listener's clock."""

    site: str
    state: State
    announcing: bool  # every prefix of the family
    shedding: bool = False  # it would rather have less to do
    heard_s: float


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """One permit."""

    site: str
    until_s: float


class Permits(msgspec.Struct, frozen=True, kw_only=True):
    """The shared value."""

    revision: int = 0
    leases: tuple[Lease, ...] = ()


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What one site knows of the network. The default is nothing: it is alone, or cut off."""

    site: str
    sites: int = 1  # how many there are, itself included
    reports: tuple[Report, ...] = ()
    permits: Permits | None = None  # None: the shared value cannot be reached


def needed(sites: int, limits: FloorLimits) -> int:
    """How many of `sites` have to go on announcing. Never none."""
    return min(sites, max(1, limits.keep, math.ceil(limits.share * sites)))


def announcing(sight: Sight, now_s: float, limits: FloorLimits) -> int:
    """How many other sites announce everything, well or badly, and may not leave at any moment."""
    return sum(report.state in ("up", "soft") for report in _others(sight, now_s, limits))


def staying(sight: Sight, now_s: float, limits: FloorLimits) -> int:
    """How many of those would take over: healthy, and not busy themselves."""
    return sum(report.state == "up" and not report.shedding for report in _others(sight, now_s, limits))


def _others(sight: Sight, now_s: float, limits: FloorLimits) -> tuple[Report, ...]:
    """The latest report of each other site that announces everything and holds no permit, if it is recent.

    A report from the future is none.
    """
    leases = sight.permits.leases if sight.permits is not None else ()
    leaving = {lease.site for lease in leases if lease.until_s + limits.skew_s > now_s}
    latest: dict[str, Report] = {}
    for report in sight.reports:
        known = latest.get(report.site)
        if report.site not in (sight.site, *leaving) and (known is None or known.heard_s <= report.heard_s):
            latest[report.site] = report
    return tuple(
        report
        for report in latest.values()
        if report.announcing and 0.0 <= now_s - report.heard_s <= limits.max_age_s
    )


def is_needed(sight: Sight, now_s: float, limits: FloorLimits) -> bool:
    """Whether the others alone are fewer than the floor, as far as this site knows: then it announces."""
    return sight.permits is None or announcing(sight, now_s, limits) < needed(sight.sites, limits)


def permitted(sight: Sight, now_s: float, limits: FloorLimits) -> bool:
    """Whether this site holds a permit that it may use now."""
    if sight.permits is None or is_needed(sight, now_s, limits):
        return False  # also if those who hold permits left in this very moment
    return any(
        lease.site == sight.site and lease.until_s - limits.skew_s > now_s for lease in sight.permits.leases
    )


def asked(sight: Sight, now_s: float, limits: FloorLimits) -> Permits | None:
    """The value to write, by compare-and-set, to get a permit or to keep it. None: there is none."""
    if sight.permits is None or staying(sight, now_s, limits) < needed(sight.sites, limits):
        return None
    lease = Lease(site=sight.site, until_s=now_s + limits.lease_s)
    return Permits(
        revision=sight.permits.revision + 1,
        leases=(*_without(sight.permits, sight.site, now_s, limits), lease),
    )


def released(sight: Sight, now_s: float, limits: FloorLimits) -> Permits | None:
    """The value to write to give the permit back. None: there is none to give."""
    if sight.permits is None or all(lease.site != sight.site for lease in sight.permits.leases):
        return None
    return Permits(
        revision=sight.permits.revision + 1, leases=_without(sight.permits, sight.site, now_s, limits)
    )


def _without(permits: Permits, site: str, now_s: float, limits: FloorLimits) -> tuple[Lease, ...]:
    return tuple(
        lease for lease in permits.leases if lease.site != site and lease.until_s + limits.skew_s > now_s
    )


def compare_and_set(stored: Permits, wanted: Permits) -> Permits | None:
    """What a store does with a written value: takes it, or refuses it because another one came first."""
    return wanted if wanted.revision == stored.revision + 1 else None
