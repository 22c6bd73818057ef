"""Users at every PoP who check every answer: is it the object, byte for byte, and is it new enough?

They ask at a steady rate, whatever became of the requests before. An object is new enough when its version is
not older than the last one whose purge had been acknowledged when the question was put. How many answers were
old, wrong or missing is counted in the tally of the time at which they were asked for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from atoll.lab.content import check
from atoll.lab.reader import Got, Reader
from atoll.lab.scene import Scene

MOST_UNDER_WAY: Final = 256
"""Requests of one PoP's users at a time; one that is due meanwhile is left out, and counted."""

MOST_EVIDENCE: Final = 20
MOST_FAILURES: Final = 10_000

Choose = Callable[[str], str]
"""The path that a user of a PoP asks for next."""

Excused = Callable[[str, str], bool]
"""Whether a PoP promises nothing about a path just now."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that should not have been."""

    what: str  # stale | wrong
    pop: str
    path: str
    version: int | None
    wanted: int  # at least
    since_ack_ms: float  # of the question
    took_ms: float
    status: int
    cache_status: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A request whose first try failed. Times are monotonic seconds."""

    pop: str
    path: str
    began_s: float
    failed_s: float
    error: str
    unanswered: bool  # no later try succeeded either


class Tally:
    """What came of the requests of some time."""

    def __init__(self) -> None:
        self.requests = 0
        self.checked = 0  # answers for which there had been an acknowledged purge
        self.stale = 0
        self.excused = 0  # old answers where nothing better is promised
        self.wrong = 0
        self.held_back = 0
        self.errors: Counter[str] = Counter()  # of first tries
        self.retry_errors: Counter[str] = Counter()  # of last tries: these users have no answer
        self.evidence: list[Evidence] = []
        self.failures: list[Failure] = []

    def add(self, other: Tally) -> None:
        """Count everything that `other` has counted."""
        self.requests += other.requests
        self.checked += other.checked
        self.stale += other.stale
        self.excused += other.excused
        self.wrong += other.wrong
        self.held_back += other.held_back
        self.errors += other.errors
        self.retry_errors += other.retry_errors
        self.evidence += other.evidence[: MOST_EVIDENCE - len(self.evidence)]
        self.failures += other.failures[: MOST_FAILURES - len(self.failures)]


class Ledger:
    """Which version of each path has been acknowledged last, and when."""

    def __init__(self) -> None:
        self._floors: dict[str, tuple[int, float]] = {}

    def acknowledged(self, versions: Iterable[tuple[str, int]], now_s: float) -> None:
        """Purges of these versions' predecessors have been acknowledged, at the monotonic time `now_s`."""
        for path, version in versions:
            if version > self.floor(path)[0]:
                self._floors[path] = (version, now_s)

    def floor(self, path: str) -> tuple[int, float]:
        """The oldest version of `path` that may still be served, and since when."""
        return self._floors.get(path, (0, 0.0))


class Watch:
    """Users at every PoP of a scene; `tally` counts what is asked from now on, and may be replaced."""

    def __init__(
        self, scene: Scene, ledger: Ledger, choose: Choose, excused: Excused, *, tries: int = 1
    ) -> None:
        self._scene = scene
        self._ledger = ledger
        self._choose = choose
        self._excused = excused
        self._tries = tries
        self._loop = asyncio.get_running_loop()
        self._readers = {pop: Reader(scene.gateway, scene.host_at(pop)) for pop in scene.cities}
        self._under_way = dict.fromkeys(scene.cities, 0)
        self._tasks: set[asyncio.Task[None]] = set()
        self._askers: list[asyncio.Task[None]] = []
        self.tally = Tally()
        self.on_answer: Callable[[str, str, Got], None] | None = None

    def start(self, rate: float) -> None:
        """Ask `rate` times a second at each PoP."""
        self._askers = [self._loop.create_task(self._ask_steadily(pop, rate)) for pop in self._readers]

    async def stop(self) -> None:
        """Ask no more; returns when everything has been answered or given up."""
        for asker in self._askers:
            asker.cancel()
        await asyncio.gather(*self._askers, return_exceptions=True)
        await asyncio.gather(*self._tasks)
        for reader in self._readers.values():
            reader.close()

    async def _ask_steadily(self, pop: str, rate: float) -> None:
        due_s = self._loop.time()
        while True:
            self._ask(pop)
            due_s += 1 / rate
            wait_s = due_s - self._loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            elif wait_s < -1:  # this machine cannot do it: no bursts afterwards
                due_s = self._loop.time()
                await asyncio.sleep(0)

    def _ask(self, pop: str) -> None:
        if self._under_way[pop] >= MOST_UNDER_WAY:
            self.tally.held_back += 1
            return
        self._under_way[pop] += 1
        task = self._loop.create_task(self._one(pop, self._choose(pop), self.tally))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _one(self, pop: str, path: str, tally: Tally) -> None:
        tally.requests += 1
        floor = self._ledger.floor(path)
        excused = self._excused(pop, path)
        try:
            found = await self._readers[pop].get_again(path, tries=self._tries)
        finally:
            self._under_way[pop] -= 1
        first, got = found[0], found[-1]
        if first.error:
            self._failed(tally, pop, path, first, first.error, unanswered=bool(got.error))
        if got.error:
            tally.retry_errors[got.error] += 1
            return
        if self.on_answer is not None:
            self.on_answer(pop, path, got)
        self.judge(tally, pop, path, got, floor, excused)

    def _failed(self, tally: Tally, pop: str, path: str, got: Got, error: str, *, unanswered: bool) -> None:
        tally.errors[error] += 1
        if len(tally.failures) < MOST_FAILURES:
            tally.failures.append(
                Failure(
                    pop=pop,
                    path=path,
                    began_s=got.began_s,
                    failed_s=got.done_s,
                    error=error,
                    unanswered=unanswered,
                )
            )

    def judge(
        self, tally: Tally, pop: str, path: str, got: Got, floor: tuple[int, float], excused: bool
    ) -> None:
        """Count an answer; `floor` is the ledger's, when it was asked for."""
        oldest, acked_s = floor
        if got.status >= 500:
            error = f"status {got.status}"
            self._failed(tally, pop, path, got, error, unanswered=True)
            tally.retry_errors[error] += 1
            return
        version = check(path, got.body) if got.status == 200 else None
        tally.checked += oldest > 0
        if version is not None and version >= oldest:
            return
        if version is not None and excused:
            tally.excused += 1
            return
        what = "wrong" if version is None else "stale"
        tally.wrong += version is None
        tally.stale += version is not None
        if len(tally.evidence) < MOST_EVIDENCE:
            tally.evidence.append(
                Evidence(
                    what=what,
                    pop=pop,
                    path=path,
                    version=version,
                    wanted=oldest,
                    since_ack_ms=round((got.began_s - acked_s) * 1000, 1),
                    took_ms=round(got.took_ms, 1),
                    status=got.status,
                    cache_status=got.text(b"cache-status"),
                )
            )
