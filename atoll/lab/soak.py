"""Does a worker stay as it was? Mixed load for a long time, and what the worker takes meanwhile.

One PoP's worker gets a share of what it can do: its CPU time for a request of the mix is measured first, and
the load is so many requests a second that it is busy for that share of the time, corrected during the first
minutes. Requests are due at a fixed
rate, whatever became of those before, and their latency counts from when they were due.

Memory that the cache fills is meant to grow until the cache is full, which ends the warm-up. What may not
grow after that is anonymous memory, each minute's least; in a run too short to fill the cache, what there is
besides it is judged.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.lab import soak_fit
from atoll.lab.histogram import Histogram
from atoll.lab.lab_origin import EVERYTHING
from atoll.lab.scene import OriginControl
from atoll.lab.soak_mix import ANSWERS, Mix, Place
from atoll.lab.watch import Ledger
from atoll.node.process import usage
from atoll.wire import frames
from atoll.wire.messages import EdgeStats, GetEdgeStats

SCENARIO: Final = "soak"
CALIBRATION_S: Final = 5.0
CALIBRATION_RATE: Final = 100.0
CALIBRATIONS: Final = 4
SAMPLE_S: Final = 2.0
INTERVAL_S: Final = 10.0
PURGE_S: Final = 1.0
SLOW_READERS: Final = 4
WARM_UP_SHARE: Final = 0.2
STEER_S: Final = 15.0
STEP: Final = 1.25
HELD_BACK: Final = 0.05  # of all requests that are due: whoever asks cannot ask for more
FULL: Final = 0.97  # of the most that a cache holds
MOST_UNDER_WAY: Final = 128
GROWTH_MB_H: Final = 8.0  # of memory besides the cache, above which the verdict is bad
DRIFT: Final = 1.5  # of the p99, above which it is

_LEAST_SLOPE_S: Final = 300.0  # a slope over less says nothing
_MB: Final = 1_000_000


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """The worker at one time."""

    at_s: float  # since the load began
    heap_mb: float  # anonymous memory: files that are mapped, the disk's index among them, are the kernel's
    cache_mb: float  # what the store says it holds in memory
    cpu_s: float
    descriptors: int
    connections: int
    gc_s: float  # spent in garbage collections so far


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that were due in some seconds."""

    at_s: float
    requests: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    errors: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run prints. `ok`: no error, no growth, no drift."""

    scenario: str
    pop: str
    minutes: float
    wanted_load: float
    load: float  # that the worker had: CPU seconds per second
    cpu_us_per_request: float  # as calibrated
    rate: float  # requests a second that were due in the end
    requests: int
    held_back: int  # due, but too many were under way
    purges: int
    latency_ms: dict[str, float]
    p99_drift: float | None  # the last third's p99 as a multiple of the first's
    full_after_s: float | None  # until the cache held what it can; None if it never did
    growth_mb_h: float | None  # of memory from then on, or besides what the cache holds
    gc_share: float  # of the time
    gc_longest_ms: float
    descriptors: tuple[int, int]  # at the warm-up's end, and the highest
    errors: dict[str, int]
    samples: tuple[Sample, ...]
    intervals: tuple[Interval, ...]
    complaints: tuple[str, ...]
    ok: bool


class Worker(msgspec.Struct, frozen=True):
    """The worker under load."""

    pop: str
    pid: int
    control: Path  # its socket


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    seconds: float
    load: float
    seed: int = 1


PurgeTag = Callable[[str], None]
"""Blocking; raises AtollError when it cannot be done."""


async def run(
    place: Place,
    worker: Worker,
    origin: tuple[str, int],
    plan: Plan,
    purge_tag: PurgeTag,
    progress: Callable[[Sample], None],
) -> Result:
    """Carry a plan out.

    Raises:
        AtollError: the worker ended, or nothing could be measured.
    """
    control = OriginControl(origin)
    ledger = Ledger()
    mix = Mix(place, ledger, plan.seed)
    try:
        await control.reset()
        await control.answers(ANSWERS)
        await asyncio.to_thread(purge_tag, EVERYTHING)  # what was stored before is not ours
        soak = _Soak(worker, mix, plan, _Purger(control, mix, ledger, purge_tag))
        return await soak.run(progress)
    finally:
        mix.close()
        control.close()


class _Purger:
    """New versions and their purges, one after the other."""

    def __init__(self, control: OriginControl, mix: Mix, ledger: Ledger, purge_tag: PurgeTag) -> None:
        self._control = control
        self._mix = mix
        self._ledger = ledger
        self._purge_tag = purge_tag
        self.done = 0

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(PURGE_S)
            paths = self._mix.purgeable()
            versions = await self._control.bump(paths)
            await asyncio.to_thread(self._purge_tag, f"lab-{paths[0].rpartition('/')[2]}")
            self._ledger.acknowledged(versions.items(), monotonic())
            self.done += 1


class _Load:
    """Requests at a steady rate, and what became of them."""

    def __init__(self, mix: Mix) -> None:
        self._mix = mix
        self._tasks: set[asyncio.Task[None]] = set()
        self.errors: Counter[str] = Counter()
        self.rate = 0.0  # requests a second that are due
        self.requests = 0
        self.held_back = 0
        self.whole_us = Histogram()
        self.interval_us = Histogram()
        self.interval_errors = 0

    async def run(self, rate: float, seconds: float) -> None:
        """Ask `rate` times a second for so long, and wait for the answers. It may be changed meanwhile."""
        self.rate = rate
        began_s = monotonic()
        due_s = began_s
        while due_s - began_s < seconds:
            wait_s = due_s - monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            self._ask(due_s)
            due_s += 1 / self.rate
        await asyncio.gather(*self._tasks)

    def _ask(self, due_s: float) -> None:
        if len(self._tasks) >= MOST_UNDER_WAY:
            self.held_back += 1
            return
        self.requests += 1
        task = asyncio.get_running_loop().create_task(self._one(self._mix.choose(), due_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, kind: str, due_s: float) -> None:
        error = await self._mix.ask(kind)
        took_us = round((monotonic() - due_s) * 1_000_000)
        self.whole_us.record(took_us)
        self.interval_us.record(took_us)
        if error:
            self.errors[f"{kind}: {error}"] += 1
            self.interval_errors += 1

    async def read_slowly(self) -> None:
        """One slow reader after the other."""
        while True:
            try:
                error = await self._mix.read_slowly()
            except (OSError, asyncio.IncompleteReadError) as failure:
                error = type(failure).__name__
                await asyncio.sleep(1.0)
            if error:
                self.errors[f"slow reader: {error}"] += 1

    def interval(self, at_s: float) -> Interval:
        """What has become of requests since the last one."""
        found, self.interval_us = self.interval_us, Histogram()
        errors, self.interval_errors = self.interval_errors, 0
        return Interval(
            at_s=round(at_s, 1),
            requests=found.count,
            p50_ms=found.percentile(50) / 1000,
            p99_ms=found.percentile(99) / 1000,
            p999_ms=found.percentile(99.9) / 1000,
            errors=errors,
        )


class _Soak:
    def __init__(self, worker: Worker, mix: Mix, plan: Plan, purger: _Purger) -> None:
        self._worker = worker
        self._mix = mix
        self._plan = plan
        self._purger = purger
        self._samples: list[Sample] = []
        self._intervals: list[Interval] = []
        self._gc_longest_s = 0.0

    async def run(self, progress: Callable[[Sample], None]) -> Result:
        cpu_s = await self._calibrate()
        rate = self._plan.load / cpu_s
        load = _Load(self._mix)
        behind = [asyncio.ensure_future(self._purger.run())]
        behind += [asyncio.ensure_future(load.read_slowly()) for _ in range(SLOW_READERS)]
        behind.append(asyncio.ensure_future(self._look(load, progress)))
        asking = asyncio.ensure_future(load.run(rate, self._plan.seconds))
        try:
            # Who watches never ends by himself: if one does, something is wrong.
            done, _ = await asyncio.wait((asking, *behind), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (asking, *behind):
                task.cancel()
            await asyncio.gather(asking, *behind, return_exceptions=True)
        return self._result(load, cpu_s)

    async def _calibrate(self) -> float:
        """CPU seconds of the worker for a request of the mix, at about the rate that follows from it.

        A worker with little to do takes more for each: it sleeps and wakes for every one.
        """
        rate = CALIBRATION_RATE
        for _ in range(CALIBRATIONS):
            cpu_s = await self._cpu_of_one(rate)
            rate = self._plan.load / cpu_s
        return cpu_s

    async def _cpu_of_one(self, rate: float) -> float:
        load = _Load(self._mix)
        before = usage(self._worker.pid).cpu_s
        await load.run(rate, CALIBRATION_S)
        took_s = usage(self._worker.pid).cpu_s - before
        if not load.requests or took_s <= 0:
            raise AtollError("the worker has done nothing", f"is {self._worker.pop}/edge-0 up?")
        if load.errors:
            raise AtollError(f"the load is not answered as it should be: {dict(load.errors)}")
        return took_s / load.requests

    async def _look(self, load: _Load, progress: Callable[[Sample], None]) -> None:
        began_s = monotonic()
        closed_s = steered_s = 0.0
        before = (0, 0)  # held back, asked
        while True:
            at_s = monotonic() - began_s
            self._samples.append(await self._sample(at_s))
            progress(self._samples[-1])
            if at_s < WARM_UP_SHARE * self._plan.seconds and at_s - steered_s >= STEER_S:
                held, due = load.held_back - before[0], load.held_back + load.requests - sum(before)
                share = held / due if due else 0.0
                load.rate = steered(load.rate, self._plan.load, self._samples, steered_s, share)
                steered_s, before = at_s, (load.held_back, load.requests)
            if at_s - closed_s >= INTERVAL_S:
                self._intervals.append(load.interval(at_s))
                closed_s = at_s
            await asyncio.sleep(SAMPLE_S)

    async def _sample(self, at_s: float) -> Sample:
        try:
            heap = _anonymous(self._worker.pid)
            stats = await frames.ask(self._worker.control, GetEdgeStats())
            descriptors = len(os.listdir(f"/proc/{self._worker.pid}/fd"))
        except OSError as error:
            raise AtollError(
                f"the worker is gone: {error}", f"see its log: {self._worker.pop}-edge-0"
            ) from error
        assert isinstance(stats, EdgeStats), "that is what was asked for"
        self._gc_longest_s = stats.gc_longest_s
        return Sample(
            at_s=round(at_s, 2),
            heap_mb=round(heap / _MB, 2),
            cache_mb=round(stats.cache_bytes / _MB, 2),
            cpu_s=round(usage(self._worker.pid).cpu_s, 2),
            descriptors=descriptors,
            connections=stats.connections,
            gc_s=round(stats.gc_s, 4),
        )

    def _result(self, load: _Load, cpu_s: float) -> Result:
        whole = load.whole_us
        return judge(
            self._plan,
            self._samples,
            self._intervals,
            Facts(
                pop=self._worker.pop,
                rate=round(load.rate, 1),
                cpu_us_per_request=round(cpu_s * 1e6, 1),
                requests=load.requests,
                held_back=load.held_back,
                purges=self._purger.done,
                gc_longest_ms=round(self._gc_longest_s * 1000, 2),
                errors=dict(load.errors),
                latency_ms={f"p{p:g}": whole.percentile(p) / 1000 for p in (50.0, 99.0, 99.9)}
                | {"max": whole.max / 1000},
            ),
        )


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted besides samples and intervals."""

    pop: str
    rate: float
    cpu_us_per_request: float
    requests: int
    held_back: int
    purges: int
    gc_longest_ms: float
    errors: dict[str, int]
    latency_ms: dict[str, float]


