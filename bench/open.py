"""`atoll bench open`: latency at a load that does not wait, with everything else that goes on at an edge.

Requests are due at a fixed rate (`bench.openloop`), as many as keep the worker's core busy for the share that
is asked for. Meanwhile TLS connections begin, readers take their time, and objects are purged. What is
measured is the time from when a request was due to the last byte of its answer.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import msgspec
import uvloop

from atoll.config.purge import Selector
from atoll.errors import AtollError
from atoll.wire import frames
from atoll.wire.messages import EdgeStats, GetEdgeStats, NumberedPurge, PurgeState, PurgeUpdate
from bench import machine, objects, openloop, prefill
from bench.crowd import READ_BYTES, READ_OBJECT, Seen
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.targets import POP, AtollEdge, start_origin

OBJECT_COST: Final = 5_000  # bytes of memory that an object is given room for
PROBE_S: Final = 5.0  # of load, to find out what a request costs
PROBES: Final = 3
PROBE_RATE: Final = 1_500.0
MOST_RATE: Final = 12_000.0  # what the load's core can ask for
CONNECTIONS: Final = 128
_DRAWS: Final = 200_000
_SAMPLE_S: Final = 0.5
_OPEN_S: Final = 120.0  # until all readers are there
_ENOUGH: Final = 0.95  # of them: some are always between two objects
_FILES: Final = 2_000  # open files besides slow readers'


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    objects: int = 1_000_000
    load: float = 0.6
    seconds: float = 60.0
    handshakes: float = 500.0
    readers: int = 10_000
    purges: float = 10.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints. Times count from when a request was due."""

    name: str = "open"
    options: Options
    machine: machine.Machine
    load: float  # of the worker's core, while it was measured
    rate_per_s: float
    answered: int
    failed: int
    latency_us: dict[str, int]
    handshakes: Seen
    handshakes_per_s: float
    readers: Seen
    readers_open: int  # when the measurement began
    purges: int
    purge_ms: float  # the slowest
    stored: int  # objects when the measurement began
    memory_mb: dict[str, float]  # with the objects stored, when it began, at most, and at its end
    gc_longest_ms: float


