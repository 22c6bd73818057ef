"""What requests themselves say about an origin, and how much is asked again. Pure: time is an argument.

A check sees one path once a second; requests see all of them all the time. An origin that fails some in a row
is left out for a while, longer each time it happens again, but never so many that too few are left to carry
the load (`EjectionSpec`). `RetryBudget` bounds what failing origins cost those that still work.
"""

from __future__ import annotations

from typing import Final

from atoll.config.origins import EjectionSpec, RetrySpec

_BURST_S: Final = 10.0  # the floor's worth that a budget can have saved up
_SAVED: Final = 100.0  # retries that busy times can have saved up


class PassiveHealth:
    """One origin as its requests see it."""

    __slots__ = ("_forgiven_s", "_row", "_times", "until_s")

    def __init__(self) -> None:
        self._row = 0
        self._times = 0  # ejections without a good while in between
        self._forgiven_s = 0.0  # the last time that a good while made up for one
        self.until_s = 0.0  # it is left out until then

    def out(self, now_s: float) -> bool:
        """Whether it is left out."""
        return now_s < self.until_s

    def succeeded(self, now_s: float, spec: EjectionSpec) -> None:
        """A request was answered. A good while makes up for an ejection each."""
        self._row = 0
        since_s = max(self.until_s, self._forgiven_s)
        if self._times and now_s > since_s + spec.base_s * 2.0**self._times:
            self._times -= 1
            self._forgiven_s = now_s

    def failed(self, spec: EjectionSpec) -> bool:
        """A request failed; whether there have been too many in a row."""
        self._row += 1
        return 0 < spec.failures <= self._row

    def eject(self, now_s: float, spec: EjectionSpec) -> float:
        """Leave it out from now on; for how many seconds."""
        for_s = min(spec.base_s * 2.0 ** min(self._times, 30), spec.longest_s)
        self._row = 0
        self._times += 1
        self.until_s = now_s + for_s
        return for_s


def may_eject(out: int, left: int, spec: EjectionSpec) -> bool:
    """Whether one more may go of a pool of which `out` are left out and `left` serve, itself among them."""
    if left < 2:
        return False
    return out == 0 or (out + 1) <= spec.most_share * (out + left)


class RetryBudget:
    """A bucket of retries: each request puts a share of one in, time adds the floor."""

    __slots__ = ("_filled_s", "_spec", "_tokens")

    def __init__(self, spec: RetrySpec, now_s: float) -> None:
        self._spec = spec
        self._tokens = spec.floor_per_s * _BURST_S
        self._filled_s = now_s

    def request(self, now_s: float) -> None:
        """A request comes."""
        floor = (now_s - self._filled_s) * self._spec.floor_per_s
        most = max(self._spec.floor_per_s * _BURST_S, _SAVED * self._spec.share, 1.0)
        self._tokens = min(self._tokens + floor + self._spec.share, most)
        self._filled_s = now_s

    def take(self) -> bool:
        """Whether there is a retry left; it is taken."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
