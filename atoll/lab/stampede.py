"""Everybody wants the same thing at once: how often is the origin asked for it?

Each trial, so many users, spread over all PoPs, ask for one object that nobody has. The origin takes its
time, so that all of them come while it is being fetched. It should be asked once, by the shield for all PoPs.

With the shield killed while the origin still works on its answer, every user is to be answered all the same:
who asked the shield asks the origin instead, once for each PoP. Users of what is killed lose their connection
and ask again, as browsers do.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Final, Literal

import msgspec

from atoll.lab.content import check
from atoll.lab.lab_origin import Answer
from atoll.lab.reader import Got, Reader
from atoll.lab.rollout import Spread, spread
from atoll.lab.scene import OriginControl, Scene

SCENARIO: Final = "stampede"
DELAY_MS: Final = 200  # of the origin
KILL_AFTER_S: Final = 0.1  # the origin has been asked by then, and has not answered
SIZE: Final = 4096
TRIES: Final = (
    3  # a user loses a connection when a worker dies, and the next when its PoP is withdrawn for it
)

_COLD: Final = "/strict/stampede/cold"
_WARM: Final = "/strict/stampede/warm"

Kill = Literal["", "worker", "pop"]
"""What is killed of the shield: nothing, the process that asks the origin, or the whole PoP."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One object, asked for by everybody."""

    requests: int
    origin_requests: int
    unanswered: int  # for good
    wrong: int  # bodies that are not the object's
    retried: int  # because the connection failed
    thrice: int  # because the next one failed, too
    errors: dict[str, int]  # of every try
    latency_ms: Spread  # of first tries that were answered


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run prints. `ok`: all answered, all right, and the origin not asked too often."""

    scenario: str
    requests: int  # of each trial
    delay_ms: int
    shield: str
    killed: Kill
    most_origin_requests: int  # that were accepted
    trials: tuple[Trial, ...]
    origin_requests: Spread
    latency_ms: Spread  # the trials' p50, p99 and max, each the median over trials
    unanswered: int
    wrong: int
    retried: int
    ok: bool


class Network(msgspec.Struct, frozen=True):
    """What the experiment does to the network; both blocking. `heal` returns when the network is whole."""

    kill: Callable[[], None]
    heal: Callable[[], None]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done. `name` keeps the paths of two runs apart."""

    requests: int
    trials: int
    name: str
    kill: Kill = ""


async def run(scene: Scene, network: Network, plan: Plan, progress: Callable[[Trial], None]) -> Result:
    """Carry a plan out.

    Raises:
        AtollError: the network cannot do it.
        OSError: there are not so many connections.
    """
    control = OriginControl(scene.origin)
    try:
        await control.reset()
        await control.answers([Answer(prefix=f"{_COLD}/", size=SIZE, delay_ms=DELAY_MS)])
        trials: list[Trial] = []
        for number in range(plan.trials):
            trials.append(await _trial(scene, network, plan, control, f"{_COLD}/{plan.name}-{number}"))
            progress(trials[-1])
    finally:
        control.close()
    return judge(scene, plan, trials)


async def _trial(scene: Scene, network: Network, plan: Plan, control: OriginControl, path: str) -> Trial:
    readers = {pop: Reader(scene.gateway, scene.host_at(pop)) for pop in scene.cities}
    crowd = list(islice(cycle(readers), plan.requests))
    try:
        await asyncio.gather(*(readers[pop].connect(count) for pop, count in Counter(crowd).items()))
        await asyncio.gather(*(readers[pop].get(_WARM) for pop in crowd))  # every flow has found its PoP
        asking = [asyncio.ensure_future(readers[pop].get_again(path, tries=TRIES)) for pop in crowd]
        if plan.kill:
            await asyncio.sleep(KILL_AFTER_S)
            await asyncio.to_thread(network.kill)
        answers = await asyncio.gather(*asking)
        asked = (await control.counts()).get(path, 0)
    finally:
        for reader in readers.values():
            reader.close()
        if plan.kill:
            await asyncio.to_thread(network.heal)
    return look(path, answers, asked)


def look(path: str, tries: Sequence[Sequence[Got]], origin_requests: int) -> Trial:
    """The trial that everybody's tries tell of."""
    last = [each[-1] for each in tries]
    answered = [got for got in last if not got.error and got.status < 500]
    errors = Counter(got.error for each in tries for got in each if got.error)
    errors += Counter(f"status {got.status}" for got in last if got.status >= 500)
    at_once = [each[0].took_ms for each in tries if not each[0].error]
    return Trial(
        requests=len(tries),
        origin_requests=origin_requests,
        unanswered=len(tries) - len(answered),
        wrong=sum(check(path, got.body) is None for got in answered),
        retried=sum(len(each) > 1 for each in tries),
        thrice=sum(len(each) > 2 for each in tries),
        errors=dict(errors),
        latency_ms=_rounded(spread(at_once or [0.0])),
    )


def judge(scene: Scene, plan: Plan, trials: Sequence[Trial]) -> Result:
    """The verdict over all trials."""
    most = len(scene.cities) + 1 if plan.kill else 1
    return Result(
        scenario=SCENARIO,
        requests=plan.requests,
        delay_ms=DELAY_MS,
        shield=scene.shield,
        killed=plan.kill,
        most_origin_requests=most,
        trials=tuple(trials),
        origin_requests=spread([float(trial.origin_requests) for trial in trials]),
        latency_ms=Spread(
            p50=spread([trial.latency_ms.p50 for trial in trials]).p50,
            p99=spread([trial.latency_ms.p99 for trial in trials]).p50,
            max=spread([trial.latency_ms.max for trial in trials]).p50,
        ),
        unanswered=sum(trial.unanswered for trial in trials),
        wrong=sum(trial.wrong for trial in trials),
        retried=sum(trial.retried for trial in trials),
        ok=all(
            trial.unanswered == trial.wrong == 0 and 1 <= trial.origin_requests <= most for trial in trials
        ),
    )


def _rounded(values: Spread) -> Spread:
    return Spread(p50=round(values.p50, 1), p99=round(values.p99, 1), max=round(values.max, 1))
