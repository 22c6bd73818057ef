"""How fast the model of the Internet chooses routes, beside BGPy on the same graph, and do both choose alike?

The graph is CAIDA's (`--as-rel FILE`, which users bring along) or a synthetic one of the real one's shape. A
plan is some origins of one prefix: large and small networks, drawn from a seed; in one of them origins
prepend. Atoll's time is the median of many runs after the first, which compiles; BGPy's is of one run. Both
leave loading the graph out, which is told apart.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

import msgspec
import numpy as np

from atoll.errors import AtollError
from atoll.internet.csr import CsrGraph
from atoll.internet.csr_file import load_as_rel
from atoll.internet.propagate import RELATIONS, Origin, Routes, propagate
from atoll.internet.synthetic import Shape, synthetic
from bench import machine

ORIGINS: Final = (1, 3, 10)  # of the plans without prepending
PREPENDED: Final = 3  # origins of the last plan, the first of which prepend 2 and 1 times
_PEER_TIMEOUT_S: Final = 600.0

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    as_rel: Path | None = None
    ases: int = 78_000
    rounds: int = 50
    seed: int = 1
    peers: bool = True


class PlanResult(msgspec.Struct, frozen=True, kw_only=True):
    """One plan. `agree`: the share of ASes with the same origin, length, next hop and relation in both."""

    origins: int
    prepends: bool
    atoll_ms: float
    atoll_least_ms: float
    atoll_most_ms: float
    reached: float  # share of ASes that have a route
    peer_routes: float  # share of those whose route is a peer's
    bgpy_ms: float | None = None
    times: float | None = None  # how many of Atoll's runs fit into BGPy's one
    agree: float | None = None


class CatchmentReport(msgspec.Struct, frozen=True, kw_only=True):
    """A run."""

    machine: machine.Machine
    graph: str
    ases: int
    links: int
    load_s: float  # Atoll's: from a file, or made
    bgpy_build_s: float | None
    plans: tuple[PlanResult, ...]
    left_out: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether BGPy, where it ran, chose alike everywhere."""
        return all(plan.agree in (None, 1.0) for plan in self.plans)


