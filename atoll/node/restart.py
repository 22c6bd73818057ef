"""When a process that has ended is started again, and how its end is put into words. Pure.

The first restart comes at once: most deaths are single ones, and every millisecond of waiting is a user's.
A process that keeps dying waits longer each time, with jitter, so that it neither eats the machine nor comes
back in step with others.
"""

from __future__ import annotations

import signal
from typing import Final

STEADY_S: Final = 10.0  # after this long a death is not one of a series
BASE_S: Final = 0.25
LONGEST_S: Final = 5.0


def streak_after(streak: int, uptime_s: float) -> int:
    """How many deaths in a row, this one included, when it came `uptime_s` after the start."""
    return 1 if uptime_s >= STEADY_S else streak + 1


def delay_s(streak: int, chance: float) -> float:
    """How long to wait before the start that follows death number `streak`; `chance` is in [0, 1)."""
    if streak <= 1:
        return 0.0
    ceiling_s = min(LONGEST_S, BASE_S * 2.0 ** min(streak - 2, 16))
    return ceiling_s * (0.5 + 0.5 * chance)


def describe_exit(code: int) -> str:
    """`was killed by SIGKILL` or `left with status 1`."""
    if code >= 0:
        return f"left with status {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
