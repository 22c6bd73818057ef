"""Is this PoP fit to be announced? Rise, fall and damping over single checks, as a pure state machine.

Four verdicts of one check go in, a state comes out:

| state | means | leaves it |
|---|---|---|
| `starting` | has not served yet | `rise` passes in a row → `up` |
| `up` | serves | one `REFUSED`, or `fall` `SILENT` in a row → `hard`; `fall` failures in a row → `soft` |
| `soft` | overloaded, or answers not as it should | as `up` towards `hard`; `rise` passes in a row → `up` |
| `hard` | nobody serves | `rise` passes in a row → `up` |

Each fall adds 1 to a penalty that halves every `penalty_half_life_s`; above `suppress` the PoP stays where
it fell until the penalty is below `reuse`, however well it looks. That is route-flap damping (RFC 2439) done
at home, so that no neighbour has reason to do it to us; it outlives the process, whose death is a fall too.
A passing check says only that the edge answers: what it says about origins never counts, because another
PoP would reach the same sick origin.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal

import msgspec


class Verdict(Enum):
    """What one check of the serving path found."""

    PASS = "pass"  # noqa: S105
    WRONG = "wrong"  # an edge worker runs: it answered, but not with 200, or not in time
    SILENT = "silent"  # no answer in time, and nobody who says why
    REFUSED = "refused"  # nobody serves


State = Literal["starting", "up", "soft", "hard"]


class HealthLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many checks decide, and how much flapping is forgiven."""

    rise: int = 2
    fall: int = 3
    suppress: float = 3.5
    reuse: float = 1.5
    penalty_half_life_s: float = 60.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """All that is remembered of past checks. The default value is a PoP that has not been checked."""

    state: State = "starting"
    passes: int = 0  # in a row
    fails: int = 0  # in a row, of any kind
    silent: int = 0  # in a row, `SILENT` only
    penalty: float = 0.0  # as of `checked_s`
    suppressed: bool = False
    checked_s: float = 0.0


def classify(status: int) -> Verdict:
    """The verdict on an answer: 200 passes whatever its body tells about origins."""
    return Verdict.PASS if status == 200 else Verdict.WRONG


def observe(health: Health, verdict: Verdict, now_s: float, limits: HealthLimits) -> Health:
    """The health after one more check."""
    penalty = decayed(health, now_s, limits)
    suppressed = health.suppressed and penalty > limits.reuse
    passes = health.passes + 1 if verdict is Verdict.PASS else 0
    fails = 0 if verdict is Verdict.PASS else health.fails + 1
    silent = health.silent + 1 if verdict is Verdict.SILENT else 0
    state = health.state
    if verdict is Verdict.PASS:
        if passes >= limits.rise and not suppressed:
            state = "up"
    elif state != "starting":
        state = _fallen(state, verdict, fails, silent, limits)
    if health.state == "up" and state != "up":
        penalty += 1.0
        suppressed = penalty > limits.suppress
    return Health(
        state=state,
        passes=passes,
        fails=fails,
        silent=silent,
        penalty=penalty,
        suppressed=suppressed,
        checked_s=now_s,
    )


def _fallen(state: State, verdict: Verdict, fails: int, silent: int, limits: HealthLimits) -> State:
    if verdict is Verdict.REFUSED or silent >= limits.fall:
        return "hard"
    if state == "up" and fails >= limits.fall:
        return "soft"
    return state


def resumed(
    penalty: float, suppressed: bool, checked_s: float, fell: bool, now_s: float, limits: HealthLimits
) -> Health:
    """The health to start with, from what was remembered. `fell`: it served, and its end was not orderly.

    A clock that was set back forgives nothing, and what it said then is forgotten.
    """
    before = Health(penalty=penalty, suppressed=suppressed, checked_s=checked_s)
    now = decayed(before, now_s, limits) + (1.0 if fell else 0.0)
    held = now > limits.suppress or (suppressed and now > limits.reuse)
    return Health(penalty=now, suppressed=held, checked_s=now_s)


def forgiven(health: Health) -> Health:
    """Without a penalty: a person has looked and wants the PoP announced."""
    return msgspec.structs.replace(health, penalty=0.0, suppressed=False)


def decayed(health: Health, now_s: float, limits: HealthLimits) -> float:
    """The penalty as of `now_s`. A clock that went backwards decays nothing."""
    elapsed_s = max(0.0, now_s - health.checked_s)
    return health.penalty * float(0.5 ** (elapsed_s / limits.penalty_half_life_s))