def run(options: Options, say: Say) -> CatchmentReport:
    """Both, one after the other.

    Raises:
        AtollError: a graph that cannot be read or made.
    """
    began_s = perf_counter()
    graph = (
        load_as_rel(options.as_rel) if options.as_rel else synthetic(options.seed, Shape(ases=options.ases))
    )
    load_s = perf_counter() - began_s
    plans = _plans(graph, options.seed)
    say(f"{graph.size:,} ASes; compiling")
    propagate(graph, [plans[0]])
    measured = [_timed(graph, plan, options.rounds) for plan in plans]
    left_out: dict[str, str] = {}
    told = _bgpy(graph, plans, say, left_out) if options.peers else None
    return CatchmentReport(
        machine=machine.describe(),
        graph=str(options.as_rel) if options.as_rel else f"synthetic, seed {options.seed}",
        ases=graph.size,
        links=(len(graph.providers.nodes) + len(graph.peers.nodes) // 2),
        load_s=round(load_s, 3),
        bgpy_build_s=round(told["build_s"], 2) if told else None,
        plans=tuple(
            _result(plan, routes, times_s, told["plans"][index] if told else None)
            for index, (plan, (routes, times_s)) in enumerate(zip(plans, measured, strict=True))
        ),
        left_out=left_out,
    )


def _plans(graph: CsrGraph, seed: int) -> list[list[Origin]]:
    """Origins of one plan each; every other is a network with many neighbours."""
    rng = np.random.Generator(np.random.PCG64(seed))
    degrees = np.diff(graph.providers.start) + np.diff(graph.customers.start) + np.diff(graph.peers.start)
    large = graph.asns[np.argsort(-degrees)[:500]]
    drawn: list[list[int]] = []
    for count in (*ORIGINS, PREPENDED):
        pool = [rng.choice(large if each % 2 else graph.asns) for each in range(count)]
        drawn.append(sorted({int(asn) for asn in pool}))
    plans = [[Origin(asn) for asn in asns] for asns in drawn]
    plans[-1] = [Origin(each.asn, prepend=max(0, 2 - at)) for at, each in enumerate(plans[-1])]
    return plans


def _timed(graph: CsrGraph, plan: Sequence[Origin], rounds: int) -> tuple[Routes, list[float]]:
    times = []
    for _ in range(rounds):
        began_s = perf_counter()
        routes = propagate(graph, [plan])
        times.append(perf_counter() - began_s)
    return routes, times


def _bgpy(
    graph: CsrGraph, plans: Sequence[Sequence[Origin]], say: Say, left_out: dict[str, str]
) -> dict[str, Any] | None:
    try:
        say("BGPy builds its graph and propagates")
        with tempfile.TemporaryDirectory(prefix="atoll-bench-") as folder:
            links, job = Path(folder) / "links", Path(folder) / "job.json"
            links.write_text("".join(_lines(graph)))
            origins = [[[each.asn, each.prepend] for each in plan] for plan in plans]
            job.write_text(json.dumps({"links": str(links), "plans": origins}))
            script = str(machine.ROOT / "bench/catchment_bgpy.py")
            said = _call([sys.executable, script, str(job)])
    except AtollError as error:
        left_out["bgpy"] = error.message
        say(f"BGPy: left out: {error.message}")
        return None
    told: dict[str, Any] = json.loads(said.splitlines()[-1])
    return told


def _call(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PEER_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise AtollError(f"it did not end within {_PEER_TIMEOUT_S:g} s") from None
    if done.returncode:
        raise AtollError((done.stderr or done.stdout).strip()[-300:], "`make dev` installs what it needs")
    return done.stdout


def _lines(graph: CsrGraph) -> list[str]:
    """As CAIDA writes them."""
    lines = []
    for row, asn in enumerate(graph.asns.tolist()):
        for customer in graph.customers.nodes[graph.customers.start[row] : graph.customers.start[row + 1]]:
            lines.append(f"{asn}|{graph.asns[customer]}|-1\n")
        for peer in graph.peers.nodes[graph.peers.start[row] : graph.peers.start[row + 1]]:
            if row < peer:
                lines.append(f"{asn}|{graph.asns[peer]}|0\n")
    return lines


def _result(
    plan: Sequence[Origin], routes: Routes, times_s: Sequence[float], told: list[Any] | None
) -> PlanResult:
    reached = routes.origin[0] >= 0
    peers = routes.relation[0] == RELATIONS.index("peer")
    typical_ms = median(times_s) * 1000
    return PlanResult(
        origins=len(plan),
        prepends=any(each.prepend for each in plan),
        atoll_ms=round(typical_ms, 2),
        atoll_least_ms=round(min(times_s) * 1000, 2),
        atoll_most_ms=round(max(times_s) * 1000, 2),
        reached=round(float(reached.mean()), 4),
        peer_routes=round(float(peers.sum() / max(1, reached.sum())), 4),
        bgpy_ms=round(told[0] * 1000, 1) if told else None,
        times=round(told[0] * 1000 / typical_ms) if told else None,
        agree=_agreement(routes, told[1]) if told else None,
    )


def _agreement(routes: Routes, theirs: list[list[Any]]) -> float:
    """The share of all ASes, with a route or without, that BGPy says the same of."""
    graph, plan = routes.graph, routes.plan[0]
    said = {each[0]: tuple(each[1:]) for each in theirs}
    same = 0
    for row, asn in enumerate(graph.asns.tolist()):
        origin = int(routes.origin[0, row])
        ours = None
        if origin >= 0:
            ours = (
                plan[origin].asn,
                int(routes.length[0, row]),
                int(graph.asns[routes.next_hop[0, row]]),
                RELATIONS[routes.relation[0, row]],
            )
        same += ours == said.get(asn)
    return same / graph.size


def table(report: CatchmentReport) -> tuple[list[str], list[list[str]]]:
    """Head and rows."""
    head = [
        ">origins",
        "prepending",
        ">ms",
        ">least",
        ">most",
        ">BGPy ms",
        ">times",
        ">alike",
        ">have a route",
    ]
    rows = [
        [
            str(plan.origins),
            "yes" if plan.prepends else "",
            f"{plan.atoll_ms:.2f}",
            f"{plan.atoll_least_ms:.2f}",
            f"{plan.atoll_most_ms:.2f}",
            "" if plan.bgpy_ms is None else f"{plan.bgpy_ms:,.0f}",
            "" if plan.times is None else f"{plan.times:,.0f}",
            "" if plan.agree is None else f"{plan.agree:.2%}",
            f"{plan.reached:.1%}",
        ]
        for plan in report.plans
    ]
    return head, rows
