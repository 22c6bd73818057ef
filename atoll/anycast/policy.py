"""What a PoP announces, and why: a pure function of its health, its operator's wish and the time.

In this order; the first rule that applies decides:

1. Nothing serves on the PoP's own address, or it has not served yet: announce nothing. A user who is sent
   here gets nothing, so this never waits, neither for a drain window nor for a permit.
2. The operator drains: first GRACEFUL_SHUTDOWN (RFC 8326) and prepending, so that networks move away while
   open connections go on; after `drain_window_s` announce nothing.
3. The PoP serves, but badly or too slowly: the same fault (a bad deploy, a crowd) may hit every PoP at once,
   and a network that withdraws itself everywhere serves nobody. So it withdraws only with a permit from
   someone who counts the PoPs still up; without one it prepends. Nobody gives permits yet.
4. Otherwise announce plainly.

Origins are no input: a sick origin never withdraws a PoP.
"""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.anycast.health import Health
from atoll.anycast.speaker import GRACEFUL_SHUTDOWN, Announcement

DRAINED: Final = "drained by the operator"


class PolicyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's figures."""

    drain_window_s: float = 5.0
    drain_prepend: int = 3
    soft_prepend: int = 3


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All that policy looks at."""

    prefixes: tuple[str, ...]
    health: Health
    drain_since_s: float | None = None  # when the operator asked for a drain
    drained: bool = False  # the window has passed before: it does not begin again, whatever the clock says
    permit: bool = False  # someone who counts the PoPs still up allows a soft withdrawal
    limits: PolicyLimits = PolicyLimits()


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to announce (everything else is to be withdrawn), and why, for people."""

    announcements: tuple[Announcement, ...]
    reason: str


def policy(inputs: Inputs, now_s: float) -> Decision:
    """What to announce at `now_s`."""
    limits, health = inputs.limits, inputs.health
    if health.suppressed and health.state in ("starting", "hard"):
        return _nothing("suppressed: fell too often")
    if health.state == "starting":
        return _nothing("starting: not healthy yet")
    if health.state == "hard":
        return _nothing("nobody answers")
    if inputs.drain_since_s is not None:
        if inputs.drained or now_s - inputs.drain_since_s >= limits.drain_window_s:
            return _nothing(DRAINED)
        return _all(inputs, "draining: graceful shutdown", limits.drain_prepend, (GRACEFUL_SHUTDOWN,))
    if health.state == "soft":
        if inputs.permit:
            return _nothing("failing checks, withdrawn with a permit")
        return _all(inputs, "failing checks, no permit to withdraw: prepended", limits.soft_prepend)
    return _all(inputs, "healthy")


def _nothing(reason: str) -> Decision:
    return Decision(announcements=(), reason=reason)


def _all(inputs: Inputs, reason: str, prepend: int = 0, communities: tuple[str, ...] = ()) -> Decision:
    announcements = tuple(
        Announcement(prefix=prefix, prepend=prepend, communities=communities) for prefix in inputs.prefixes
    )
    return Decision(announcements=announcements, reason=reason)


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """The way from what is announced to what should be."""

    withdraw: tuple[str, ...]
    announce: tuple[Announcement, ...]


def changes(asked: tuple[Announcement, ...], wanted: tuple[Announcement, ...]) -> Changes:
    """Withdrawals first: they are what users wait for."""
    keep = {announcement.prefix for announcement in wanted}
    return Changes(
        withdraw=tuple(old.prefix for old in asked if old.prefix not in keep),
        announce=tuple(new for new in wanted if new not in asked),
    )
