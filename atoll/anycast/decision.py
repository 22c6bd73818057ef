"""What a site announces, all things considered: `decide(inputs, state, now_s)`, pure, per address family.

The rules, in this order:

1. What `policy` says of hard failures, of sites that have not served yet and of an operator's drain is done
   at once. A person who drains is asked nothing; the others see that the site is gone and get fewer permits.
2. A maintenance window is a drain that nobody watches: it prepends with GRACEFUL_SHUTDOWN (RFC 8326), and
   withdraws when the drain window is over and there is a permit (`floor`).
3. Otherwise the ladder decides how much is shed; checks that fail are its worst strain. The operator's own
   prepending is added by whichever is longer.
4. A change is made when every listed way to damp forgives it (`damping`), for all prefixes or for none; the
   ladder waits where it is. Withdrawing counts the coming back too.
5. Nobody waits to come back when the others are fewer than the floor, or when nothing is known of them: an
   address that some networks ignore is better than one that nobody announces.

Origins are no input, as in `policy`. What comes out besides announcements is the state: whether a permit is
wanted, and why things are as they are.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from atoll.anycast.damping import KNOWN, Change, Ledger, Parameters, charged, next_change_s, penalties
from atoll.anycast.floor import FloorLimits, Report, Sight, is_needed, permitted
from atoll.anycast.health import Health
from atoll.anycast.ladder import (
    ALL_STEPS,
    WITHOUT_PARTIAL,
    Ladder,
    LadderLimits,
    Load,
    Step,
    Strain,
    climbed,
    felt,
    strain,
    wants_permit,
)
from atoll.anycast.policy import Inputs as PolicyInputs
from atoll.anycast.policy import PolicyLimits, policy
from atoll.anycast.speaker import GRACEFUL_SHUTDOWN, MAX_PREPEND, Announcement

Family = Literal["ipv4", "ipv6"]


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """Planned maintenance: from `start_s` until before `end_s`, by the clock that `now_s` is of."""

    start_s: float
    end_s: float


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants of this site."""

    drain_since_s: float | None = None
    drained: bool = False
    prepend: int = 0
    windows: tuple[Window, ...] = ()


class DecisionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's figures."""

    policy: PolicyLimits = PolicyLimits()
    ladder: LadderLimits = LadderLimits()
    floor: FloorLimits = FloorLimits()
    damping: tuple[Parameters, ...] = KNOWN
    shed_communities: tuple[str, ...] = ()  # what upstreams offer to make a route less attractive


class FamilyInputs(msgspec.Struct, frozen=True, kw_only=True):
    """One address family: checked, and seen by the others, on its own."""

    family: Family
    prefixes: tuple[str, ...]  # the first half is what `PARTIAL` keeps
    health: Health
    sight: Sight


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that is looked at."""

    families: tuple[FamilyInputs, ...]
    load: Load | None = None
    intent: Intent = Intent()
    limits: DecisionLimits = DecisionLimits()


class FamilyState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of one family. To be kept on disk: neighbours remember as well."""

    family: Family
    ladder: Ladder = Ladder()
    announced: tuple[Announcement, ...] = ()
    ledgers: tuple[tuple[str, Ledger], ...] = ()  # of every prefix that was ever announced
    wants_permit: bool = False
    reason: str = ""


