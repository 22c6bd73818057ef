"""Does a cache that is killed serve wrong bytes? Parts of the network are killed, one after the other.

Users at every PoP ask for small objects and for large ones that go to the disk as they arrive; versions
change and are purged all the time. Every body is checked byte for byte. Parts are killed with SIGKILL in an
order that the seed decides: edge workers, and those in the middle of storing something large; agents;
supervisors, whose PoP dies with them; NATS. After each the network has to become whole by itself.

Requests that a killed process was answering are lost with it, for users of other PoPs too if it was the
shield that passed a body on; and so are those that a route change moves to another PoP. They are counted as
that. Any other failure is counted as unexplained.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, Literal

import msgspec

from atoll.errors import AtollError
from atoll.lab.lab_origin import EVERYTHING, Answer
from atoll.lab.reader import Reader
from atoll.lab.rollout import Spread, spread
from atoll.lab.scene import OriginControl, Scene
from atoll.lab.watch import Evidence, Failure, Ledger, Tally, Watch

SCENARIO: Final = "kills"
TRIES: Final = 4
WARM_UP_S: Final = 2.0
SETTLE_S: Final = 0.5  # of load between two kills
LARGE: Final = 3 * 1024 * 1024
"""Bytes of what goes to the disk in blocks while it arrives."""

Kind = Literal["writer", "worker", "agent", "supervisor", "nats"]
SHARES: Final[dict[Kind, int]] = {"writer": 30, "worker": 30, "agent": 15, "supervisor": 15, "nats": 10}
"""Of a hundred kills."""

_HOT: Final = 20
_MEDIUM: Final = 10
_KEPT: Final = 8  # large objects that users ask for at a time
_WRITERS: Final = 3  # large objects that are being stored when a writer is killed
_MID_WRITE_S: Final = 0.15
_PURGE_PAUSE_S: Final = 0.7
_MOST_SHOWN: Final = 50
_ROOTS: Final = ("/strict/kills", "/plain/kills")
_ANSWERS: Final = tuple(
    Answer(prefix=f"{root}/{kind}/", size=size, spread_ms=spread_ms)
    for root in _ROOTS
    for kind, size, spread_ms in (
        ("hot", 2048, 0),
        ("medium", 200_000, 20),
        ("large", LARGE, 300),
        ("once", 1024, 0),
    )
)

Cause = Literal["its own", "through it", "moved", "unexplained"]
"""Under way in what was killed; under way at another PoP when its shield was; of a PoP whose users were sent
elsewhere and back; none of these."""

CAUSES: Final[tuple[Cause, ...]] = ("its own", "through it", "moved", "unexplained")


class Target(msgspec.Struct, frozen=True):
    """What is killed. `pop` is empty where nobody's users are concerned."""

    kind: Kind
    pop: str
    process: str  # "lhr/edge-0"


