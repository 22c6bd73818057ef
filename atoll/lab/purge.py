"""Is a purge what it says? Versions change, are purged, and every answer afterwards is looked at.

Each trial gives some paths a new version at the origin, purges what was stored of them and waits for the
acknowledgement. From that moment on nobody may be answered with an older version, at no PoP: such an answer
is stale. Users ask all the time, so fetches are under way when purges come; half of the paths take long to
arrive.

With a partition, a PoP's agent is frozen for some of the trials: the PoP serves on and hears of nothing. A
purge is then acknowledged when the PoP's lease has run out. Routes whose promise is `strict` stay current
even there; others serve what they have until the PoP has caught up, which is timed. Where asked to, the PoP's
worker is killed meanwhile: its successor, too, has heard of nothing, and has what was stored on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, Literal

import msgspec

from atoll.config.purge import Kind
from atoll.errors import AtollError
from atoll.lab.content import check
from atoll.lab.lab_origin import Answer
from atoll.lab.reader import Reader
from atoll.lab.rollout import Spread, spread
from atoll.lab.scene import HOST, OriginControl, Scene
from atoll.lab.watch import Evidence, Ledger, Tally, Watch

SCENARIO: Final = "purge"
KINDS: Final[tuple[Kind, ...]] = ("url", "tag", "prefix", "host", "all")
STRICT: Final = "/strict/purge"
PLAIN: Final = "/plain/purge"

WARM_UP_S: Final = 1.0
WATCH_S: Final = 0.25  # of users' questions after an acknowledgement, before the next trial
LONGEST_CATCH_UP_S: Final = 20.0
LONGEST_LAPSE_MS: Final = 6000.0  # a lease, its margin, and what a busy machine needs
LONGEST_RESTART_S: Final = 30.0
HEARD_S: Final = 1.5  # an agent that has been heard within that is waited for
_OBJECTS: Final = 6
_FOCUS: Final = 0.75  # part of the requests that ask for what is being purged
_PROBE_S: Final = 0.005
_GROUPS: Final = (f"{STRICT}/quick", f"{STRICT}/slow", f"{PLAIN}/quick", f"{PLAIN}/slow")
_ANSWERS: Final = tuple(
    Answer(prefix=f"{group}/", size=2048, delay_ms=5 if slow else 0, spread_ms=400 if slow else 0)
    for group in _GROUPS
    for slow in (group.endswith("slow"),)
)
PATHS: Final = tuple(f"{group}/{number}" for number in range(_OBJECTS) for group in _GROUPS)

Partition = Literal["", "lapses", "gone", "restarted"]
"""No partition; the PoP is waited for until its lease has run out; it is known to be gone; so it is, and its
worker has been killed and started again."""


class Order(msgspec.Struct, frozen=True):
    """One purge, and the paths whose stored responses it selects."""

    kind: Kind
    value: str
    paths: tuple[str, ...]


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """New versions, purges, and what users saw until the next trial."""

    kind: Kind
    partition: Partition
    ack_ms: tuple[float, ...]  # of each purge
    states: dict[str, int]  # of PoPs: applied, lapsed, gone
    requests: int
    checked: int  # asked after the acknowledgement of a purge of their path
    stale: int
    excused: int  # old answers of the PoP that was cut off, where no more is promised
    wrong: int
    failed_requests: int
    errors: dict[str, int]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run prints. `ok`: nothing stale, nothing wrong, no request failed, all acknowledged in time."""

    scenario: str
    rate: float  # requests a second at each PoP
    soft: bool
    partition: str
    trials: tuple[Trial, ...]
    ack_ms: Spread | None  # without a partition
    ack_lapsed_ms: Spread | None  # until a lease had run out
    ack_gone_ms: Spread | None
    catch_up_ms: Spread | None  # from the partition's end until the PoP answered with the newest version
    requests: int
    checked: int
    stale: int
    excused: int
    wrong: int
    failed_requests: int
    held_back: int
    errors: dict[str, int]
    evidence: tuple[Evidence, ...]
    ok: bool


