"""Cached hits: Atoll's edge worker with its whole pipeline beside nginx with `proxy_cache`, in turns.

Both have core 0 to themselves in turns (the other idles), the load generator has core 1. First one object
of 1 KiB, then 100,000 of them asked for by Zipf's law. Before anything is measured both caches are filled
and every body is compared; afterwards the origin says how often it was asked meanwhile, which has to be
never.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Final

import httpx
import msgspec

from atoll.errors import AtollError
from bench import machine, objects, prefill, tools
from bench.load import H2_REQUESTS, Generators, Load, Meter, Sample
from bench.report import Report, Rounds, ratios, results
from bench.targets import AtollEdge, Nginx, Started, Target, start_origin

PEERS: Final = ("nginx",)
OBJECTS: Final = 100_000
DRAWS: Final = 200_000
EXCERPTS: Final = 12  # lists of URIs that h2load takes in turn
METRICS: Final = ("h1", "h1-tls", "h2-tls", "zipf-h1", "zipf-h2-tls")
_WARM_S: Final = 1.0
_WARM_MANY_S: Final = 6.0  # until every object that will be asked for has been asked for

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    peers: tuple[str, ...] = PEERS
    rounds: int = 3
    seconds: float = 4.0
    objects: int = OBJECTS
    metrics: tuple[str, ...] = METRICS


class Run(msgspec.Struct, frozen=True):
    """Everything that is up while rounds are run."""

    targets: Sequence[Target]
    origin: Started
    generators: Generators
    paths: Mapping[str, Path]
    uris: Mapping[str, Sequence[Path]]


def run(options: Options, say: Say) -> tuple[Report, Rounds]:
    """The whole benchmark.

    Raises:
        AtollError: a tool is missing, a server did not start, or an answer was wrong.
    """
    machine.require()
    for name, known in [(p, PEERS) for p in options.peers] + [(m, METRICS) for m in options.metrics]:
        if name not in known:
            raise AtollError(f"{name!r} is not known here", hint=f"there are: {', '.join(known)}")
    found = tools.find_tools(("wrk", "h2load", *options.peers), tools.cache_folder(os.environ), say)
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        origin = start_origin(folder)
        stack.callback(origin.stop)
        targets = _start_targets(options, found, folder, origin, stack)
        order = objects.zipf(options.objects, DRAWS)
        fill(targets, origin, options.objects, order[: H2_REQUESTS * EXCERPTS], say)
        generators = Generators(found["wrk"], found["h2load"], folder)
        running = Run(targets, origin, generators, *_orders(generators, order))
        rounds, ciphers = measure(running, options, say)
    notes = {"versions": _versions(found), "cipher": ", ".join(sorted(ciphers))}
    report = Report(
        name="hit",
        machine=machine.describe(),
        rounds=options.rounds,
        results=results(rounds),
        ratios=ratios(rounds),
        notes=notes,
    )
    return report, rounds


def _start_targets(
    options: Options, found: Mapping[str, tools.Tool], folder: Path, origin: Started, stack: ExitStack
) -> list[Target]:
    edge = AtollEdge(folder, origin.ports["http"])
    stack.callback(edge.stop)
    targets: list[Target] = [edge]
    if "nginx" in options.peers:
        nginx = Nginx(found["nginx"], folder / "nginx", origin.ports["http"], edge.pem)
        stack.callback(nginx.stop)
        targets.append(nginx)
    return targets


def fill(targets: Sequence[Target], origin: Started, count: int, over_tls: Sequence[int], say: Say) -> None:
    """Put every object into every cache and compare bodies; `over_tls` once more under https, a key apart."""
    tls = sorted({1, *over_tls})
    for target in targets:
        began_s = monotonic()
        with machine.on_core(machine.LOAD_CORE):
            checked = prefill.fetch_all(target.http_port, range(count))
            checked += prefill.fetch_all(target.https_port, tls, _unchecked_tls())
        say(f"{target.name}: {checked} objects cached, every body right, {monotonic() - began_s:.1f} s")
    asked, wanted = origin_count(origin), (count + len(tls)) * len(targets)
    if asked != wanted:
        raise AtollError(f"the origin was asked {asked} times to fill the caches", hint=f"expected {wanted}")


def _unchecked_tls() -> ssl.SSLContext:
    """The certificate is of a local authority that nobody knows; the bodies are what is checked."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def origin_count(origin: Started) -> int:
    """How many objects the origin has served so far."""
    return int(httpx.get(f"http://127.0.0.1:{origin.ports['http']}/count", trust_env=False).text)


def _orders(
    generators: Generators, order: Sequence[int]
) -> tuple[dict[str, Path], dict[str, Sequence[Path]]]:
    """Files of what to ask for: for wrk, and for h2load."""
    one = [generators.write_uris([1], "one")]
    pieces = objects.excerpts(order, H2_REQUESTS, EXCERPTS)
    many = [generators.write_uris(piece, f"zipf-{number}") for number, piece in enumerate(pieces)]
    return {"zipf-h1": generators.write_order(order, "zipf")}, {"h2-tls": one, "zipf-h2-tls": many}


def measure(running: Run, options: Options, say: Say) -> tuple[Rounds, set[str]]:
    """All rounds of all metrics, targets in turn; and the TLS ciphers that were seen.

    Raises:
        AtollError: an answer came from somewhere else than the cache.
    """
    rounds: dict[str, dict[str, list[Sample]]] = {}
    ciphers: set[str] = set()
    for metric in options.metrics:
        taken: dict[str, list[Sample]] = {target.name: [] for target in running.targets}
        for target in running.targets:
            load(running, target, metric, _WARM_MANY_S if "zipf" in metric else _WARM_S)
        before = origin_count(running.origin)
        for number in range(options.rounds):
            for target in running.targets:
                sample = take_sample(running, target, metric, options.seconds)
                taken[target.name].append(sample)
                ciphers.add(sample.cipher)
                say(_line(metric, number, target.name, sample))
        asked = origin_count(running.origin) - before
        if asked:
            raise AtollError(f"{metric}: {asked} answers came from the origin", hint="they are no hits")
        rounds[metric] = taken
    return rounds, ciphers - {""}


def take_sample(running: Run, target: Target, metric: str, seconds: float) -> Sample:
    """One round of one target."""
    meter = Meter(target.pids())
    return meter.sample(load(running, target, metric, seconds))


def load(running: Run, target: Target, metric: str, seconds: float) -> Load:
    """Put load on a target."""
    if metric in running.uris:
        return running.generators.h2(target.https_port, seconds, running.uris[metric])
    tls = metric.endswith("tls")
    port = target.https_port if tls else target.http_port
    return running.generators.h1(port, seconds, running.paths.get(metric), tls)


def _line(metric: str, number: int, target: str, sample: Sample) -> str:
    rate = f"{sample.per_s:>9,.0f} req/s  {sample.cpu_us:6.2f} µs CPU/req"
    return f"{metric:<12} round {number + 1}  {target:<6} {rate}"


def _versions(found: Mapping[str, tools.Tool]) -> str:
    asked = {"wrk": "--version", "h2load": "--version", "nginx": "-v"}
    return "; ".join(tool.version(asked[name]) for name, tool in found.items())
