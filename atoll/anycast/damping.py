"""What our changes cost us at neighbours that damp flapping routes, and when the next one is affordable.

Route-flap damping (RFC 2439 §4) gives each prefix of each neighbour a penalty: so much for a withdrawal, for
announcing again, for changed attributes. It halves every half life. Above the suppress threshold the route is
ignored, until the penalty is below the reuse threshold. We cannot see it, but we know what we have sent, so a
`Ledger` per prefix counts as each set of parameters would, and `next_change_s` says when a change stays below
all of them.

Two things a neighbour may do differently are on the safe side: it may forget penalties below half the reuse
threshold (RFC 2439 §4), and it may never see changes that follow each other quickly. One is not: it may
see two changes closer together than we made them, by up to an advertisement interval (30 s, RFC 4271 §10).
`HEADROOM` is for that. Far away one withdrawal arrives as several changes, because networks try other paths
first; nobody at the origin can count those, which is why few changes are better than affordable ones.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Final

import msgspec

MINUTE_S: Final = 60.0

HEADROOM: Final = 0.95
"""The share of a suppress threshold that we use. In 30 s 2.3 % decay (half life 15 min); kept: twice."""


class Change(Enum):
    """What a neighbour sees of one prefix. The first announcement of all costs nothing."""

    WITHDRAW = "withdrawal"
    READVERTISE = "re-advertisement"
    ATTRIBUTE = "attribute change"


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """One way to damp. Penalties and thresholds have no unit; most vendors count 1000 for a withdrawal."""

    name: str
    withdrawal: float = 1000.0
    readvertisement: float = 0.0
    attribute: float = 500.0
    half_life_s: float = 15 * MINUTE_S
    suppress: float
    reuse: float = 750.0
    max_suppress_s: float = 60 * MINUTE_S

    def cost(self, change: Change) -> float:
        """The penalty for one change."""
        match change:
            case Change.WITHDRAW:
                return self.withdrawal
            case Change.READVERTISE:
                return self.readvertisement
            case Change.ATTRIBUTE:
                return self.attribute

    @property
    def ceiling(self) -> float:
        """No penalty is larger: from here it takes `max_suppress_s` to be reused (RFC 2439 §4)."""
        return self.reuse * float(2.0 ** (self.max_suppress_s / self.half_life_s))


CISCO: Final = Parameters(name="Cisco IOS, FRR", suppress=2000.0)
JUNIPER: Final = Parameters(name="Junos", readvertisement=1000.0, suppress=3000.0)
RIPE_229: Final = Parameters(
    name="RIPE-229, /24 and longer", half_life_s=30 * MINUTE_S, suppress=3000.0, reuse=820.0
)
# With 60 minutes the ceiling is 12,000, where the last set never suppresses: RFC 7196 §6 wants 50,000.
RFC_7196: Final = Parameters(
    name="RFC 7196, aggressive", readvertisement=1000.0, suppress=6000.0, max_suppress_s=92 * MINUTE_S
)
RFC_7196_CONSERVATIVE: Final = Parameters(
    name="RFC 7196, conservative", readvertisement=1000.0, suppress=12000.0, max_suppress_s=92 * MINUTE_S
)

KNOWN: Final = (CISCO, JUNIPER, RIPE_229, RFC_7196, RFC_7196_CONSERVATIVE)
"""What we reckon with: vendors' defaults (RFC 7196 §3, table 1) and two recommendations, one of them old."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What one prefix has cost so far, by set of parameters. The default value is a prefix without a past."""

    penalties: tuple[float, ...] = ()  # as of `charged_s`; empty: none anywhere
    suppressed: tuple[bool, ...] = ()
    charged_s: float = 0.0


def penalties(ledger: Ledger, now_s: float, sets: tuple[Parameters, ...] = KNOWN) -> tuple[float, ...]:
    """The penalties as of `now_s`. A clock that was set back decays nothing."""
    elapsed_s = max(0.0, now_s - ledger.charged_s)
    before = ledger.penalties or (0.0,) * len(sets)
    return tuple(
        penalty * float(0.5 ** (elapsed_s / damping.half_life_s))
        for penalty, damping in zip(before, sets, strict=True)
    )


def suppressed(ledger: Ledger, now_s: float, sets: tuple[Parameters, ...] = KNOWN) -> tuple[bool, ...]:
    """By which sets the prefix is ignored at `now_s`."""
    before = ledger.suppressed or (False,) * len(sets)
    return tuple(
        was and penalty > damping.reuse
        for was, penalty, damping in zip(before, penalties(ledger, now_s, sets), sets, strict=True)
    )


def charged(ledger: Ledger, change: Change, now_s: float, sets: tuple[Parameters, ...] = KNOWN) -> Ledger:
    """The ledger after one change at `now_s`."""
    now = tuple(
        min(penalty + damping.cost(change), damping.ceiling)
        for penalty, damping in zip(penalties(ledger, now_s, sets), sets, strict=True)
    )
    held = tuple(
        was or penalty > damping.suppress
        for was, penalty, damping in zip(suppressed(ledger, now_s, sets), now, sets, strict=True)
    )
    return Ledger(penalties=now, suppressed=held, charged_s=max(now_s, ledger.charged_s))


def next_change_s(
    ledger: Ledger, changes: tuple[Change, ...], now_s: float, sets: tuple[Parameters, ...] = KNOWN
) -> float:
    """The earliest time at which all of `changes` may be made at once and no set suppresses the prefix.

    Name what will have to follow too: a withdrawal that leaves nothing for coming back is none to be made.
    A set that has suppressed the prefix is waited for if the changes would add to its penalty; what costs
    nothing there need not wait. Infinity if there is no such time: the changes alone are too much.
    """
    earliest_s = now_s
    now = penalties(ledger, now_s, sets)
    held = suppressed(ledger, now_s, sets)
    for penalty, is_held, damping in zip(now, held, sets, strict=True):
        cost = sum(damping.cost(change) for change in changes)
        room = HEADROOM * damping.suppress - cost
        if cost == 0.0:
            continue
        if room < 0.0:
            return math.inf
        bound = min(room, damping.reuse) if is_held else room
        earliest_s = max(earliest_s, now_s + decay_s(penalty, bound, damping.half_life_s))
    return earliest_s


def decay_s(penalty: float, bound: float, half_life_s: float) -> float:
    """How long until `penalty` has decayed to `bound`."""
    if penalty <= bound:
        return 0.0
    if bound <= 0.0:
        return math.inf
    return half_life_s * math.log2(penalty / bound)


def cycle_s(changes: tuple[Change, ...], sets: tuple[Parameters, ...] = KNOWN) -> float:
    """How often `changes` may be repeated for ever: the shortest period in the strictest set.

    Charged together once a period T, the penalty peaks at cost ÷ (1 - 2^(-T ÷ half life)).
    """
    period_s = 0.0
    for damping in sets:
        share = sum(damping.cost(change) for change in changes) / (HEADROOM * damping.suppress)
        if share >= 1.0:
            return math.inf
        period_s = max(period_s, -damping.half_life_s * math.log2(1.0 - share))
    return period_s
