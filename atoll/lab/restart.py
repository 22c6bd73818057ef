"""What users notice when a PoP's processes go on as the code on disk: restart them under load, repeatedly.

Every request counts at its first try: nothing is asked twice. Beside them WebSockets are open from before the
restart until after it, and downloads and event streams all the time, one after the other on slow machines;
all of it has to be whole, byte for byte. The PoP's routes must not move.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.lab.h2_prober import H2Prober
from atoll.lab.lasting_clients import Holder, Lasted
from atoll.lab.prober import Prober, Sample
from atoll.wire import frames
from atoll.wire.messages import CatchmentTable, GetCatchment

SCENARIO: Final = "restart"
WARM_UP_S: Final = 0.5
WATCH_S: Final = 1.0  # load after the restart
PAUSE_MS: Final = 50  # between two pieces of what takes long
HELD: Final = 4  # downloads, event streams, WebSockets: of each
_KEPT, _ANEW = 0.5, 0.25  # shares of the rate: on kept connections, on new ones; the rest over HTTP/2

Act = Callable[[], Awaitable[float]]
"""Restarts what is to be restarted; how many milliseconds that took."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Whose processes are restarted, and what is asked of it."""

    pop: str
    http: tuple[str, int]
    https: tuple[str, int]
    host: str
    path: str
    rate: float
    held_s: float  # how long downloads and event streams take
    internet: Path  # the emulated Internet's socket


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One restart."""

    pop: str
    requests: int
    failed_requests: int
    errors: dict[str, int]  # by kind of connection and what was wrong
    downloads: int
    broken_downloads: int
    events: int
    broken_events: int
    websockets: int
    broken_websockets: int
    faults: tuple[str, ...]  # what broke them
    longest_gap_ms: float  # between two answers to whatever was asked
    slowest_ms: float  # from when a request was due to its answer
    longest_silence_ms: float  # on something that was open
    routes_moved: int
    restart_ms: float

    @property
    def whole(self) -> bool:
        """Nobody has noticed."""
        broken = self.broken_downloads + self.broken_events + self.broken_websockets
        return not (self.failed_requests or broken or self.routes_moved)


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run prints."""

    scenario: str
    pop: str
    rate: float
    trials: tuple[Trial, ...]
    requests: int
    failed_requests: int
    broken_downloads: int
    broken_events: int
    broken_websockets: int
    routes_moved: int
    longest_gap_ms: float
    slowest_ms: float
    restart_ms: float  # the longest
    ok: bool


async def run_trial(target: Target, act: Act) -> Trial:
    """Load, restart, watch."""
    kept = Prober(target.http, target.host, target.path, target.rate * _KEPT)
    anew = Prober(target.http, target.host, target.path, target.rate * _ANEW, anew=True)
    h2 = H2Prober(target.https, target.host, target.path, target.rate * (1 - _KEPT - _ANEW))
    holder = Holder(target.http, target.host)
    before = await _events(target)
    kept.start()
    anew.start()
    await h2.start()
    try:
        await asyncio.sleep(WARM_UP_S)
        pieces = round(target.held_s * 1000 / PAUSE_MS)
        await holder.start(HELD, HELD, HELD, pieces, PAUSE_MS)
        restart_ms = await act()
        await asyncio.sleep(WATCH_S)
    finally:
        await asyncio.gather(kept.stop(), anew.stop(), h2.stop(), holder.stop())
    moved = moves(target.pop, before, await _events(target))
    samples = {"kept": kept.samples, "new": anew.samples, "h2": h2.samples}
    return judge(target.pop, samples, holder.lasted, restart_ms, moved)


async def _events(target: Target) -> tuple[str, ...]:
    try:
        reply = await frames.ask(target.internet, GetCatchment())
    except OSError as error:
        raise AtollError("the emulated Internet does not answer", "see `atoll logs gateway`") from error
    return reply.events if isinstance(reply, CatchmentTable) else ()


def moves(pop: str, before: Sequence[str], after: Sequence[str]) -> int:
    """How often routes to `pop` changed between two looks at the Internet's journal."""
    known = set(before)
    said = [line.partition(" ")[2] for line in after if line not in known]
    return sum(text.startswith(pop) and "are kept" not in text for text in said)


def judge(
    pop: str, samples: dict[str, list[Sample]], lasted: Sequence[Lasted], restart_ms: float, moved: int
) -> Trial:
    """The trial that samples and what lasted tell of."""
    everything = [sample for kind in samples.values() for sample in kind]
    errors = Counter(
        f"{kind}: {sample.first_error}"
        for kind, found in samples.items()
        for sample in found
        if sample.first_error
    )
    answered = [sample for sample in everything if not sample.first_error]
    broken = Counter(one.kind for one in lasted if one.error)
    return Trial(
        pop=pop,
        requests=len(everything),
        failed_requests=errors.total(),
        errors=dict(errors),
        downloads=sum(one.times for one in lasted if one.kind == "download"),
        broken_downloads=broken["download"],
        events=sum(one.times for one in lasted if one.kind == "events"),
        broken_events=broken["events"],
        websockets=sum(one.kind == "websocket" for one in lasted),
        broken_websockets=broken["websocket"],
        faults=tuple(f"{one.kind} after {one.got}: {one.error}" for one in lasted if one.error),
        longest_gap_ms=_ms(longest_gap_s([sample.done_s for sample in answered])),
        slowest_ms=_ms(max((sample.done_s - sample.due_s for sample in answered), default=0.0)),
        longest_silence_ms=_ms(max((one.longest_s for one in lasted), default=0.0)),
        routes_moved=moved,
        restart_ms=round(restart_ms, 1),
    )


def longest_gap_s(times_s: Sequence[float]) -> float:
    """The longest time without an answer.

    >>> longest_gap_s([1.0, 4.0, 2.5])
    1.5
    """
    return max((later - earlier for earlier, later in pairwise(sorted(times_s))), default=0.0)


def _ms(duration_s: float) -> float:
    return round(duration_s * 1000, 1)


def result(target: Target, trials: Sequence[Trial]) -> Result:
    """The verdict over `trials`.

    Raises:
        AtollError: there are none.
    """
    if not trials:
        raise AtollError("no trial was run")
    return Result(
        scenario=SCENARIO,
        pop=target.pop,
        rate=target.rate,
        trials=tuple(trials),
        requests=sum(trial.requests for trial in trials),
        failed_requests=sum(trial.failed_requests for trial in trials),
        broken_downloads=sum(trial.broken_downloads for trial in trials),
        broken_events=sum(trial.broken_events for trial in trials),
        broken_websockets=sum(trial.broken_websockets for trial in trials),
        routes_moved=sum(trial.routes_moved for trial in trials),
        longest_gap_ms=max(trial.longest_gap_ms for trial in trials),
        slowest_ms=max(trial.slowest_ms for trial in trials),
        restart_ms=max(trial.restart_ms for trial in trials),
        ok=all(trial.whole for trial in trials),
    )