def run(options: Options, say: Callable[[str], None]) -> Result:
    """Fill, find the rate, measure.

    Raises:
        AtollError: the machine cannot do it, a server did not start, or a body was wrong.
    """
    machine.require()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = options.readers + _FILES
    if hard < needed:
        raise AtollError(f"{options.readers} readers need {needed} open files", f"the limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        folder = stack.enter_context(machine.scratch_folder())
        stack.enter_context(machine.orderly_end())
        stack.enter_context(machine.on_core(LOAD_CORE))
        origin = start_origin(folder)
        stack.callback(origin.stop)
        room = options.objects * OBJECT_COST
        edge = AtollEdge(folder, origin.ports["http"], cache_bytes=room)
        stack.callback(edge.stop)
        control = folder / "run" / POP / "edge-0.sock"
        return _Bench(options, edge, control, folder, say).run()


class _Crowd:
    """A process of `bench.crowd`."""

    def __init__(self, what: str, port: int, number: float, folder: Path) -> None:
        self._log = folder / f"{what}.log"
        argv = [sys.executable, "-m", "bench.crowd", what, str(port), str(number)]
        self._process = machine.start(LOAD_CORE, argv, self._log)
        self._began_s = monotonic()

    def end(self) -> tuple[Seen, float]:
        """What it has seen, and in how many seconds.

        Raises:
            AtollError: it has ended before.
        """
        took_s = monotonic() - self._began_s
        machine.stop(self._process)
        try:
            seen = msgspec.json.decode(self._log.read_text().splitlines()[-1], type=Seen)
        except (IndexError, msgspec.MsgspecError):
            raise AtollError("the crowd has gone", hint=self._log.read_text()[-500:]) from None
        return seen, took_s

    def stop(self) -> None:
        """End it, whatever it has seen."""
        machine.stop(self._process)


class _Bench:
    def __init__(
        self, options: Options, edge: AtollEdge, control: Path, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._options = options
        self._edge = edge
        self._control = control
        self._folder = folder
        self._say = say
        self._purges = 0
        self._purge_ms = 0.0
        self._random = random.Random(1)
        self._most_mb = 0.0

    def run(self) -> Result:
        options = self._options
        self._fill()
        machine.pin(self._edge.pids(), SERVER_CORE)
        objects_mb, stored = self._memory_mb(), self._stats().cache_objects
        with ExitStack() as stack:
            readers = _Crowd("readers", self._edge.http_port, options.readers, self._folder)
            stack.callback(readers.stop)
            self._until_open(options.readers)
            shakers = _Crowd("handshakes", self._edge.https_port, options.handshakes, self._folder)
            stack.callback(shakers.stop)
            rate = self._rate()
            begin_mb, open_now = self._memory_mb(), self._stats().connections
            self._most_mb = begin_mb
            outcome, load = self._measure(rate, options.seconds)
            end_mb = self._memory_mb()
            shaken, took_s = shakers.end()
            read, _ = readers.end()
        memory_mb = {"objects": objects_mb, "begin": begin_mb, "most": self._most_mb, "end": end_mb}
        return Result(
            options=options,
            machine=machine.describe(),
            load=round(load, 3),
            rate_per_s=round(rate, 1),
            answered=outcome.answered,
            failed=outcome.failed,
            latency_us=outcome.percentiles_us(),
            handshakes=shaken,
            handshakes_per_s=round(shaken.done / took_s, 1),
            readers=read,
            readers_open=open_now,
            purges=self._purges,
            purge_ms=round(self._purge_ms, 2),
            stored=stored,
            memory_mb=memory_mb,
            gc_longest_ms=round(self._stats().gc_longest_s * 1000, 1),
        )

    def _fill(self) -> None:
        count, began_s = self._options.objects, monotonic()
        step = max(1, -(-count // 10))
        for first in range(0, count, step):
            last = min(first + step, count)
            prefill.fetch_all(self._edge.http_port, range(first, last))
            self._say(f"{last:,} objects stored, {monotonic() - began_s:.0f} s")
        prefill.fetch_all(self._edge.http_port, [READ_OBJECT], size=READ_BYTES)

    def _until_open(self, count: int) -> None:
        deadline_s = monotonic() + _OPEN_S
        while (now := self._stats().connections) < count * _ENOUGH:
            if monotonic() > deadline_s:
                raise AtollError(f"{now} of {count} readers are there after {_OPEN_S:.0f} s")
            sleep(_SAMPLE_S)
        self._say(f"{now:,} slow readers are there")

    def _rate(self) -> float:
        """How many requests a second keep the worker busy for the share that is asked for."""
        began_s, used_s = monotonic(), self._cpu_s()
        sleep(PROBE_S)
        base = (self._cpu_s() - used_s) / (monotonic() - began_s)
        if base >= self._options.load:
            raise AtollError(f"the worker is busy for {base:.0%} without a request", "fewer --handshakes")
        rate = PROBE_RATE
        for _ in range(PROBES):  # a request costs less the more there are at a time
            _, load = self._measure(rate, PROBE_S)
            each_s = max(1e-6, (load - base) / rate)
            rate = min(MOST_RATE, (self._options.load - base) / each_s)
        self._say(f"{base:.0%} of the core besides, {each_s * 1e6:.1f} µs a request: {rate:,.0f} a second")
        return rate

    def _measure(self, rate: float, seconds: float) -> tuple[openloop.Outcome, float]:
        """What came of it, and the share of its core that the worker was busy."""
        wanted = objects.zipf(self._options.objects, _DRAWS)
        plan = openloop.Plan(
            port=self._edge.http_port,
            requests=[prefill.request(number) for number in wanted],
            rate_per_s=rate,
            duration_s=seconds,
            connections=CONNECTIONS,
            poisson_seed=1,
        )
        began_s, used_s = monotonic(), self._cpu_s()
        outcome = uvloop.run(self._with_purges(plan))
        return outcome, (self._cpu_s() - used_s) / (monotonic() - began_s)

    async def _with_purges(self, plan: openloop.Plan) -> openloop.Outcome:
        behind = asyncio.ensure_future(self._purge_and_look())
        try:
            return await openloop.run(plan)
        finally:
            behind.cancel()
            await asyncio.gather(behind, return_exceptions=True)

    async def _purge_and_look(self) -> None:
        """For ever: purge something that is asked for, and see what memory is taken."""
        while True:
            await asyncio.sleep(1 / self._options.purges)
            self._purges += 1
            number = self._random.randrange(self._options.objects)
            selector = Selector(kind="url", value=f"{objects.HOST}{objects.path(number)}")
            began_s = monotonic()
            update = PurgeUpdate(purges=(NumberedPurge(seq=self._purges, selector=selector),))
            reply = await frames.ask(self._control, update)
            assert isinstance(reply, PurgeState), "a purge is answered with what is applied"
            self._purge_ms = max(self._purge_ms, (monotonic() - began_s) * 1000)
            self._most_mb = max(self._most_mb, self._memory_mb())

    def _cpu_s(self) -> float:
        return sum(machine.cpu_s(pid) for pid in self._edge.pids())

    def _memory_mb(self) -> float:
        """Memory that no file is behind: the cache on disk is the kernel's to keep or to drop."""
        for line in Path(f"/proc/{self._edge.pids()[0]}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return round(int(line.split()[1]) / 1024, 1)
        raise AtollError("the worker has gone")

    def _stats(self) -> EdgeStats:
        reply = asyncio.run(frames.ask(self._control, GetEdgeStats()))
        assert isinstance(reply, EdgeStats), "that is what was asked for"
        return reply


def table(result: Result) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows."""
    rows: list[tuple[str, ...]] = [
        ("requests/s, due", f"{result.rate_per_s:,.0f}"),
        ("load of the core", f"{result.load:.0%}"),
        ("answered; failed", f"{result.answered:,}; {result.failed}"),
        *((name, f"{value / 1000:.2f} ms") for name, value in result.latency_us.items()),
        ("TLS connections/s", f"{result.handshakes_per_s:.0f}, {result.handshakes.failed} failed"),
        ("slow readers", f"{result.readers_open:,} connections, {result.readers.failed} failed"),
        ("purges", f"{result.purges}, {result.purge_ms:.1f} ms at most"),
        ("objects stored", f"{result.stored:,}"),
        *((f"memory, {name}", f"{value:,.0f} MB") for name, value in result.memory_mb.items()),
        ("garbage collection", f"{result.gc_longest_ms:.1f} ms at most"),
    ]
    return ("", "measured"), rows