class Kill(msgspec.Struct, frozen=True, kw_only=True):
    """One kill, and what users saw until the next."""

    kind: Kind
    process: str
    whole_ms: float  # until nothing was wrong with the network
    cut_off: int  # large objects that were being stored, and whose readers saw it
    requests: int
    wrong: int
    stale: int
    failed: dict[str, int]  # first tries that failed, by cause
    errors: dict[str, int]  # the same, by what happened
    unanswered: int  # after all tries


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run prints. `ok`: no wrong or stale byte, nobody without an answer, nothing unexplained."""

    scenario: str
    rate: float
    seed: int
    kills: tuple[Kill, ...]
    whole_ms: dict[str, Spread]  # by kind
    requests: int
    wrong: int
    stale: int
    failed: dict[str, int]  # by cause
    unanswered: int
    purges: int  # acknowledged
    purges_refused: int  # while NATS or the API was away
    evidence: tuple[Evidence, ...]
    unexplained: tuple[Failure, ...]
    ok: bool


class Network(msgspec.Struct, frozen=True):
    """What the experiment does to the network; all blocking."""

    kill: Callable[[str], int]  # the process id that is killed
    until_whole: Callable[[Target, int], None]  # and that one replaced; its PoP's falls are forgiven
    purge_tag: Callable[[str], None]  # raises AtollError when it cannot be done


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    kills: int
    rate: float
    seed: int = 1
    kinds: tuple[Kind, ...] = tuple(SHARES)


def targets(plan: Plan, pops: Sequence[str]) -> list[Target]:
    """What is killed, in its order: kinds in their shares, PoPs by chance."""
    generator = random.Random(plan.seed)  # noqa: S311 - an order, not a secret
    kinds = [kind for kind in plan.kinds for _ in range(SHARES[kind])]
    chosen: list[Kind] = []
    while len(chosen) < plan.kills:
        generator.shuffle(kinds)
        chosen += kinds
    found: list[Target] = []
    for kind in chosen[: plan.kills]:
        pop = "" if kind == "nats" else generator.choice(pops)
        name = {
            "writer": f"{pop}/edge-0",
            "worker": f"{pop}/{generator.choice(('edge-0', 'edge-0', 'edge-h3'))}",
            "agent": f"{pop}/agent",
            "supervisor": f"{pop}/supervisor",
            "nats": "nats",
        }[kind]
        found.append(Target(kind, pop, name))
    return found


def cause_of(failure: Failure, target: Target, dead_s: float, shield: str) -> Cause:
    """Why a request failed after `target` was killed, which was dead at `dead_s` at the latest."""
    if not target.process.endswith(("/edge-0", "/supervisor")) or failure.error.startswith("status"):
        return "unexplained"  # it carries nobody's requests, or whoever answered is not dead
    under_way = failure.began_s <= dead_s
    if failure.pop == target.pop:
        return "its own" if under_way else "moved"
    return "through it" if under_way and target.pop == shield else "unexplained"


async def run(scene: Scene, network: Network, plan: Plan, progress: Callable[[Kill], None]) -> Result:
    """Carry a plan out.

    Raises:
        AtollError: the network did not become whole again.
    """
    control = OriginControl(scene.origin)
    try:
        await control.reset()
        await control.answers(_ANSWERS)
        await asyncio.to_thread(network.purge_tag, EVERYTHING)  # what was stored before is not ours
        return await _Experiment(scene, network, plan, control).run(progress)
    finally:
        control.close()


class _Experiment:
    def __init__(self, scene: Scene, network: Network, plan: Plan, control: OriginControl) -> None:
        self._scene = scene
        self._network = network
        self._plan = plan
        self._control = control
        self._random = random.Random(plan.seed)  # noqa: S311 - a load, not a secret
        self._ledger = Ledger()
        self._watch = Watch(scene, self._ledger, self._choose, _promised, tries=TRIES)
        self._began_s = monotonic()
        self._number = 0
        self._kills: list[Kill] = []
        self._whole = Tally()
        self._unexplained: list[Failure] = []
        self._purges = 0
        self._refused = 0

    def _choose(self, _pop: str) -> str:
        """Mostly what is stored, some of it never asked for before, and sometimes something large."""
        root = self._random.choice(_ROOTS)
        dice = self._random.random()
        if dice < 0.6:
            return f"{root}/hot/{self._random.randrange(_HOT)}"
        if dice < 0.85:
            self._number += 1
            return f"{root}/once/{self._number}"
        if dice < 0.97:
            return f"{root}/medium/{self._random.randrange(_MEDIUM)}"
        newest = int(monotonic() - self._began_s)
        return f"{root}/large/{max(0, newest - self._random.randrange(_KEPT))}"

    async def run(self, progress: Callable[[Kill], None]) -> Result:
        """Every kill."""
        self._watch.start(self._plan.rate)
        purging = asyncio.ensure_future(self._purge_all_the_time())
        try:
            await asyncio.sleep(WARM_UP_S)
            for number, target in enumerate(targets(self._plan, tuple(self._scene.cities))):
                self._kills.append(await self._kill(number, target))
                progress(self._kills[-1])
        finally:
            purging.cancel()
            await asyncio.gather(purging, return_exceptions=True)
            await self._watch.stop()
        return self._result()

    async def _kill(self, number: int, target: Target) -> Kill:
        self._watch.tally = tally = Tally()
        paths = [f"{_ROOTS[1]}/large/kill-{number}-{index}" for index in range(_writers(target))]
        reader = Reader(self._scene.gateway, self._scene.host_at(target.pop or self._scene.shield))
        writing = [asyncio.ensure_future(reader.get(path)) for path in paths]
        if writing:
            await asyncio.sleep(_MID_WRITE_S)
        killed_s = monotonic()
        pid = await asyncio.to_thread(self._network.kill, target.process)
        dead_s = monotonic()  # who asked until then may have asked the one that died
        await asyncio.to_thread(self._network.until_whole, target, pid)
        whole_ms = (monotonic() - killed_s) * 1000
        cut_off = sum(bool(got.error) for got in await asyncio.gather(*writing))
        await self._read_again(reader, tally, target.pop, paths)
        reader.close()
        await asyncio.sleep(SETTLE_S)
        return self._judge(target, tally, dead_s, whole_ms, cut_off)

    async def _read_again(self, reader: Reader, tally: Tally, pop: str, paths: Sequence[str]) -> None:
        """What was being stored has to be what it should be, once the PoP serves again."""
        for path in paths:
            got = (await reader.get_again(path, tries=TRIES))[-1]
            if not got.error:
                self._watch.judge(tally, pop, path, got, (0, 0.0), False)

    def _judge(self, target: Target, tally: Tally, dead_s: float, whole_ms: float, cut_off: int) -> Kill:
        causes: Counter[str] = Counter()
        for failure in tally.failures:
            cause = cause_of(failure, target, dead_s, self._scene.shield)
            causes[cause] += 1
            if cause == "unexplained":
                self._unexplained.append(failure)
        self._whole.add(tally)
        return Kill(
            kind=target.kind,
            process=target.process,
            whole_ms=round(whole_ms, 1),
            cut_off=cut_off,
            requests=tally.requests,
            wrong=tally.wrong,
            stale=tally.stale,
            failed=dict(causes),
            errors=dict(tally.errors),
            unanswered=tally.retry_errors.total(),
        )

    async def _purge_all_the_time(self) -> None:
        while True:
            await asyncio.sleep(_PURGE_PAUSE_S)
            name = str(self._random.randrange(_HOT))
            paths = tuple(f"{root}/{kind}/{name}" for root in _ROOTS for kind in ("hot", "medium"))
            versions = await self._control.bump(paths)
            try:
                await asyncio.to_thread(self._network.purge_tag, f"lab-{name}")
            except AtollError:
                self._refused += 1
            else:
                self._purges += 1
                self._ledger.acknowledged(versions.items(), monotonic())

    def _result(self) -> Result:
        kinds = {kill.kind for kill in self._kills}
        failed: Counter[str] = Counter()
        for kill in self._kills:
            failed.update(kill.failed)
        wrong, stale = sum(k.wrong for k in self._kills), sum(k.stale for k in self._kills)
        unanswered = sum(kill.unanswered for kill in self._kills)
        return Result(
            scenario=SCENARIO,
            rate=self._plan.rate,
            seed=self._plan.seed,
            kills=tuple(self._kills),
            whole_ms={
                kind: spread([kill.whole_ms for kill in self._kills if kill.kind == kind])
                for kind in SHARES
                if kind in kinds
            },
            requests=self._whole.requests,
            wrong=wrong,
            stale=stale,
            failed=dict(failed),
            unanswered=unanswered,
            purges=self._purges,
            purges_refused=self._refused,
            evidence=tuple(self._whole.evidence),
            unexplained=tuple(self._unexplained[:_MOST_SHOWN]),
            ok=wrong == stale == unanswered == failed["unexplained"] == 0,
        )


def _promised(_pop: str, path: str) -> bool:
    """A PoP that has just come back promises nothing but where strictness is asked for."""
    return path.startswith(_ROOTS[1])


def _writers(target: Target) -> int:
    """How many large objects are on their way to the disk of the PoP whose writer is killed."""
    return _WRITERS if target.kind == "writer" else 0
