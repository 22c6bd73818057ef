"""Explores every world that a small network can reach, and tells what should never be. Pure.

Three things are looked for:

- `dark`: somebody could serve, and a prefix is announced by nobody who does;
- `below the floor`: fewer sites announce everything than the floor asks for, though more could serve;
- `flapping`: nothing happens any more, and a site changes more than `moves` times in `window_s`; or changes
  in a loop for ever, so fast that a listed way to damp suppresses it (counted exactly, not rounded).

A finding comes with the shortest way there. `shedding` shows that not finding anything was not for lack of
sites that withdraw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Final, Literal

import msgspec

from atoll.anycast.damping import KNOWN, Change, Ledger, charged, suppressed
from atoll.anycast.decision import FamilyState
from atoll.anycast.ladder import LadderLimits, Step
from atoll.anycast.model_world import PREFIXES, Network, Setup, World, first_world, floor_of

CameFrom = dict[World, tuple[World, str] | None]
Kind = Literal["dark", "below the floor", "flapping"]
REPEATS: Final = 60  # of a loop, until its penalties are what they will be: 15 half lives at the least


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that should not be."""

    kind: Kind
    what: str
    way: tuple[str, ...]  # the rounds that lead there, and what was announced after each


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What an exploration has seen."""

    worlds: int
    rounds: int
    is_complete: bool  # False: there are more worlds than were allowed
    loops: int = 0  # that announcements go through for ever, allowed ones included
    shortest_loop_s: float | None = None  # of those
    shedding: int = 0  # worlds in which a site that could serve is away in part or whole, with a permit
    findings: tuple[Finding, ...] = ()  # the first of each kind


def check(setup: Setup, max_worlds: int = 2_000_000) -> Outcome:
    """Explore, breadth first. Loops are looked for only if `max_worlds` are enough for all."""
    network, start = Network(setup), first_world(setup)
    came_from: CameFrom = {start: None}
    findings: dict[Kind, Finding] = {}
    queue, rounds, is_complete = deque([start]), 0, True
    while queue:
        world = queue.popleft()
        for event, after in network.rounds(world):
            rounds += 1
            if after in came_from:
                continue
            if len(came_from) >= max_worlds:
                is_complete = False
                continue
            came_from[after] = (world, event)
            queue.append(after)
            for kind, what in _wrong(after, setup):
                if kind not in findings:
                    findings[kind] = Finding(kind=kind, what=what, way=_way(after, came_from))
    quiet = {world: _next(network, world) for world in came_from} if is_complete else {}
    loops = tuple(_loops(quiet))
    flapping = _flapping(loops, quiet, came_from, setup)
    return Outcome(
        worlds=len(came_from),
        rounds=rounds,
        is_complete=is_complete,
        loops=len(loops),
        shortest_loop_s=min(((len(loop) - 1) * setup.tick_s for loop in loops), default=None),
        shedding=sum(_is_shedding(world) for world in came_from),
        findings=(*findings.values(), *flapping),
    )


def _flapping(
    loops: tuple[list[World], ...], quiet: dict[World, World], came_from: CameFrom, setup: Setup
) -> tuple[Finding, ...]:
    """The first loop that is too fast; otherwise the first stretch of changes that is."""
    for loop in loops:
        what = _too_fast(loop, setup)
        if what is not None:
            way = (*_way(loop[0], came_from), "for ever:", *(_words("", world) for world in loop[1:]))
            return (Finding(kind="flapping", what=what, way=way),)
    start = _restless(quiet, setup)
    if start is None:
        return ()
    way = _way(start, came_from)
    for _ in range(_rounds_of_window(setup)):
        start = quiet[start]
        way = (*way, _words("", start))
    return (Finding(kind="flapping", what="changes too often while nothing happens", way=way),)


def _wrong(world: World, setup: Setup) -> Iterator[tuple[Kind, str]]:
    """What is wrong with a world by itself."""
    serving = [site for site, state in zip(world.sites, world.health, strict=True) if state in ("up", "soft")]
    if not serving:
        return
    announced = [{route.prefix for route in site.announced} for site in serving]
    for prefix in PREFIXES:
        if not any(prefix in routes for routes in announced):
            yield "dark", f"{len(serving)} could serve {prefix}, and nobody announces it"
    whole = sum(len(routes) == len(PREFIXES) for routes in announced)
    if whole < min(floor_of(setup), len(serving)):
        yield "below the floor", f"{whole} of {len(serving)} that could serve announce everything"


def _is_shedding(world: World) -> bool:
    return any(
        site.ladder.step > Step.PREPEND and state in ("up", "soft")
        for site, state in zip(world.sites, world.health, strict=True)
    )


def _restless(quiet: dict[World, World], setup: Setup) -> World | None:
    """A world after which a site changes more often than it may, though nothing happens."""
    wanted = LadderLimits()
    for start in quiet:
        path = [start]
        for _ in range(_rounds_of_window(setup)):
            path.append(quiet[path[-1]])
        for i in range(setup.sites):
            steps = ((a.sites[i], b.sites[i]) for a, b in pairwise(path) if a.sites[i].ledgers)
            if sum(bool(_seen(old, new)) for old, new in steps) > wanted.moves:
                return start
    return None


def _loops(quiet: dict[World, World]) -> Iterator[list[World]]:
    """The loops that worlds end in when nothing happens, from a world to itself. Still ones are left out."""
    done: set[World] = set()
    for start in quiet:
        path: dict[World, int] = {}
        world = start
        while world not in done and world not in path:
            path[world] = len(path)
            world = quiet[world]
        if world in path:
            loop = [*list(path)[path[world] :], world]
            if any(_announced(world) != _announced(after) for world, after in pairwise(loop)):
                yield loop
        done.update(path)


def _next(network: Network, world: World) -> World:
    """The world after a round without an event, permits written in a fixed order."""
    return next(network.round(world, orders=1))


def _announced(world: World) -> tuple[tuple[object, ...], ...]:
    return tuple(site.announced for site in world.sites)


def _too_fast(loop: list[World], setup: Setup) -> str | None:
    """Why a loop is faster than it may be, if it is."""
    wanted = LadderLimits()
    rounds = _rounds_of_window(setup)
    length = len(loop) - 1
    for i in range(setup.sites):
        changes = [_seen(loop[k].sites[i], loop[k + 1].sites[i]) for k in range(length)]
        if (
            max(sum(bool(changes[(k + j) % length]) for j in range(rounds)) for k in range(length))
            > wanted.moves
        ):
            return f"s{i} changes more than {wanted.moves} times in {wanted.window_s:.0f} s, for ever"
        for prefix in PREFIXES:
            ledger = Ledger()
            for k in range(length * REPEATS):
                change = changes[k % length].get(prefix)
                if change is not None:
                    ledger = charged(ledger, change, k * setup.tick_s)
                    held = suppressed(ledger, k * setup.tick_s)
                    if any(held):
                        who = KNOWN[held.index(True)].name
                        return f"{who} would suppress {prefix} of s{i}"
    return None


def _rounds_of_window(setup: Setup) -> int:
    """How many rounds begin within the window of the ladder's defaults."""
    return int(LadderLimits().window_s // setup.tick_s) + 1


def _seen(old: FamilyState, new: FamilyState) -> dict[str, Change]:
    """What neighbours see of one site in one round."""
    before = {route.prefix: route for route in old.announced}
    after = {route.prefix: route for route in new.announced}
    changes = dict.fromkeys(before.keys() - after.keys(), Change.WITHDRAW)
    changes |= dict.fromkeys(after.keys() - before.keys(), Change.READVERTISE)
    both = before.keys() & after.keys()
    changes |= {prefix: Change.ATTRIBUTE for prefix in both if before[prefix] != after[prefix]}
    return changes


def _way(world: World, came_from: CameFrom) -> tuple[str, ...]:
    lines: list[str] = []
    at = world
    while (step := came_from[at]) is not None:
        lines.append(_words(step[1], at))
        at = step[0]
    return tuple(reversed(lines))


def _words(event: str, world: World) -> str:
    """One round: what happened, and what each site announces afterwards."""
    sites = (
        "+".join("plain" if not route.prepend else "prepended" for route in site.announced) or "nothing"
        for site in world.sites
    )
    return f"{event or 'nothing happens'}: " + ", ".join(f"s{i} {text}" for i, text in enumerate(sites))
