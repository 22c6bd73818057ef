"""A small network for the model check: sites that decide in rounds, users who follow the routes. Pure.

A round: at most one event happens; each site decides by `decide_family` itself, on what the others were
announcing before; then they write their permits, in some order. Reports are as old as the round, so what is
true of a world after a round is true of a network a few seconds after an event. A round stands for `tick_s`.

Each site has users nearby, who stay unless it withdraws, and users farther off, who go to the next-closest
site when it prepends. Half of each use the first prefix, half the second. Worlds have no absolute time: times
are shifted after each round so that now is 0, and cut off where older makes no difference; penalties are
rounded up to steps that decay from one to the next in a round. That makes the number of worlds finite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple, TypeVar

import msgspec

from atoll.anycast.damping import CISCO, JUNIPER, RIPE_229, Ledger, penalties, suppressed
from atoll.anycast.decision import DecisionLimits, FamilyInputs, FamilyState, Inputs, decide_family, reported
from atoll.anycast.floor import (
    FloorLimits,
    Lease,
    Permits,
    Report,
    Sight,
    asked,
    compare_and_set,
    needed,
    released,
)
from atoll.anycast.health import Health, State
from atoll.anycast.ladder import Ladder, LadderLimits, Load, Strain

T = TypeVar("T")

PREFIXES: Final = ("192.0.2.0/24", "198.51.100.0/24")
NEAR: Final = 0.5  # of a site's capacity, when its region is busy
FAR: Final = 0.4
QUIET: Final = 0.3  # share of that when it is not
FORGOTTEN: Final = 100.0  # smaller penalties are taken for none


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """What is explored."""

    sites: int = 2
    events: int = 2  # how many happen at most; every moment and order is tried
    soft: tuple[int, ...] = ()  # sites whose checks fail from the start
    tick_s: float = 225.0  # a quarter of most half lives
    limits: DecisionLimits = DecisionLimits(
        ladder=LadderLimits(forget_s=1800.0, max_doublings=1),
        floor=FloorLimits(lease_s=450.0, skew_s=1.0),
        damping=(CISCO, JUNIPER, RIPE_229),  # RFC 7196's only forgive more
    )
    has_floor: bool = True  # without: everybody holds a permit


class World(NamedTuple):
    """Everything that the next round depends on."""

    busy: tuple[bool, ...]  # by region
    health: tuple[State, ...]
    is_cut: tuple[bool, ...]  # hears of nobody, and nobody of it
    sites: tuple[FamilyState, ...]
    permits: Permits
    events_left: int


def first_world(setup: Setup) -> World:
    """All is quiet, and well but for the sites named; every site has just begun."""
    n = setup.sites
    blank = FamilyState(family="ipv4")
    health = tuple[State, ...]("soft" if i in setup.soft else "up" for i in range(n))
    return World((False,) * n, health, (False,) * n, (blank,) * n, Permits(), setup.events)


class Network:
    """Rounds of one setup. Remembers decisions that it has computed before, and nothing else."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.names = tuple(f"s{i}" for i in range(setup.sites))
        self._decided: dict[tuple[FamilyState, State, float, Sight], FamilyState] = {}
        self._aged: dict[FamilyState, FamilyState] = {}

    def rounds(self, world: World) -> Iterator[tuple[str, World]]:
        """Every way on: what happened (nothing: ""), and the world after it."""
        yield from (("", after) for after in self.round(world))
        if world.events_left:
            for event, changed in self._events(world._replace(events_left=world.events_left - 1)):
                yield from ((event, after) for after in self.round(changed))

    def round(self, world: World, orders: int = 0) -> Iterator[World]:
        """The worlds after a round. `orders`: how many orders of writing permits to try; 0: all firsts."""
        loads = self.loads(world)
        reports = tuple(
            reported(name, self._inputs(i, world), site, 0.0)
            for i, (name, site) in enumerate(zip(self.names, world.sites, strict=True))
        )
        sights = tuple(self._sight(i, world, reports) for i in range(self.setup.sites))
        after = tuple(
            self._decide(world.sites[i], world.health[i], loads[i], sights[i])
            for i in range(self.setup.sites)
        )
        aged_sites = tuple(self._age(site) for site in after)
        seen = set()
        for first in range(orders or self.setup.sites):
            permits = _aged_permits(self._written(after, sights, world.permits, first), self.setup.tick_s)
            if permits not in seen:
                seen.add(permits)
                yield world._replace(sites=aged_sites, permits=permits)

    def loads(self, world: World) -> tuple[float, ...]:
        """How busy each site is, as a share of what it can do."""
        total = [0.0] * self.setup.sites
        for region, is_busy in enumerate(world.busy):
            share = (1.0 if is_busy else QUIET) / len(PREFIXES)
            for amount, edge in ((NEAR, 4), (FAR, 1)):
                for prefix in PREFIXES:
                    site = self._catch(world, region, edge, prefix)
                    if site is not None:
                        total[site] += amount * share
        return tuple(round(load, 3) for load in total)

    def _catch(self, world: World, region: int, edge: int, prefix: str) -> int | None:
        """Where a region's users of a prefix land: `edge` is by how much their own site is the nearer one."""
        best: tuple[int, int] | None = None
        for i, site in enumerate(world.sites):
            for route in site.announced:
                if route.prefix == prefix:
                    away = (i - region) % self.setup.sites
                    length = (edge + away if away else 0) + route.prepend
                    best = min(best, (length, i)) if best is not None else (length, i)
        return best[1] if best is not None else None

    def _events(self, world: World) -> Iterator[tuple[str, World]]:
        n = self.setup.sites
        for i in range(n):
            word = "quiet" if world.busy[i] else "busy"
            yield f"region {i} {word}", world._replace(busy=_with(world.busy, i, not world.busy[i]))
            states: tuple[State, ...] = ("up", "soft", "hard")
            for state in states:
                if state != world.health[i]:
                    yield f"s{i} {state}", world._replace(health=_with(world.health, i, state))
            word = "heard again" if world.is_cut[i] else "cut off"
            yield f"s{i} {word}", world._replace(is_cut=_with(world.is_cut, i, not world.is_cut[i]))
        if not all(world.busy):
            yield "all regions busy", world._replace(busy=(True,) * n)
        broken = tuple[State, ...]("soft" if state == "up" else state for state in world.health)
        if broken != world.health:
            yield "the check breaks everywhere", world._replace(health=broken)
        if not all(world.is_cut):
            yield "nobody hears of anybody", world._replace(is_cut=(True,) * n)

    def _inputs(self, i: int, world: World) -> FamilyInputs:
        return FamilyInputs(
            family="ipv4",
            prefixes=PREFIXES,
            health=Health(state=world.health[i]),
            sight=Sight(site=self.names[i]),
        )

    def _sight(self, i: int, world: World, reports: tuple[Report, ...]) -> Sight:
        name = self.names[i]
        if not self.setup.has_floor:
            other = Report(site="another", state="up", announcing=True, heard_s=0.0)
            always = Permits(leases=(Lease(site=name, until_s=1e9),))
            return Sight(site=name, sites=2, reports=(other,), permits=always)
        if world.is_cut[i]:
            return Sight(site=name, sites=self.setup.sites)
        heard = tuple(report for j, report in enumerate(reports) if j != i and not world.is_cut[j])
        return Sight(site=name, sites=self.setup.sites, reports=heard, permits=world.permits)

    def _decide(self, before: FamilyState, state: State, load: float, sight: Sight) -> FamilyState:
        key = (before, state, load, sight)
        known = self._decided.get(key)
        if known is None:
            mine = FamilyInputs(family="ipv4", prefixes=PREFIXES, health=Health(state=state), sight=sight)
            inputs = Inputs(
                families=(mine,),
                load=Load(cpu=load, connections=0.0, p99_ms=0.0),
                limits=self.setup.limits,
            )
            known = decide_family(mine, inputs, before, 0.0)
            self._decided[key] = known
        return known

    def _written(
        self, after: tuple[FamilyState, ...], sights: tuple[Sight, ...], permits: Permits, first: int
    ) -> Permits:
        """The shared value after all have written. Who is refused reads again and asks once more."""
        if not self.setup.has_floor:
            return permits
        stored = permits
        n = self.setup.sites
        for i in ((first + k) % n for k in range(n)):
            if sights[i].permits is None:
                continue
            wish = self._wish(after[i], sights[i])
            if wish is None:
                continue
            taken = compare_and_set(stored, wish)
            if taken is None:
                again = self._wish(after[i], msgspec.structs.replace(sights[i], permits=stored))
                taken = compare_and_set(stored, again) if again is not None else None
            stored = taken or stored
        return stored

    def _wish(self, site: FamilyState, sight: Sight) -> Permits | None:
        floor = self.setup.limits.floor
        return asked(sight, 0.0, floor) if site.wants_permit else released(sight, 0.0, floor)

    def _age(self, site: FamilyState) -> FamilyState:
        known = self._aged.get(site)
        if known is None:
            known = aged(site, self.setup)
            self._aged[site] = known
        return known


