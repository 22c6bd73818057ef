"""Eviction on traces: Atoll's policy beside libCacheSim's LRU, SIEVE, S3-FIFO, GDSF and Belady's rule.

Every policy has the same bytes: a share of what all the trace's objects take together. libCacheSim charges
objects only; Atoll's policy pays for the keys it remembers out of the same bytes. Belady's rule knows the
future: it is the bound for objects of one size. Object hits are the share of requests answered, byte hits the
share of bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import mean
from time import monotonic, perf_counter
from typing import Final

import msgspec

from atoll.cache.eviction import S3Fifo
from atoll.errors import AtollError
from atoll.lab import tools
from bench import machine, traces
from bench.machine import Machine
from bench.traces import FAMILIES, Trace

ATOLL: Final = "atoll"
LIBRARY: Final = "libcachesim==0.3.5"
PEERS: Final = {
    "LRU": "lru",
    "Sieve": "sieve",
    "S3FIFO": "s3-fifo",
    "GDSF": "gdsf",
    "Belady": "belady",
}
"""libCacheSim's name of a policy → ours."""

SHARES: Final = (0.001, 0.01, 0.1)
_PIECE: Final = 20_000  # requests between two words about progress
_INSTALL_TIMEOUT_S: Final = 300.0

Say = Callable[[str], None]
Progress = Callable[[str, float], None]
"""Told what is under way, and which share of everything is done."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to run: a file, or synthetic families."""

    trace: Path | None = None
    trace_format: str = ""
    families: tuple[str, ...] = tuple(FAMILIES)
    requests: int = 200_000
    seed: int = 1
    shares: tuple[float, ...] = SHARES
    peers: bool = True


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One policy on one trace in one size."""

    trace: str
    share: float
    bytes: int
    policy: str
    object_hits: float
    byte_hits: float
    ns_per_request: float | None = None  # of Atoll's, whose simulation runs here


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """A trace."""

    name: str
    requests: int
    objects: int
    bytes: int


class EvictReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints. `means`: policy → its mean object and byte hits over all that was measured."""

    name: str = "evict"
    machine: Machine
    traces: tuple[Described, ...]
    results: tuple[Outcome, ...]
    means: dict[str, tuple[float, float]]
    left_out: dict[str, str]


def run(options: Options, say: Say, progress: Progress) -> EvictReport:
    """The whole comparison.

    Raises:
        AtollError: a trace cannot be read, or an option means nothing.
    """
    if not options.shares or any(not 0 < share <= 1 for share in options.shares):
        raise AtollError("a cache's size is a share of the trace's bytes", hint="for example 0.1%,1%,10%")
    left_out: dict[str, str] = {}
    python = _peers_python(options, say, left_out)
    found: list[Outcome] = []
    described: list[Described] = []
    wanted: list[Path | str] = [options.trace] if options.trace is not None else [*options.families]
    for number, name in enumerate(wanted):
        done = _part(progress, number, len(wanted))
        done(f"{name}: reading", 0.0)
        trace = _trace(options, name)
        objects, size = trace.footprint()
        described.append(Described(name=trace.name, requests=len(trace), objects=objects, bytes=size))
        sizes = {share: max(1, int(size * share)) for share in options.shares}
        found += _own(trace, sizes, done)
        if python is not None:
            found += _others(python, trace, sizes, done, left_out)
    progress("", 1.0)
    return EvictReport(
        machine=machine.describe(),
        traces=tuple(described),
        results=tuple(found),
        means=_means(found),
        left_out=left_out,
    )


def _part(progress: Progress, number: int, count: int) -> Progress:
    """Progress of the `number`th of `count` traces."""
    return lambda what, share: progress(what, (number + share) / count)


def _trace(options: Options, name: Path | str) -> Trace:
    if isinstance(name, Path):
        return traces.read(name, options.trace_format)
    return traces.synthetic(name, options.requests, options.seed)


def _own(trace: Trace, sizes: dict[float, int], done: Progress) -> Iterator[Outcome]:
    for number, (share, size) in enumerate(sizes.items()):
        part = _part(lambda what, at: done(what, at / 2), number, len(sizes))
        hits, byte_hits, took_s = simulate(trace, size, partial(part, f"{trace.name}: {ATOLL}"))
        yield Outcome(
            trace=trace.name,
            share=share,
            bytes=size,
            policy=ATOLL,
            object_hits=hits,
            byte_hits=byte_hits,
            ns_per_request=took_s * 1e9 / len(trace),
        )


