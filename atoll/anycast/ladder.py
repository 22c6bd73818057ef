"""Shedding load in steps, with hysteresis: from how busy a site is to how much of it is announced.

| step | announces | needs |
|---|---|---|
| `NORMAL` | everything plainly | |
| `PREPEND` | everything, less attractive (prepended, communities) | |
| `PARTIAL` | some of the prefixes, prepended; skipped where there is only one | a permit |
| `WITHDRAWN` | nothing | a permit |

One step at a time. Up when any measure has been at its high mark for `rise_s`; down when all have been at
their low marks for `calm_s`. Shedding itself makes a site calm, so calm proves little: whoever has to step up
again within `forget_s` of stepping down waits twice as long the next time, and so on. At most `moves` steps
in `window_s`, either way. Checks that fail (`Strain.FAILING`) go to the highest step allowed at once:
they have been counted by health already. A measure that is missing moves nothing.

A permit that is gone takes the ladder down to `PREPEND` at once and without asking any of these limits: then
the site is needed. `PARTIAL` needs one as well, or two sites could drop the same prefix between them.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

import msgspec


class Step(IntEnum):
    """How much is shed. The higher the less is announced."""

    NORMAL = 0
    PREPEND = 1
    PARTIAL = 2
    WITHDRAWN = 3


class Strain(Enum):
    """What the measures say, all of them together."""

    CALM = "calm"
    BETWEEN = "between"
    OVER = "over"
    FAILING = "failing"
    UNKNOWN = "unknown"


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a site is. p99 is of what the edge answers itself: a slow origin is slow from everywhere."""

    cpu: float  # share of all cores, 0 to 1
    connections: float  # share of how many there may be, 0 to 1
    p99_ms: float


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """Over at `high` and above, calm at `low` and below; in between things stay as they are."""

    high: float
    low: float


class LadderLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When to step. The reasons are in docs/anycast-policy.md."""

    cpu: Band = Band(high=0.85, low=0.60)
    connections: Band = Band(high=0.85, low=0.60)
    p99_ms: Band = Band(high=500.0, low=200.0)
    rise_s: float = 30.0
    calm_s: float = 300.0
    window_s: float = 600.0
    moves: int = 2
    forget_s: float = 3600.0
    max_doublings: int = 3


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """Where a site is. The default value is one that sheds nothing."""

    step: Step = Step.NORMAL
    strain: Strain = Strain.UNKNOWN
    strain_since_s: float = 0.0  # since when the measures say so, or since the last step
    moved_s: tuple[float, ...] = ()  # the last steps, newest last
    relaxed_s: float | None = None  # the last step down
    relapses: int = 0


ALL_STEPS: Final = tuple(Step)
WITHOUT_PARTIAL: Final = (Step.NORMAL, Step.PREPEND, Step.WITHDRAWN)


def strain(load: Load | None, limits: LadderLimits) -> Strain:
    """One verdict from three measures."""
    if load is None:
        return Strain.UNKNOWN
    measures = (
        (load.cpu, limits.cpu),
        (load.connections, limits.connections),
        (load.p99_ms, limits.p99_ms),
    )
    if any(value >= band.high for value, band in measures):
        return Strain.OVER
    if all(value <= band.low for value, band in measures):
        return Strain.CALM
    return Strain.BETWEEN


def felt(ladder: Ladder, now: Strain, now_s: float, limits: LadderLimits) -> Ladder:
    """The ladder after one more verdict, on the same step."""
    moved_s = tuple(at_s for at_s in ladder.moved_s if at_s > now_s - limits.window_s)
    relaxed_s = ladder.relaxed_s
    if relaxed_s is not None and ladder.step is Step.NORMAL and now_s - relaxed_s >= limits.forget_s:
        relaxed_s = None
    return msgspec.structs.replace(
        ladder,
        strain=now,
        strain_since_s=ladder.strain_since_s if now is ladder.strain else now_s,
        moved_s=moved_s,
        relaxed_s=relaxed_s,
        relapses=0 if relaxed_s is None and ladder.step is Step.NORMAL else ladder.relapses,
    )


def climbed(
    ladder: Ladder,
    now_s: float,
    limits: LadderLimits,
    steps: tuple[Step, ...] = ALL_STEPS,
    top: Step = Step.PREPEND,
) -> Ladder:
    """The ladder after the step that is due now, if one is. `top`: the highest that is allowed."""
    if ladder.step > top:
        return _moved(ladder, top, now_s, limits)
    if len(ladder.moved_s) >= limits.moves:
        return ladder
    for_s = now_s - ladder.strain_since_s
    at = steps.index(ladder.step) if ladder.step in steps else len(steps) - 1
    if ladder.strain is Strain.FAILING and ladder.step < top:
        return _moved(ladder, top, now_s, limits)
    if ladder.strain is Strain.OVER and for_s >= limits.rise_s and ladder.step < top:
        return _moved(ladder, steps[at + 1], now_s, limits)
    if ladder.strain is Strain.CALM and for_s >= calm_s(ladder, limits) and at > 0:
        return _moved(ladder, steps[at - 1], now_s, limits)
    return ladder


def wants_permit(ladder: Ladder, now_s: float, limits: LadderLimits) -> bool:
    """Whether the step that is due needs a permit, or the present one does.

    Not earlier than that: the others have to hear first that this site sheds, and it that they do.
    """
    if ladder.strain is Strain.FAILING or ladder.step > Step.PREPEND:
        return True
    is_over = ladder.strain is Strain.OVER and now_s - ladder.strain_since_s >= limits.rise_s
    return is_over and ladder.step is Step.PREPEND


def calm_s(ladder: Ladder, limits: LadderLimits) -> float:
    """For how long all has to be calm before the next step down."""
    return limits.calm_s * float(2 ** min(ladder.relapses, limits.max_doublings))


def _moved(ladder: Ladder, to: Step, now_s: float, limits: LadderLimits) -> Ladder:
    is_up = to > ladder.step
    is_relapse = is_up and ladder.relaxed_s is not None and now_s - ladder.relaxed_s < limits.forget_s
    return Ladder(
        step=to,
        strain=ladder.strain,
        strain_since_s=now_s,
        moved_s=(*ladder.moved_s, now_s),
        relaxed_s=None if is_up else now_s,
        relapses=min(ladder.relapses + 1, limits.max_doublings) if is_relapse else ladder.relapses,
    )
