"""What users notice of a deploy and of a rollback: versions change under load, at every PoP.

Each PoP is asked at a steady rate from a city that it serves. A change is over for a PoP with the first
answer of the new version after which no old one comes any more; it is over for the network when it is over
for the last PoP. Every failed request counts, also one that a retry would have saved.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from atoll.config.spec import BundleManifest
from atoll.errors import AtollError
from atoll.functions.workers import bundle
from atoll.lab.prober import Prober, Sample

SCENARIO: Final = "rollout"
FUNCTION: Final = "lab-rollout"
VERSION_FIELD: Final = "lab-version"
WARM_UP_S: Final = 0.5
SETTLE_S: Final = 0.3  # load after a change: an old version that comes back would show
LONGEST_S: Final = 30.0

Change = Callable[[str, bytes], float]
"""Blocking: `deploy` a bundle or `rollback`; the milliseconds that the control plane says it took."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One change of version. Milliseconds count from the order."""

    action: str
    version: str
    served_ms: dict[str, float]  # PoP: from when on its users see the new version only
    all_served_ms: float
    reported_ms: float  # what the control plane said
    requests: int
    failed_requests: int
    errors: dict[str, int]


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Of milliseconds over all trials."""

    p50: float
    p99: float
    max: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run prints. `ok`: no request failed and every change was within the limit."""

    scenario: str
    rate: float  # requests a second at each PoP
    limit_ms: float
    trials: tuple[Step, ...]
    deploy_ms: Spread
    rollback_ms: Spread
    requests: int
    failed_requests: int
    ok: bool


def project(version: str) -> bytes:
    """The bundle of a version."""
    manifest = BundleManifest(
        name=FUNCTION,
        main="worker.js",
        syntax="modules",
        compatibility_date="2026-11-01",
        routes=(f"{FUNCTION}.test/*",),
    )
    headers = f'{{ headers: {{ "{VERSION_FIELD}": "{version}" }} }}'
    script = f'export default {{ fetch() {{ return new Response("version {version}", {headers}) }} }}\n'
    return bundle.pack(manifest, {"worker.js": script.encode()})


async def run(
    address: tuple[str, int],
    cities: Mapping[str, str],
    trials: int,
    rate: float,
    change: Change,
    progress: Callable[[Step], None],
) -> list[Step]:
    """Deploy and roll back `trials` times; `cities` says where each PoP is asked from."""
    await asyncio.to_thread(change, "deploy", project("0"))
    probers = {
        pop: Prober(address, f"{FUNCTION}.{city}.localhost", "/", rate, VERSION_FIELD.encode())
        for pop, city in cities.items()
    }
    for prober in probers.values():
        prober.start()
    steps: list[Step] = []
    try:
        await _until(probers, "0")
        await asyncio.sleep(WARM_UP_S)
        for number in range(1, trials + 1):
            for action, version in (("deploy", str(number)), ("rollback", "0")):
                steps.append(await _step(probers, action, version, change))
                progress(steps[-1])
    finally:
        await asyncio.gather(*(prober.stop() for prober in probers.values()))
    return steps


async def _until(probers: Mapping[str, Prober], version: str) -> None:
    try:
        async with asyncio.timeout(LONGEST_S):
            await asyncio.gather(*(prober.until_said(version) for prober in probers.values()))
    except TimeoutError:
        behind = ", ".join(pop for pop, prober in probers.items() if prober.last != version)
        raise AtollError(f"{behind} do not serve version {version}", "look at `atoll status`") from None


async def _step(probers: Mapping[str, Prober], action: str, version: str, change: Change) -> Step:
    loop = asyncio.get_running_loop()
    data = project(version) if action == "deploy" else b""
    began = {pop: len(prober.samples) for pop, prober in probers.items()}
    ordered_s = loop.time()
    reported_ms = await asyncio.to_thread(change, action, data)
    await _until(probers, version)
    await asyncio.sleep(SETTLE_S)
    seen = {pop: prober.samples[began[pop] :] for pop, prober in probers.items()}
    return judge(action, version, ordered_s, reported_ms, seen)


def judge(
    action: str, version: str, ordered_s: float, reported_ms: float, seen: Mapping[str, Sequence[Sample]]
) -> Step:
    """The step that the samples since the order tell of."""
    served = {
        pop: round((served_at_s(version, samples) - ordered_s) * 1000, 1) for pop, samples in seen.items()
    }
    errors = Counter(
        sample.first_error for samples in seen.values() for sample in samples if sample.first_error
    )
    return Step(
        action=action,
        version=version,
        served_ms=served,
        all_served_ms=max(served.values()),
        reported_ms=round(reported_ms, 1),
        requests=sum(len(samples) for samples in seen.values()),
        failed_requests=errors.total(),
        errors=dict(errors),
    )


def served_at_s(version: str, samples: Sequence[Sample]) -> float:
    """When the first answer of `version` came after which no other came.

    Raises:
        AtollError: none did.
    """
    found: float | None = None
    for sample in sorted((s for s in samples if s.answered), key=lambda s: s.done_s):
        if sample.said != version:
            found = None
        elif found is None:
            found = sample.done_s
    if found is None:
        raise AtollError(f"version {version} is not what is served in the end")
    return found


def result(steps: Sequence[Step], rate: float, limit_ms: float) -> Result:
    """The verdict over all steps."""
    failed = sum(step.failed_requests for step in steps)
    slowest = max((step.all_served_ms for step in steps), default=0.0)
    return Result(
        scenario=SCENARIO,
        rate=rate,
        limit_ms=limit_ms,
        trials=tuple(steps),
        deploy_ms=spread([step.all_served_ms for step in steps if step.action == "deploy"]),
        rollback_ms=spread([step.all_served_ms for step in steps if step.action == "rollback"]),
        requests=sum(step.requests for step in steps),
        failed_requests=failed,
        ok=failed == 0 and slowest <= limit_ms,
    )


def spread(values: Sequence[float]) -> Spread:
    """Nearest-rank percentiles.

    Raises:
        AtollError: there are no values.
    """
    if not values:
        raise AtollError("no trial was run")
    ordered = sorted(values)

    def rank(share: float) -> float:
        return ordered[math.ceil(share * len(ordered)) - 1]

    return Spread(p50=rank(0.5), p99=rank(0.99), max=ordered[-1])