def steered(
    rate: float, wanted_load: float, samples: Sequence[Sample], since_s: float, held_back: float = 0.0
) -> float:
    """The rate that brings the worker nearer to what is wanted, given what it took `since_s`; by steps.

    What a request costs changes while caches fill, and with how many come at a time. Where a notable share
    of the requests was `held_back` since, more of them would only be held back as well.
    """
    recent = [sample for sample in samples if sample.at_s >= since_s]
    elapsed_s = recent[-1].at_s - recent[0].at_s if recent else 0.0
    load = (recent[-1].cpu_s - recent[0].cpu_s) / elapsed_s if elapsed_s else 0.0
    if load <= 0:
        return rate
    step = min(STEP, max(1 / STEP, wanted_load / load))
    return rate * (min(1.0, step) if held_back > HELD_BACK else step)


def judge(plan: Plan, samples: Sequence[Sample], intervals: Sequence[Interval], facts: Facts) -> Result:
    """The verdict.

    Raises:
        AtollError: there are too few samples for one.
    """
    if len(samples) < 2:
        raise AtollError("too short to say anything", "more --minutes")
    full_s = _full_s(samples)
    from_s = max(plan.seconds * WARM_UP_SHARE, full_s or 0.0)
    warm = [sample for sample in samples if sample.at_s >= from_s] or list(samples[-1:])
    steady = [interval for interval in intervals if interval.at_s >= from_s]
    first, last = samples[0], samples[-1]
    elapsed_s = last.at_s - first.at_s
    long_enough = warm[-1].at_s - warm[0].at_s >= _LEAST_SLOPE_S
    besides = 0.0 if full_s is not None else 1.0  # how much of what the cache holds is left aside
    growth = soak_fit.slope(soak_fit.floors([(s.at_s, s.heap_mb - besides * s.cache_mb) for s in warm]))
    growth = growth * 3600 if growth is not None else None
    p99_drift = soak_fit.drift([interval.p99_ms for interval in steady])
    complaints = list(_complaints(facts, growth if long_enough else None, p99_drift))
    return Result(
        scenario=SCENARIO,
        pop=facts.pop,
        minutes=round(elapsed_s / 60, 2),
        wanted_load=plan.load,
        load=round((last.cpu_s - first.cpu_s) / elapsed_s, 3),
        cpu_us_per_request=facts.cpu_us_per_request,
        rate=facts.rate,
        requests=facts.requests,
        held_back=facts.held_back,
        purges=facts.purges,
        latency_ms=facts.latency_ms,
        p99_drift=_rounded(p99_drift),
        full_after_s=full_s,
        growth_mb_h=_rounded(growth),
        gc_share=round((last.gc_s - first.gc_s) / elapsed_s, 5),
        gc_longest_ms=facts.gc_longest_ms,
        descriptors=(warm[0].descriptors, max(sample.descriptors for sample in samples)),
        errors=facts.errors,
        samples=tuple(samples),
        intervals=tuple(intervals),
        complaints=tuple(complaints),
        ok=not complaints,
    )


def _full_s(samples: Sequence[Sample]) -> float | None:
    """When the cache had nearly all that it holds in the end; None if that was too late to tell."""
    enough = FULL * max(sample.cache_mb for sample in samples)
    at_s = next(sample.at_s for sample in samples if sample.cache_mb >= enough)
    return at_s if at_s <= samples[-1].at_s / 2 else None


def _complaints(facts: Facts, growth_mb_h: float | None, p99_drift: float | None) -> list[str]:
    found = [f"{count} times {error}" for error, count in facts.errors.items()]
    if growth_mb_h is not None and growth_mb_h > GROWTH_MB_H:
        found.append(f"memory grows by {growth_mb_h:.1f} MB an hour")
    if p99_drift is not None and p99_drift > DRIFT:
        found.append(f"the p99 has become {p99_drift:.2f} times what it was")
    return found


def _anonymous(pid: int) -> int:
    """Bytes of memory that no file is behind.

    Raises:
        OSError: the process is gone, or this is not Linux.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"no process {pid}")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
