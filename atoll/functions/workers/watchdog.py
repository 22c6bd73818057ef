"""Is a function host still alive? A pure state machine over a clock, the host's CPU time and its answers.

A script that never ends holds the process' only event loop: nothing in it answers any more, and only SIGKILL
helps. The watchdog looks every `interval_s`:

1. A host that used no CPU since the last look cannot be looping: it is left alone, so an idle host costs a
   look and no request. Every `idle_ping_s` it is asked all the same.
2. Otherwise it is asked (a ping), and asked again only after it has answered.
3. A look that finds the ping unanswered while the host used at least `busy_share` of the time is a miss;
   `misses` in a row and it is killed. A host that waits for a CPU on a crowded machine is not looping, and
   does not miss.
4. Whatever it did, a host that has not answered for `deadline_s` is killed.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec


class Action(Enum):
    """What to do after a look."""

    WAIT = "wait"
    PING = "ping"
    KILL = "kill"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a host may stay silent."""

    interval_s: float = 0.2
    misses: int = 2
    busy_share: float = 0.25
    idle_ping_s: float = 10.0
    deadline_s: float = 5.0


class Watchdog:
    """One host's. `now_s` is a monotonic clock's, `cpu_s` the host's CPU time since it started."""

    def __init__(self, now_s: float, cpu_s: float, patience: Patience = Patience()) -> None:  # noqa: B008
        self._patience = patience
        self._looked_s = now_s
        self._cpu_s = cpu_s
        self._answered_s = now_s
        self._asked_s: float | None = None
        self._missed = 0

    def look(self, now_s: float, cpu_s: float) -> Action:
        """What to do now."""
        elapsed_s, used_s = now_s - self._looked_s, cpu_s - self._cpu_s
        self._looked_s, self._cpu_s = now_s, cpu_s
        if self._asked_s is not None:
            return self._unanswered(now_s, elapsed_s, used_s)
        if used_s > 0 or now_s - self._answered_s >= self._patience.idle_ping_s:
            self._asked_s = now_s
            return Action.PING
        return Action.WAIT

    def answered(self, now_s: float) -> None:
        """The ping was answered."""
        self._answered_s = now_s
        self._asked_s = None
        self._missed = 0

    def _unanswered(self, now_s: float, elapsed_s: float, used_s: float) -> Action:
        assert self._asked_s is not None
        if used_s >= elapsed_s * self._patience.busy_share:
            self._missed += 1
        late = now_s - self._asked_s >= self._patience.deadline_s
        return Action.KILL if late or self._missed >= self._patience.misses else Action.WAIT


class Restarts(msgspec.Struct, frozen=True, kw_only=True):
    """When a host that died is started again.

    At once for the first `free` deaths within `window_s`; then after `first_s`, doubling up to `longest_s`,
    until it has lived through a window.
    """

    free: int = 5
    window_s: float = 30.0
    first_s: float = 0.5
    longest_s: float = 10.0

    def delay_s(self, deaths: list[float], now_s: float) -> float:
        """How long to wait, given when it died so far."""
        recent = sum(1 for death_s in deaths if now_s - death_s <= self.window_s)
        if recent <= self.free:
            return 0.0
        return min(self.longest_s, self.first_s * 2.0 ** min(recent - self.free - 1, 16))


DEFAULT_RESTARTS: Final = Restarts()