def simulate(
    trace: Trace, capacity: int, progress: Callable[[float], None] = lambda _: None
) -> tuple[float, float, float]:
    """Object hits, byte hits, and seconds that Atoll's policy took."""
    cache: S3Fifo[int] = S3Fifo(capacity)
    node_of, admit = cache.node, cache.admit
    hits = hit_bytes = asked_bytes = 0
    began_s = perf_counter()
    for index, (key, size) in enumerate(trace):
        if not index % _PIECE:
            progress(index / len(trace))
        asked_bytes += size
        node = node_of(key)
        if node is None:
            admit(key, size)
        else:
            node.freq += 1
            hits += 1
            hit_bytes += size
    return hits / len(trace), hit_bytes / asked_bytes, perf_counter() - began_s


def _others(
    python: Path, trace: Trace, sizes: dict[float, int], done: Progress, left_out: dict[str, str]
) -> Iterator[Outcome]:
    """libCacheSim's policies, in a process of their own."""
    shares = {size: share for share, size in sizes.items()}
    with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
        file = Path(folder) / "trace.oracleGeneral.bin"
        traces.write(trace, file)
        script = str(machine.ROOT / "bench/evict_peers.py")
        argv = [str(python), script, str(file), ",".join(PEERS), ",".join(map(str, shares))]
        done(f"{trace.name}: libCacheSim", 0.5)
        expected, seen = len(PEERS) * len(sizes), 0
        with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None, "a pipe was asked for"
            assert process.stderr is not None, "a pipe was asked for"
            for line in process.stdout:
                if not line.startswith("{"):
                    continue  # libCacheSim's own words
                told = json.loads(line)
                seen += 1
                done(f"{trace.name}: {PEERS[told['policy']]}", 0.5 + 0.5 * seen / expected)
                yield Outcome(
                    trace=trace.name,
                    share=shares[told["bytes"]],
                    bytes=told["bytes"],
                    policy=PEERS[told["policy"]],
                    object_hits=told["object_hits"],
                    byte_hits=told["byte_hits"],
                )
            words = process.stderr.read()
        if process.returncode or seen < expected:
            left_out[f"libcachesim/{trace.name}"] = words.strip()[-300:] or "it ended early"


def _peers_python(options: Options, say: Say, left_out: dict[str, str]) -> Path | None:
    """The Python that has libCacheSim: a virtual environment beside the other tools, made when missing."""
    if not options.peers:
        return None
    folder = tools.cache_folder(os.environ) / LIBRARY.replace("==", "-")
    python = folder / "bin/python"
    if (folder / "complete").exists():
        return python
    say(f"installing {LIBRARY} into {folder}")
    began_s = monotonic()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _call([sys.executable, "-m", "venv", str(folder)])
        _call([str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:", LIBRARY])
        _call([str(python), "-c", "import libcachesim"])
    except (OSError, AtollError) as error:
        left_out["libcachesim"] = f"{LIBRARY} cannot be installed: {error}"
        say(f"libcachesim: left out: {left_out['libcachesim']}")
        return None
    (folder / "complete").touch()
    say(f"installed in {monotonic() - began_s:.0f} s")
    return python


def _call(argv: Sequence[str]) -> None:
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S)
        if done.returncode:
            raise AtollError((done.stderr or done.stdout).strip()[-300:])
        return
    raise AtollError(f"{argv[0]} did not end within {_INSTALL_TIMEOUT_S:g} s")


def _means(found: Sequence[Outcome]) -> dict[str, tuple[float, float]]:
    means = {}
    for policy in (ATOLL, *PEERS.values()):
        own = [each for each in found if each.policy == policy]
        if own:
            hits = mean(each.object_hits for each in own), mean(each.byte_hits for each in own)
            means[policy] = (round(hits[0], 5), round(hits[1], 5))
    return means


def table(report: EvictReport) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for a person: object hits / byte hits in percent."""
    policies = list(report.means)
    cells = {
        (each.trace, each.share, each.policy): f"{each.object_hits:.1%} / {each.byte_hits:.1%}"
        for each in report.results
    }
    places = dict.fromkeys((each.trace, each.share) for each in report.results)
    rows = [
        [trace, f"{share:.1%}", *(cells.get((trace, share, policy), "") for policy in policies)]
        for trace, share in places
    ]
    rows.append(["mean", "", *(f"{one:.1%} / {other:.1%}" for one, other in report.means.values())])
    return ["trace", ">size", *(f">{policy}" for policy in policies)], rows
