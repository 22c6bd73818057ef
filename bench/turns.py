"""Atoll's edge worker beside its peers, in turns: any metric of `bench.scenarios`.

All share core 0 and one is asked at a time; the load generator and the origin have core 1. Before load
begins, what is asked for is fetched from every target and each byte compared; hits are hits because the
origin, which counts, is not asked meanwhile. What a target cannot do, or does wrong, is left out with its
reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from time import monotonic
from typing import Final, TypeVar

import httpx
import msgspec

from atoll.errors import AtollError
from atoll.lab import tools
from bench import machine, peers, prefill
from bench.asking import Asking, Sizes
from bench.load import Generators, Meter, Sample
from bench.objects import MIX_OBJECTS
from bench.peers import BARE
from bench.report import ATOLL, Report, Result, Rounds, line, ratios, result, results
from bench.scenarios import COMMANDS, SCENARIOS, Scenario
from bench.targets import CACHE_BYTES, AtollEdge, Started, Target, start_origin

PEERS: Final = ("nginx",)
OBJECTS: Final = 100_000
BARE_SHARE: Final = 0.8  # of the bare loop is what hits aim at
MIX_CACHE_BYTES: Final = 256 * 1024 * 1024
_HITS: Final = ("one", "zipf", "uniform")
_COLLISIONS: Final = 0.001  # share of requests; HAProxy finds objects by 32 bits of a hash
_UNDER_WAY: Final = 0.01  # share of requests that were when the generator stopped

Say = Callable[[str], None]
_T = TypeVar("_T")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    command: str = "hit"
    peers: tuple[str, ...] = PEERS
    bare: bool = True
    rounds: int = 3
    seconds: float = 4.0
    objects: int = OBJECTS
    metrics: tuple[str, ...] = ()  # those of the command when there are none
    rate_per_s: float = 5_000.0  # of metrics at a fixed rate
    mix_objects: int = MIX_OBJECTS
    mix_warm: int = 600_000

    def scenarios(self) -> list[Scenario]:
        """What is measured.

        Raises:
            AtollError: a metric is not known.
        """
        names = self.metrics or COMMANDS[self.command]
        for name in names:
            if name not in SCENARIOS:
                known = ", ".join(SCENARIOS)
                raise AtollError(f"{name!r} is no metric known here", hint=f"there are: {known}")
        return [SCENARIOS[name] for name in names]


class Run(msgspec.Struct, frozen=True):
    """Everything that is up while rounds are run. `left_out`: target, or target/metric, and why."""

    options: Options
    targets: Sequence[Target]
    origin: Started
    asking: Asking
    say: Say
    left_out: dict[str, str]


def run(options: Options, say: Say) -> tuple[Report, Rounds]:
    """The whole benchmark.

    Raises:
        AtollError: a load generator is missing, or Atoll did not start.
    """
    machine.require()
    scenarios = options.scenarios()
    cache = tools.cache_folder(os.environ)
    loads = ["wrk", *(["h2load"] if any(each.tool == "h2load" for each in scenarios) else [])]
    generators = tools.find_tools(loads, cache, say)
    names = [*options.peers, *([BARE] if options.bare else [])]
    found = peers.find(names, cache, say)
    with machine.orderly_end(), machine.scratch_folder() as folder, ExitStack() as stack:
        origin = start_origin(folder)
        stack.callback(origin.stop)
        size = MIX_CACHE_BYTES if any(each.order == "mix" for each in scenarios) else CACHE_BYTES
        edge = AtollEdge(folder, origin.ports["http"], cache_bytes=size)
        stack.callback(edge.stop)
        place = peers.Place(found.tools, folder, origin.ports["http"], edge.pem, size)
        targets: list[Target] = [edge, *peers.start(names, found, place, say, stack)]
        asking = Asking(Generators(generators["wrk"], generators.get("h2load"), folder), _sizes(options))
        running = Run(options, targets, origin, asking, say, found.left_out)
        memory = fill(running, scenarios)
        rounds, ciphers = measure(running, scenarios)
    report = Report(
        name=options.command,
        machine=machine.describe(),
        rounds=options.rounds,
        results=(*memory, *results(rounds)),
        ratios=ratios(rounds),
        notes={**_notes(ciphers, {**generators, **found.tools}), **_bound(rounds)},
        left_out=found.left_out,
    )
    return report, rounds


def _sizes(options: Options) -> Sizes:
    return Sizes(
        objects=options.objects,
        mix_objects=options.mix_objects,
        mix_warm=options.mix_warm,
        rate_per_s=options.rate_per_s,
    )


def _notes(ciphers: set[str], found: Mapping[str, tools.Tool]) -> dict[str, str]:
    versions = {
        name: tool.version(peers.VERSION_FLAGS.get(name, "--version")) for name, tool in found.items()
    }
    notes = {"versions": "; ".join(versions.values())}
    if ciphers:
        notes["cipher"] = ", ".join(sorted(ciphers))
    return notes


def _bound(rounds: Rounds) -> dict[str, str]:
    """How near Atoll is to the bare loop, by CPU per request."""
    found = ratios(rounds)
    near = [f"{name} {found[key]:.2f}" for name in rounds if (key := f"{BARE}/{name}-cpu") in found]
    return {"of the bare loop": f"{', '.join(near)} (the aim is {BARE_SHARE:g} of it)"} if near else {}


def fill(running: Run, scenarios: Sequence[Scenario]) -> list[Result]:
    """Put what will be asked for into every cache and compare bodies; what that takes in memory."""
    count = running.options.objects if any(each.many for each in scenarios) else 0
    tls = {1, *running.asking.over_tls} if any(each.many and each.tls for each in scenarios) else {1}
    found = []
    for target in running.targets:
        running.say(f"{target.name}: filling the cache")
        began_s, before = monotonic(), machine.memory_bytes(target.pids())
        asked = origin_count(running.origin)
        with machine.on_core(machine.LOAD_CORE):
            checked = prefill.fetch_all(target.http_port, [1, *range(count)])
            grown = machine.memory_bytes(target.pids()) - before
            if "tls" not in target.lacks:
                checked += prefill.fetch_all(target.https_port, sorted(tls), prefill.unchecked_tls())
        took_s = monotonic() - began_s
        running.say(f"{target.name}: {checked} answers compared, every byte right, {took_s:.1f} s")
        asked = origin_count(running.origin) - asked
        if asked > max(count, 1) + len(tls):
            raise AtollError(f"{target.name} asked the origin {asked} times for {checked} requests")
        found.append(result(target.name, "memory at the start", "MB", [before / 1e6]))
        if count:
            grown_mb = grown / count * 100_000 / 1e6
            found.append(result(target.name, "memory of 100,000 objects", "MB", [grown_mb]))
    return found


def origin_count(origin: Started) -> int:
    """How many objects the origin has served so far."""
    return int(httpx.get(f"http://127.0.0.1:{origin.ports['http']}/count", trust_env=False).text)


def measure(running: Run, scenarios: Sequence[Scenario]) -> tuple[Rounds, set[str]]:
    """All rounds of all metrics, targets in turn; and the TLS ciphers that were seen."""
    rounds: dict[str, dict[str, list[Sample]]] = {}
    ciphers: set[str] = set()
    for scenario in scenarios:
        taken = _measure(running, scenario)
        if taken:
            rounds[scenario.name] = taken
        ciphers |= {sample.cipher for samples in taken.values() for sample in samples}
    return rounds, ciphers - {""}


def _measure(running: Run, scenario: Scenario) -> dict[str, list[Sample]]:
    """The rounds of one metric."""
    taken: dict[str, list[Sample]] = {}
    for target in running.targets:
        if _able(running, target, scenario) and _attempt(running, target, scenario, _warm) is not None:
            taken[target.name] = []
    for number in range(running.options.rounds):
        for target in running.targets:
            if target.name not in taken:
                continue
            sample = _attempt(running, target, scenario, take_sample)
            if sample is None:
                del taken[target.name]
                continue
            taken[target.name].append(sample)
            running.say(line(scenario, number + 1, running.options.rounds, target.name, sample))
    return taken


def _able(running: Run, target: Target, scenario: Scenario) -> bool:
    """Whether a target can do what a metric needs; why not is said."""
    for need in sorted(scenario.needs):
        if need in target.lacks:
            _leave_out(running, target, scenario, target.lacks[need])
            return False
    return True


def _attempt(
    running: Run, target: Target, scenario: Scenario, action: Callable[[Run, Target, Scenario], _T]
) -> _T | None:
    """What `action` gives, or None, and then the target is left out of the metric."""
    try:
        return action(running, target, scenario)
    except (AtollError, httpx.HTTPError) as error:
        _leave_out(running, target, scenario, str(error))
        return None


def _leave_out(running: Run, target: Target, scenario: Scenario, why: str) -> None:
    running.left_out[f"{target.name}/{scenario.name}"] = why
    running.say(f"{scenario.name:<12} {target.name}: left out: {why}")


def _warm(running: Run, target: Target, scenario: Scenario) -> bool:
    running.say(f"{scenario.name:<12} warming up {target.name}")
    running.asking.warm(target, scenario, running.say)
    return True


def take_sample(running: Run, target: Target, scenario: Scenario) -> Sample:
    """One round of one target.

    Raises:
        AtollError: an answer was wrong, or a hit was none, or a miss was one.
    """
    before = origin_count(running.origin)
    meter = Meter(target.pids())
    found = running.asking.load(target, scenario, running.options.seconds)
    sample = meter.sample(found)
    asked = origin_count(running.origin) - before
    few = 0 if target.name == ATOLL else found.requests * _COLLISIONS
    if scenario.order in _HITS and asked > few:
        raise AtollError(f"{asked} answers came from the origin", hint="they are no hits")
    if scenario.order == "unique" and asked < found.requests * (1 - _UNDER_WAY):
        raise AtollError(f"the origin was asked {asked} times in {found.requests} misses")
    return msgspec.structs.replace(sample, hit_ratio=max(0.0, 1 - asked / found.requests))