class DecisionState(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered from one decision to the next."""

    families: tuple[FamilyState, ...] = ()


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What would be announced if changes cost nothing."""

    announcements: tuple[Announcement, ...]
    reason: str
    ladder: Ladder
    is_urgent: bool = False
    wants_permit: bool = False


def decide(
    inputs: Inputs, state: DecisionState, now_s: float
) -> tuple[tuple[Announcement, ...], DecisionState]:
    """What to announce at `now_s` (everything else is to be withdrawn), and what to remember."""
    known = {before.family: before for before in state.families}
    after = tuple(
        decide_family(mine, inputs, known.get(mine.family, FamilyState(family=mine.family)), now_s)
        for mine in inputs.families
    )
    announcements = tuple(announcement for family in after for announcement in family.announced)
    return announcements, DecisionState(families=after)


def decide_family(mine: FamilyInputs, inputs: Inputs, before: FamilyState, now_s: float) -> FamilyState:
    """One family's part of `decide`."""
    before = _without_foreign(mine, before, now_s, inputs.limits)
    wishes = _wishes(mine, inputs, before, now_s)
    for wish in wishes:
        ready_s = _ready_s(before, wish, now_s, inputs.limits)
        if wish.is_urgent or ready_s <= now_s:
            return _granted(before, wish, now_s, inputs.limits)
    return msgspec.structs.replace(
        before,
        ladder=wish.ladder,
        wants_permit=wish.wants_permit,
        reason=f"{wish.reason}; waits, or neighbours may damp the route",
    )


def reported(site: str, mine: FamilyInputs, after: FamilyState, now_s: float) -> Report:
    """What the other sites have to hear of this one."""
    return Report(
        site=site,
        state=mine.health.state,
        announcing={route.prefix for route in after.announced} >= set(mine.prefixes),
        shedding=after.ladder.step is not Step.NORMAL,
        heard_s=now_s,
    )


def _wishes(mine: FamilyInputs, inputs: Inputs, before: FamilyState, now_s: float) -> tuple[Wish, ...]:
    """What to announce, best first: a step of the ladder may turn out to be too expensive."""
    intent, limits = inputs.intent, inputs.limits
    if mine.health.state in ("starting", "hard") or intent.drain_since_s is not None:
        return (_ordered(mine, inputs, before, now_s),)
    comes_back = is_needed(mine.sight, now_s, limits.floor) and _is_lacking(mine, before)
    for window in intent.windows:
        if window.start_s <= now_s < window.end_s:
            return (_maintained(mine, inputs, before, window, comes_back, now_s),)
    sensed = Strain.FAILING if mine.health.state == "soft" else strain(inputs.load, limits.ladder)
    same = felt(before.ladder, sensed, now_s, limits.ladder)
    steps = ALL_STEPS if len(mine.prefixes) > 1 else WITHOUT_PARTIAL
    top = Step.WITHDRAWN if permitted(mine.sight, now_s, limits.floor) else Step.PREPEND
    moved = climbed(same, now_s, limits.ladder, steps, top)
    if same.step > top or moved is same:
        return (_shed(mine, inputs, moved, comes_back, now_s),)
    return tuple(_shed(mine, inputs, ladder, comes_back, now_s) for ladder in (moved, same))


def _ordered(mine: FamilyInputs, inputs: Inputs, before: FamilyState, now_s: float) -> Wish:
    """Hard failures and drains."""
    decision = policy(
        PolicyInputs(
            prefixes=mine.prefixes,
            health=mine.health,
            drain_since_s=inputs.intent.drain_since_s,
            drained=inputs.intent.drained,
            limits=inputs.limits.policy,
        ),
        now_s,
    )
    return Wish(
        announcements=decision.announcements,
        reason=decision.reason,
        ladder=felt(before.ladder, Strain.UNKNOWN, now_s, inputs.limits.ladder),
        is_urgent=True,
    )


def _maintained(
    mine: FamilyInputs,
    inputs: Inputs,
    before: FamilyState,
    window: Window,
    comes_back: bool,
    now_s: float,
) -> Wish:
    limits = inputs.limits
    is_over = now_s - window.start_s >= limits.policy.drain_window_s
    leaves = is_over and permitted(mine.sight, now_s, limits.floor)
    prepend = max(limits.policy.drain_prepend, inputs.intent.prepend)
    return Wish(
        announcements=() if leaves else _routes(mine.prefixes, prepend, (GRACEFUL_SHUTDOWN,)),
        reason="maintenance, withdrawn with a permit" if leaves else "maintenance: graceful shutdown",
        ladder=felt(before.ladder, Strain.UNKNOWN, now_s, limits.ladder),
        is_urgent=comes_back,
        wants_permit=True,
    )


REASONS: Final = {
    Step.NORMAL: "healthy",
    Step.PREPEND: "shedding: prepended",
    Step.PARTIAL: "shedding: some prefixes, with a permit",
    Step.WITHDRAWN: "shedding: withdrawn with a permit",
}


def _shed(mine: FamilyInputs, inputs: Inputs, ladder: Ladder, comes_back: bool, now_s: float) -> Wish:
    """What the ladder's step means in announcements."""
    limits, prefixes = inputs.limits, mine.prefixes
    kept = {Step.PARTIAL: prefixes[: max(1, len(prefixes) // 2)], Step.WITHDRAWN: ()}
    is_plain = ladder.step is Step.NORMAL
    prepend = max(0 if is_plain else limits.policy.soft_prepend, inputs.intent.prepend)
    return Wish(
        announcements=_routes(
            kept.get(ladder.step, prefixes), prepend, () if is_plain else limits.shed_communities
        ),
        reason=REASONS[ladder.step] + (", checks fail" if ladder.strain is Strain.FAILING else ""),
        ladder=ladder,
        is_urgent=comes_back,
        wants_permit=wants_permit(ladder, now_s, limits.ladder),
    )


def _routes(
    prefixes: tuple[str, ...], prepend: int, communities: tuple[str, ...]
) -> tuple[Announcement, ...]:
    return tuple(
        Announcement(prefix=prefix, prepend=min(prepend, MAX_PREPEND), communities=communities)
        for prefix in prefixes
    )


def _is_lacking(mine: FamilyInputs, before: FamilyState) -> bool:
    return not {route.prefix for route in before.announced} >= set(mine.prefixes)


def _changes(before: FamilyState, wanted: tuple[Announcement, ...]) -> dict[str, Change | None]:
    """What neighbours would see, by prefix. None: they have never seen the prefix."""
    old = {route.prefix: route for route in before.announced}
    new = {route.prefix: route for route in wanted}
    past = {prefix for prefix, _ in before.ledgers}
    seen: dict[str, Change | None] = dict.fromkeys(old.keys() - new.keys(), Change.WITHDRAW)
    for prefix, route in new.items():
        if prefix not in old:
            seen[prefix] = Change.READVERTISE if prefix in past else None
        elif old[prefix] != route:
            seen[prefix] = Change.ATTRIBUTE
    return seen


def _ready_s(before: FamilyState, wish: Wish, now_s: float, limits: DecisionLimits) -> float:
    """When all changes of a wish are affordable."""
    ledgers, earliest_s = dict(before.ledgers), now_s
    for prefix, change in _changes(before, wish.announcements).items():
        if change is None:
            continue
        whole = (change, Change.READVERTISE) if change is Change.WITHDRAW else (change,)
        ledger = ledgers.get(prefix, Ledger())
        earliest_s = max(earliest_s, next_change_s(ledger, whole, now_s, limits.damping))
    return earliest_s


def _granted(before: FamilyState, wish: Wish, now_s: float, limits: DecisionLimits) -> FamilyState:
    """The state once the wish is announced, its changes charged."""
    ledgers = dict(before.ledgers)
    for prefix, change in _changes(before, wish.announcements).items():
        ledger = ledgers.get(prefix, Ledger())
        ledgers[prefix] = ledger if change is None else charged(ledger, change, now_s, limits.damping)
    return FamilyState(
        family=before.family,
        ladder=wish.ladder,
        announced=wish.announcements,
        ledgers=tuple(sorted(ledgers.items())),
        wants_permit=wish.wants_permit,
        reason=wish.reason,
    )


def _without_foreign(
    mine: FamilyInputs, before: FamilyState, now_s: float, limits: DecisionLimits
) -> FamilyState:
    """The state without prefixes that are this site's no longer: withdrawn, remembered while they cost."""
    if {prefix for prefix, _ in before.ledgers} <= set(mine.prefixes):
        return before
    kept = tuple(route for route in before.announced if route.prefix in mine.prefixes)
    wish = Wish(announcements=kept, reason=before.reason, ladder=before.ladder)
    after = _granted(before, wish, now_s, limits)
    return msgspec.structs.replace(
        after,
        wants_permit=before.wants_permit,
        ledgers=tuple(
            (prefix, ledger)
            for prefix, ledger in after.ledgers
            if prefix in mine.prefixes or max(penalties(ledger, now_s, limits.damping), default=0.0) >= 1.0
        ),
    )
