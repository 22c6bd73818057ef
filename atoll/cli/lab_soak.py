"""`atoll lab soak`: does a worker stay as it was under load?"""

from __future__ import annotations

import os
from typing import Final

import click
import uvloop

from atoll.cli.client import Client
from atoll.cli.lab_network import bar, pop_of, scene_of
from atoll.cli.output import json_option, print_json, print_table, say
from atoll.config.paths import resolve
from atoll.control.answers import Purge
from atoll.errors import AtollError
from atoll.lab import soak as soaking
from atoll.lab.soak_fit import sparkline
from atoll.lab.soak_mix import Place

_COLUMNS: Final = ("what", ">least", ">most", ">last", "over time")
_EDGE: Final = "edge-0"


@click.command()
@click.option(
    "--minutes", default=60.0, show_default=True, type=click.FloatRange(0.2, 10_080), help="How long."
)
@click.option(
    "--load",
    default=0.8,
    show_default=True,
    type=click.FloatRange(0.05, 0.95),
    help="Of what the worker can do on its core.",
)
@click.option("--pop", "code", default="lhr", show_default=True, help="Whose worker.")
@click.option("--seed", default=1, show_default=True, help="Of what users ask for.")
@json_option
def soak(minutes: float, load: float, code: str, seed: int, as_json: bool) -> int:
    """Keep a PoP's worker busy for a long time, and see whether it changes.

    The load is mixed: hits by Zipf's law over HTTP/1.1, TLS and HTTP/2, misses, ranges, compression, 304s,
    large objects, slow readers, a purge by tag each second. Every answer is checked. Memory, CPU time, open
    files and garbage collection are sampled; growth and drift are fitted after the warm-up.

    Exit code 1 when there was an error, memory besides the cache grew, or the p99 drifted.

    \b
    Examples:
      atoll lab soak --minutes 2 --load 0.5
      atoll lab soak --minutes 60 --json
    """
    paths = resolve(os.environ, os.getuid())
    with Client() as client:
        scene = scene_of(client)
        pop = pop_of(client, code)
        pid = next((process.pid for process in pop.processes if process.name == _EDGE), 0)
        if not pid:
            raise AtollError(f"{code} has no worker", hint=f"is it up? `atoll pop start {code}`")
        place = Place(("127.0.0.1", pop.http_port), ("127.0.0.1", pop.https_port), paths.ca / "ca.pem")
        worker = soaking.Worker(code, pid, paths.pop_run(code) / f"{_EDGE}.sock")

        def purge_tag(tag: str) -> None:
            client.post("/v1/purge", Purge, {"kind": "tag", "value": tag})

        plan = soaking.Plan(seconds=minutes * 60, load=load, seed=seed)
        with bar(quiet=as_json) as progress:
            task = progress.add_task("measuring what a request costs", total=minutes * 60)

            def advance(sample: soaking.Sample) -> None:
                label = f"{sample.heap_mb:.0f} MB, {sample.descriptors} open files"
                progress.update(task, completed=sample.at_s, description=label)

            outcome = uvloop.run(soaking.run(place, worker, scene.origin, plan, purge_tag, advance))
    if as_json:
        print_json(outcome)
    else:
        _show(outcome)
    return 0 if outcome.ok else 1


def _show(outcome: soaking.Result) -> None:
    samples, intervals = outcome.samples, outcome.intervals
    curves = (
        ("memory MB", [sample.heap_mb for sample in samples]),
        ("of it the cache MB", [sample.cache_mb for sample in samples]),
        ("the rest MB", [sample.heap_mb - sample.cache_mb for sample in samples]),
        ("open files", [float(sample.descriptors) for sample in samples]),
        ("p50 ms", [interval.p50_ms for interval in intervals]),
        ("p99 ms", [interval.p99_ms for interval in intervals]),
        ("p99.9 ms", [interval.p999_ms for interval in intervals]),
    )
    rows = (
        (name, f"{min(values):.1f}", f"{max(values):.1f}", f"{values[-1]:.1f}", sparkline(values))
        for name, values in curves
        if values
    )
    print_table(_COLUMNS, rows)
    say(
        f"{outcome.requests} requests in {outcome.minutes:.1f} min, {outcome.rate:.0f} a second, worker busy "
        f"for {outcome.load:.0%} (wanted {outcome.wanted_load:.0%}, {outcome.cpu_us_per_request:.0f} µs a "
        f"request), {outcome.purges} purges, {outcome.held_back} held back"
    )
    growth = "unknown" if outcome.growth_mb_h is None else f"{outcome.growth_mb_h:+.1f} MB/h"
    drift = "unknown" if outcome.p99_drift is None else f"×{outcome.p99_drift:.2f}"
    say(
        f"memory {growth}; p99 {drift}; garbage collection {outcome.gc_share:.3%} of the "
        f"time, {outcome.gc_longest_ms:.1f} ms at the longest"
    )
    verdict = "ok" if outcome.ok else f"not ok: {'; '.join(outcome.complaints)}"
    say(verdict, colour="green" if outcome.ok else "red")