def floor_of(setup: Setup) -> int:
    """How many sites have to announce."""
    return needed(setup.sites, setup.limits.floor)


def aged(site: FamilyState, setup: Setup) -> FamilyState:
    """The state a round later, with now as 0 and everything forgotten that makes no difference."""
    limits, tick_s = setup.limits, setup.tick_s
    return msgspec.structs.replace(
        site,
        ladder=_aged_ladder(site.ladder, limits.ladder, tick_s),
        ledgers=tuple((prefix, _aged_ledger(ledger, setup)) for prefix, ledger in site.ledgers),
        reason="",
    )


def _aged_ladder(ladder: Ladder, limits: LadderLimits, tick_s: float) -> Ladder:
    longest_s = {
        Strain.OVER: limits.rise_s,
        Strain.CALM: limits.calm_s * 2**limits.max_doublings,
    }.get(ladder.strain, 0.0)
    relaxed_s = ladder.relaxed_s
    return msgspec.structs.replace(
        ladder,
        strain_since_s=max(ladder.strain_since_s - tick_s, -longest_s),
        moved_s=tuple(at_s - tick_s for at_s in ladder.moved_s if at_s - tick_s > -limits.window_s),
        relaxed_s=None if relaxed_s is None else max(relaxed_s - tick_s, -limits.forget_s),
    )


def _aged_ledger(ledger: Ledger, setup: Setup) -> Ledger:
    sets = setup.limits.damping
    return Ledger(
        penalties=tuple(
            _rounded_up(penalty, setup.tick_s / damping.half_life_s)
            for penalty, damping in zip(penalties(ledger, setup.tick_s, sets), sets, strict=True)
        ),
        suppressed=suppressed(ledger, setup.tick_s, sets),
    )


def _rounded_up(penalty: float, ticks: float) -> float:
    """The next of the steps 100 · 2^(k · `ticks`)."""
    if penalty <= FORGOTTEN:
        return 0.0
    step = math.ceil(math.log2(penalty / FORGOTTEN) / ticks - 1e-3)
    return round(FORGOTTEN * float(2.0 ** (step * ticks)), 3)


def _aged_permits(permits: Permits, tick_s: float) -> Permits:
    """A revision only tells who was first, within a round."""
    left = (Lease(site=lease.site, until_s=lease.until_s - tick_s) for lease in permits.leases)
    return Permits(leases=tuple(sorted((x for x in left if x.until_s > 0.0), key=lambda x: x.site)))


def _with(values: tuple[T, ...], i: int, value: T) -> tuple[T, ...]:
    return (*values[:i], value, *values[i + 1 :])