class Network(msgspec.Struct, frozen=True):
    """What the experiment does to the network; all blocking."""

    purge: Callable[[Kind, str, bool], dict[str, str]]  # how each PoP took it
    agent_pid: Callable[[str], int]
    heard_s: Callable[[str], float]  # since the last heartbeat of a PoP's agent
    replace_worker: Callable[[str], None]  # by killing it; raises AtollError when no other comes
    forgive: Callable[[str], None]  # a PoP its falls: they were ours


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done."""

    trials: int
    rate: float
    kinds: tuple[Kind, ...] = KINDS
    soft: bool = False
    partition: str = ""
    restart: bool = False  # the worker of the PoP that is cut off, too
    seed: int = 1


def orders(kind: Kind, number: int) -> list[Order]:
    """The purges of trial `number`."""
    object_paths = tuple(f"{group}/{number % _OBJECTS}" for group in _GROUPS)
    match kind:
        case "url":
            return [Order("url", f"{HOST}{path}", (path,)) for path in object_paths]
        case "tag":
            return [Order("tag", f"lab-{number % _OBJECTS}", object_paths)]
        case "prefix":
            return [
                Order("prefix", f"{HOST}{prefix}/", tuple(path for path in PATHS if path.startswith(prefix)))
                for prefix in (STRICT, PLAIN)
            ]
        case "host":
            return [Order("host", HOST, PATHS)]
        case "all":
            return [Order("all", "", PATHS)]


def schedule(trials: int, partitioned: bool) -> tuple[Partition, ...]:
    """The trials, in their order: with partitions two of ten, one after the other, and two at least.

    Raises:
        AtollError: there is no room for those.
    """
    found: list[Partition] = [""] * trials
    if not partitioned:
        return tuple(found)
    if trials < 2:
        raise AtollError("a partition takes two trials", "more --trials")
    for start in range(min(4, trials - 2), trials - 1, 10):
        found[start : start + 2] = ["lapses", "gone"]
    return tuple(found)


async def run(scene: Scene, network: Network, plan: Plan, progress: Callable[[Trial], None]) -> Result:
    """Carry a plan out.

    Raises:
        AtollError: the network cannot do it, or a PoP did not come back.
    """
    control = OriginControl(scene.origin)
    try:
        await control.reset()
        await control.answers(_ANSWERS)
        await asyncio.to_thread(network.purge, "host", HOST, False)  # what was stored before is not ours
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
        self._focus: tuple[str, ...] = PATHS
        self._cut_off = ""  # the PoP that hears of nothing
        self._watch = Watch(scene, self._ledger, self._choose, self._excused)
        self._trials: list[Trial] = []
        self._tallies: list[Tally] = []
        self._catch_ups_ms: list[float] = []

    def _choose(self, _pop: str) -> str:
        focus = self._focus if self._random.random() < _FOCUS else PATHS
        return self._random.choice(focus)

    def _excused(self, pop: str, path: str) -> bool:
        """One that is cut off promises nothing where not asked to, nor does who asks it for the origin."""
        return self._cut_off in (pop, self._scene.shield) and path.startswith(PLAIN)

    async def run(self, progress: Callable[[Trial], None]) -> Result:
        """Every trial."""
        self._watch.start(self._plan.rate)
        try:
            await asyncio.sleep(WARM_UP_S)
            for number, partition in enumerate(schedule(self._plan.trials, bool(self._plan.partition))):
                if partition == "":
                    progress(await self._trial(number, partition))
                elif partition == "lapses":
                    await self._partitioned(number, progress)
        finally:
            await self._watch.stop()
        return self._result()

    async def _partitioned(self, number: int, progress: Callable[[Trial], None]) -> None:
        """Two trials while the agent is frozen, and the time that the PoP needs afterwards."""
        pop = self._plan.partition
        pid = await asyncio.to_thread(self._network.agent_pid, pop)
        try:
            os.kill(pid, signal.SIGSTOP)
            self._cut_off = pop
            await asyncio.sleep(self._random.random())
            progress(await self._trial(number, "lapses"))
            progress(await self._trial(number + 1, "gone"))
            if self._plan.restart:
                await self._restart(pop)
                progress(await self._trial(number + 2, "restarted"))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        healed_s = monotonic()
        await self._until_caught_up(pop)
        self._catch_ups_ms.append(round((monotonic() - healed_s) * 1000, 1))
        self._cut_off = ""
        await self._until_heard(pop)
        if self._plan.restart:
            await asyncio.to_thread(self._network.forgive, pop)

    async def _restart(self, pop: str) -> None:
        """Kill the worker; returns when its successor serves. What users lose by that is not the purges'."""
        self._watch.tally = disturbed = Tally()
        reader = Reader(self._scene.gateway, self._scene.host_at(pop))
        await asyncio.sleep(WARM_UP_S)  # who asked before has been answered
        await asyncio.to_thread(self._network.replace_worker, pop)
        try:
            async with asyncio.timeout(LONGEST_RESTART_S):
                while True:
                    if (await reader.get(PATHS[0], fresh=True)).text(b"x-edge-location") == pop:
                        break
                    await asyncio.sleep(_PROBE_S)
        except TimeoutError:
            raise AtollError(f"{pop}'s users do not come back", f"see `atoll logs {pop}-anycast`") from None
        finally:
            reader.close()
        await asyncio.sleep(WARM_UP_S)
        disturbed.errors.clear()
        self._tallies.append(disturbed)

    async def _until_caught_up(self, pop: str) -> None:
        reader = Reader(self._scene.gateway, self._scene.host_at(pop))
        behind = {path for path in self._focus if path.startswith(f"{PLAIN}/quick")}
        try:
            async with asyncio.timeout(LONGEST_CATCH_UP_S):
                while behind:
                    for path in tuple(behind):
                        version = check(path, (await reader.get(path)).body)
                        if version is not None and version >= self._ledger.floor(path)[0]:
                            behind.discard(path)
                    await asyncio.sleep(_PROBE_S)
        except TimeoutError:
            raise AtollError(f"{pop} does not catch up", f"see `atoll logs {pop}-agent`") from None
        finally:
            reader.close()

    async def _until_heard(self, pop: str) -> None:
        """Until purges wait for it again."""
        while True:
            if await asyncio.to_thread(self._network.heard_s, pop) <= HEARD_S:
                return
            await asyncio.sleep(0.1)

    async def _trial(self, number: int, partition: Partition) -> Trial:
        kind = self._plan.kinds[number % len(self._plan.kinds)]
        chosen = orders(kind, number)
        self._focus = tuple(path for order in chosen for path in order.paths)
        self._watch.tally = tally = Tally()
        acks = await asyncio.gather(*(self._purge(order) for order in chosen))
        await asyncio.sleep(WATCH_S)
        trial = Trial(
            kind=kind,
            partition=partition,
            ack_ms=tuple(took_ms for took_ms, _ in acks),
            states=dict(Counter(state for _, states in acks for state in states.values())),
            requests=tally.requests,
            checked=tally.checked,
            stale=tally.stale,
            excused=tally.excused,
            wrong=tally.wrong,
            failed_requests=tally.errors.total(),
            errors=dict(tally.errors),
        )
        self._tallies.append(tally)
        self._trials.append(trial)
        return trial

    async def _purge(self, order: Order) -> tuple[float, dict[str, str]]:
        """New versions, then the purge: milliseconds until it was acknowledged, and how PoPs took it."""
        versions = await self._control.bump(order.paths)
        began_s = monotonic()
        states = await asyncio.to_thread(self._network.purge, order.kind, order.value, self._plan.soft)
        acked_s = monotonic()
        self._ledger.acknowledged(versions.items(), acked_s)
        return round((acked_s - began_s) * 1000, 2), states

    def _result(self) -> Result:
        whole = Tally()
        for tally in self._tallies:
            whole.add(tally)
        return judge(self._plan, self._trials, whole, self._catch_ups_ms)


def judge(plan: Plan, trials: Sequence[Trial], whole: Tally, catch_ups_ms: Sequence[float]) -> Result:
    """The verdict over all trials."""

    def acks(*partitions: Partition) -> Spread | None:
        values = [ms for trial in trials if trial.partition in partitions for ms in trial.ack_ms]
        return spread(values) if values else None

    failed = whole.errors.total()
    lapsed = acks("lapses")
    return Result(
        scenario=SCENARIO,
        rate=plan.rate,
        soft=plan.soft,
        partition=plan.partition,
        trials=tuple(trials),
        ack_ms=acks(""),
        ack_lapsed_ms=lapsed,
        ack_gone_ms=acks("gone", "restarted"),
        catch_up_ms=spread(list(catch_ups_ms)) if catch_ups_ms else None,
        requests=whole.requests,
        checked=whole.checked,
        stale=whole.stale,
        excused=whole.excused,
        wrong=whole.wrong,
        failed_requests=failed,
        held_back=whole.held_back,
        errors=dict(whole.errors),
        evidence=tuple(whole.evidence),
        ok=whole.stale == whole.wrong == failed == 0
        and whole.checked > 0
        and (lapsed is None or lapsed.max <= LONGEST_LAPSE_MS),
    )
