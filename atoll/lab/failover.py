"""What users notice when a PoP dies: kill it under load, watch their answers, bring it back.

The measure is the user's outage, the longest gap between two successful answers around the kill, and not
BGP's own convergence. The other half of a trial is the return: better routes take users back, which resets
what they have open, as anycast does; its failures are counted apart.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.lab.prober import Prober, Sample
from atoll.wire.messages import CatchmentRow

SCENARIO: Final = "pop-kill"
WARM_UP_S: Final = 1.0
WATCH_S: Final = 2.0  # load after the kill, and after the return
BACK_S: Final = 30.0


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that failed: at the first try, and for good."""

    requests: int
    failed_requests: int
    failed_after_one_retry: int
    errors: dict[str, int]  # of first tries, by kind


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One kill and one return."""

    pop: str
    city: str
    outage_ms: float
    requests: int
    failed_requests: int
    failed_after_one_retry: int
    errors: dict[str, int]
    taken_over_by: str
    expected: str  # the model's second choice
    back_ms: float | None  # from `start` to the first answer; None: it did not come back in time
    on_return: Losses
    return_gap_ms: float


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """Over all trials."""

    p50: float
    max: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run prints. `ok`: the model's choice took over, the PoP came back, outages within the limit."""

    scenario: str
    pop: str
    city: str
    rate: float
    limit_ms: float
    trials: tuple[Trial, ...]
    outage_ms: Outage
    failed_requests: int
    failed_after_one_retry: int
    ok: bool


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to kill, who looks, and where the gateway listens."""

    pop: str
    city: str
    expected: str
    rate: float
    address: tuple[str, int]
    path: str = "/"
    site: str = ""  # of the network, by name; the default site without one

    @property
    def host(self) -> str:
        """What the city's browser asks for."""
        return f"{self.site}.{self.city}.localhost" if self.site else f"{self.city}.localhost"


Act = Callable[[str, str], None]
"""Blocking: does `kill` or `start` to a PoP."""


def choose_city(rows: Sequence[CatchmentRow], pop: str, pop_city: str) -> str:
    """A city that `pop` serves: its own if there is one, otherwise the nearest.

    Raises:
        AtollError: it serves nobody.
    """
    served = [row for row in rows if row.pop == pop]
    if not served:
        raise AtollError(f"{pop} serves no city", hint="is it up and announced? `atoll pop list` says")
    return min(served, key=lambda row: (row.city != pop_city, row.rtt_ms)).city


async def run_trial(target: Target, act: Act) -> Trial:
    """Kill, watch, start, watch."""
    loop = asyncio.get_running_loop()
    prober = Prober(target.address, target.host, target.path, target.rate)
    prober.start()
    try:
        await asyncio.sleep(WARM_UP_S)
        if prober.last != target.pop:
            answered = prober.last or "nobody"
            raise AtollError(f"{target.city} is answered by {answered}, not {target.pop}")
        killed_s = loop.time()
        await asyncio.to_thread(act, target.pop, "kill")
        await asyncio.sleep(WATCH_S)
        started_s = loop.time()
        await asyncio.to_thread(act, target.pop, "start")
        back_s = await _wait_for_return(prober, target.pop)
        await asyncio.sleep(WATCH_S)
    finally:
        await prober.stop()
    return judge(target, prober.samples, killed_s, started_s, back_s)


async def _wait_for_return(prober: Prober, pop: str) -> float | None:
    try:
        async with asyncio.timeout(BACK_S):
            await prober.until_said(pop)
    except TimeoutError:
        return None
    return asyncio.get_running_loop().time()


def judge(
    target: Target, samples: Sequence[Sample], killed_s: float, started_s: float, back_s: float | None
) -> Trial:
    """The trial that `samples` tell of."""
    away = [sample for sample in samples if killed_s <= sample.due_s < started_s or _hit(sample, killed_s)]
    returning = [sample for sample in samples if sample.due_s >= started_s]
    lost = losses(away)
    takers = Counter(sample.said for sample in away if sample.answered and sample.said != target.pop)
    return Trial(
        pop=target.pop,
        city=target.city,
        outage_ms=_ms(longest_gap_s(samples, killed_s, started_s)),
        requests=lost.requests,
        failed_requests=lost.failed_requests,
        failed_after_one_retry=lost.failed_after_one_retry,
        errors=lost.errors,
        taken_over_by=takers.most_common(1)[0][0] if takers else "",
        expected=target.expected,
        back_ms=_ms(back_s - started_s) if back_s is not None else None,
        on_return=losses(returning),
        return_gap_ms=_ms(longest_gap_s(samples, started_s, samples[-1].due_s)),
    )


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 1)


def _hit(sample: Sample, killed_s: float) -> bool:
    """Under way when the PoP was killed."""
    return sample.due_s < killed_s < sample.done_s


def losses(samples: Sequence[Sample]) -> Losses:
    """Count what failed."""
    errors = Counter(sample.first_error for sample in samples if sample.first_error)
    return Losses(
        requests=len(samples),
        failed_requests=errors.total(),
        failed_after_one_retry=sum(bool(sample.retry_error) for sample in samples),
        errors=dict(errors),
    )


def longest_gap_s(samples: Sequence[Sample], from_s: float, to_s: float) -> float:
    """The longest time without an answer that overlaps `from_s`..`to_s`.

    An answer after one retry counts: the user has it. With none at all the gap is the whole window.
    """
    times = sorted(sample.done_s for sample in samples if sample.answered)
    before = max((time_s for time_s in times if time_s < from_s), default=from_s)
    inside = [time_s for time_s in times if from_s <= time_s <= to_s]
    marks = [before, *inside, to_s]
    return max(later - earlier for earlier, later in pairwise(marks))


def result(target: Target, trials: Sequence[Trial], limit_ms: float) -> Result:
    """The verdict over `trials`.

    Raises:
        AtollError: there are none.
    """
    if not trials:
        raise AtollError("no trial was run")
    outages = [trial.outage_ms for trial in trials]
    return Result(
        scenario=SCENARIO,
        pop=target.pop,
        city=target.city,
        rate=target.rate,
        limit_ms=limit_ms,
        trials=tuple(trials),
        outage_ms=Outage(p50=round(median(outages), 1), max=max(outages)),
        failed_requests=sum(trial.failed_requests for trial in trials),
        failed_after_one_retry=sum(trial.failed_after_one_retry for trial in trials),
        ok=max(outages) <= limit_ms
        and all(trial.back_ms is not None and trial.taken_over_by == trial.expected for trial in trials),
    )
