"""What HTTP/3 costs: CPU of the edge worker per cached hit, per MB of a body and per handshake.

`python -m bench.h3`, or `atoll bench h3`. The worker runs as a PoP's supervisor would start it, on a core of
its own; the load comes from an independent client on another core. That client is no faster than the server,
so the core is rarely full: the CPU time per request is the number to compare, the rate only says that it was.
"""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from atoll.control.certificates import ensure_leaves
from atoll.errors import AtollError
from atoll.node.listeners import bind_udp, port_of
from atoll.node.role import ROLE_VARIABLE, RoleConfig
from bench import machine, objects
from bench.h3_load import Done, Plan
from bench.machine import LOAD_CORE, SERVER_CORE
from bench.targets import POP, Started, edge_snapshot, start_origin

_LARGE: Final = 1 << 20
_WAIT_S: Final = 60.0


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for, and by how many at once."""

    name: str
    size: int = objects.SIZE
    connections: int = 1
    streams: int = 1  # a client that keeps many more open runs into the server's limit now and then
    handshakes: int = 0
    per: str = "request"


METRICS: Final = (
    Metric(name="one at a time"),
    Metric(name="16 streams", streams=16),
    Metric(name="4 connections, 16 streams each", connections=4, streams=16),
    Metric(name="16 connections, 4 streams each", connections=16, streams=4),
    Metric(name="1 MiB, 4 streams", size=_LARGE, streams=4, per="MB"),
    Metric(name="handshakes", handshakes=100, per="handshake"),
)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """Of one metric: medians of the rounds."""

    metric: str
    per: str
    cpu_us: float  # of the edge worker
    least_us: float
    most_us: float
    per_s: float


def run(rounds: int, seconds: float, say: Callable[[str], None]) -> tuple[Cost, ...]:
    """Measure everything.

    Raises:
        AtollError: the machine cannot tell, a server did not start, or a body was wrong.
    """
    machine.require()
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="atoll-bench-"))
        stack.callback(shutil.rmtree, folder, True)
        origin = start_origin(folder)
        stack.callback(origin.stop)
        worker, port = _start_worker(folder, origin.ports["http"])
        stack.callback(worker.stop)
        return tuple(_measure(metric, port, worker.process.pid, rounds, seconds, say) for metric in METRICS)


def table(costs: tuple[Cost, ...]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows."""
    rows: list[tuple[str, ...]] = [
        (c.metric, c.per, f"{c.cpu_us:.0f}", f"{c.least_us:.0f}", f"{c.most_us:.0f}", f"{c.per_s:,.0f}")
        for c in costs
    ]
    return ("metric", "of a", ">µs CPU", ">least", ">most", ">per s"), rows


def _start_worker(folder: Path, origin_port: int) -> tuple[Started, int]:
    snapshot = edge_snapshot(origin_port)
    snapshot = msgspec.structs.replace(snapshot, pop=msgspec.structs.replace(snapshot.pop, http3=True))
    home, run = folder / "home", folder / "run"
    data = home / "pops" / POP
    data.mkdir(parents=True)
    (run / POP).mkdir(parents=True)
    (data / "snapshot.msgpack").write_bytes(msgspec.msgpack.encode(snapshot))
    ensure_leaves(home / "ca", ["localhost", objects.HOST], dt.datetime.now(dt.UTC))
    udp = bind_udp("127.0.0.1", 0)
    config = RoleConfig(
        role="edge",
        home=str(home),
        run=str(run),
        token=str(home / "token"),
        pop=snapshot.pop,
        index=snapshot.pop.workers,
    )
    env = {ROLE_VARIABLE: msgspec.json.encode(config).decode()}
    worker = Started(SERVER_CORE, "atoll.node.edge", folder / "edge.log", (), env, {"quic": udp})
    return worker, port_of(udp)


def _measure(
    metric: Metric, port: int, pid: int, rounds: int, seconds: float, say: Callable[[str], None]
) -> Cost:
    plan = Plan(
        port=port,
        host=objects.HOST,
        path=objects.path(7, metric.size),
        body=objects.body(7, metric.size).decode(),
        connections=metric.connections,
        streams=metric.streams,
        seconds=seconds,
        handshakes=metric.handshakes,
    )
    costs, rates = [], []
    for number in range(rounds):
        done, cpu_s = _load(plan, pid)
        if done.wrong or not done.requests:
            raise AtollError(f"{metric.name}: {done.wrong} wrong answers of {done.requests}")
        count = done.requests * (metric.size / 1e6 if metric.per == "MB" else 1)
        costs.append(cpu_s / count * 1e6)
        rates.append(count / done.seconds)
        say(f"{metric.name}, round {number + 1}: {costs[-1]:.0f} µs CPU a {metric.per}")
    return Cost(
        metric=metric.name,
        per=metric.per,
        cpu_us=median(costs),
        least_us=min(costs),
        most_us=max(costs),
        per_s=median(rates),
    )


def _load(plan: Plan, pid: int) -> tuple[Done, float]:
    """What was done, and the worker's CPU seconds between the two marks."""
    argv = [sys.executable, "-m", "bench.h3_load"]
    with machine.on_core(LOAD_CORE):
        process = subprocess.Popen(
            argv, cwd=machine.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert process.stdin is not None
    assert process.stdout is not None
    marks: list[float] = []
    process.stdin.write(msgspec.json.encode(plan).decode() + "\n")
    process.stdin.flush()
    try:
        for line in process.stdout:
            if line.strip() != "mark":
                return msgspec.json.decode(line, type=Done), marks[1] - marks[0]
            marks.append(machine.cpu_s(pid))
            process.stdin.write("\n")
            process.stdin.flush()
        raise AtollError("the load generator ended without a result")
    finally:
        process.wait(_WAIT_S)
