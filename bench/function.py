"""What a function costs through Atoll: CPU of edge worker and workerd together, over bare workerd on TCP.

The same script, `export default {fetch() {return new Response("ok")}}`, runs twice: as a deployed version
behind an edge worker (its own sandboxed process, prelude, watchdog, logs and counters on) and in a workerd
that listens on TCP itself. The two take turns under the same load on the same core.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final, Protocol

import httpx
import msgspec

from atoll.config.spec import BundleManifest
from atoll.errors import AtollError
from atoll.functions.workers import bundle
from atoll.functions.workers.binaries import workerd_binary
from atoll.lab import tools
from atoll.node.hosts import Hosts
from atoll.wire.messages import EnsureHost
from bench import machine, objects
from bench.load import Ask, Generators, Load, Meter, Sample
from bench.machine import SERVER_CORE
from bench.report import ATOLL, Report, Result, Rounds, ratios, result, results
from bench.targets import FUNCTION, POP, AtollEdge, listen, start_origin, wait_listening

SCRIPT: Final = b'export default { fetch() { return new Response("ok") } }\n'
METRIC: Final = "function"
WORKERD: Final = "workerd"
_WARM_S: Final = 1.0
_DATE: Final = "2026-01-01"
_CONFIG: Final = f"""using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (modules = [(name = "worker.js", esModule = embed "worker.js")],
    compatibilityDate = "{_DATE}"))],
  sockets = [(name = "http", service = "main", http = ())]
);
"""

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to run."""

    rounds: int = 3
    seconds: float = 4.0


class Server(Protocol):
    """What answers, and whose CPU time counts."""

    name: str
    port: int

    def pids(self) -> Sequence[int]:
        """The processes whose CPU time counts."""


class Through:
    """Atoll: an edge worker and the function's host."""

    name = ATOLL

    def __init__(self, edge: AtollEdge, host: int) -> None:
        self.port = edge.http_port
        self._pids = (*edge.pids(), host)

    def pids(self) -> Sequence[int]:
        """See `Server.pids`."""
        return self._pids


class Bare:
    """workerd alone, on TCP."""

    name = WORKERD

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "worker.js").write_bytes(SCRIPT)
        (folder / "config.capnp").write_text(_CONFIG)
        self._socket = listen()
        self.port = self._socket.getsockname()[1]
        fd = self._socket.fileno()
        binary = str(workerd_binary(os.environ))
        argv = [binary, "serve", str(folder / "config.capnp"), "--socket-fd", f"http={fd}"]
        log = folder / "workerd.log"
        self._process = machine.start(SERVER_CORE, argv, log, fds=(fd,))
        wait_listening(self.port, WORKERD, self._process, log)

    def pids(self) -> Sequence[int]:
        """See `Server.pids`."""
        return (self._process.pid,)

    def stop(self) -> None:
        """End it."""
        machine.stop(self._process)
        self._socket.close()


def run(options: Options, say: Say) -> tuple[Report, Rounds]:
    """The whole benchmark.

    Raises:
        AtollError: a tool is missing, a server did not start, or an answer was wrong.
    """
    machine.require()
    wrk = tools.find_tools(("wrk",), tools.cache_folder(os.environ), say)["wrk"]
    taken = asyncio.run(_run(options, wrk, say))
    rounds = {METRIC: taken}
    report = Report(
        name="function",
        machine=machine.describe(),
        rounds=options.rounds,
        results=(*results(rounds), _overhead(taken)),
        ratios=ratios(rounds),
        notes={"versions": wrk.version("--version"), "overhead": _parts(taken)},
    )
    return report, rounds


def _overhead(taken: dict[str, list[Sample]]) -> Result:
    """CPU per request through Atoll as a multiple of bare workerd's: what the target is stated in."""
    pairs = zip(taken[ATOLL], taken[WORKERD], strict=True)
    return result(ATOLL, "overhead", "x workerd", [own.cpu_us / bare.cpu_us for own, bare in pairs])


def _parts(taken: dict[str, list[Sample]]) -> str:
    edge, host = (median(sample.parts[index] for sample in taken[ATOLL]) for index in (0, 1))
    return f"CPU per request, Atoll over workerd; edge {edge:.1f} µs, the function's host {host:.1f} µs"


async def _run(options: Options, wrk: tools.Tool, say: Say) -> dict[str, list[Sample]]:
    folder = Path(tempfile.mkdtemp(prefix="atoll-bench-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, True)
        servers: list[Server] = [await _start_atoll(folder, stack)]
        bare = Bare(folder / WORKERD)
        stack.callback(bare.stop)
        servers.append(bare)
        # The function's watchdog lives in this loop: the load is waited for in a thread.
        return await asyncio.to_thread(measure, servers, Generators(wrk, None, folder), options, say)


async def _start_atoll(folder: Path, stack: AsyncExitStack) -> Through:
    """A function host as a PoP's supervisor starts it, and an edge worker in front."""
    directory = folder / "bundle"
    manifest = BundleManifest(name=FUNCTION, main="worker.js", syntax="modules", compatibility_date=_DATE)
    bundle.unpack(bundle.pack(manifest, {"worker.js": SCRIPT}), directory)
    run = folder / "run" / POP
    run.mkdir(parents=True)
    bindings = socket.socket(socket.AF_UNIX)
    bindings.bind(str(run / "bindings.sock"))
    bindings.listen(128)
    hosts = Hosts(run, folder, POP)
    stack.push_async_callback(hosts.stop_all)
    with machine.on_core(SERVER_CORE):
        ready = await hosts.ensure(EnsureHost(id=f"default.{FUNCTION}.{'0' * 16}", bundle_dir=str(directory)))
    origin = start_origin(folder)
    stack.callback(origin.stop)
    edge = AtollEdge(folder, origin.ports["http"], ready.socket, {"bindings": bindings})
    stack.callback(edge.stop)
    return Through(edge, ready.pid)


def measure(
    servers: Sequence[Server], generators: Generators, options: Options, say: Say
) -> dict[str, list[Sample]]:
    """All rounds, servers in turn.

    Raises:
        AtollError: a server answers something else than the function does.
    """
    taken: dict[str, list[Sample]] = {server.name: [] for server in servers}
    for server in servers:
        _check(server)
        _load(generators, server, min(_WARM_S, options.seconds))
    for number in range(options.rounds):
        for server in servers:
            meter = Meter(server.pids())
            sample = meter.sample(_load(generators, server, options.seconds))
            taken[server.name].append(sample)
            rate = f"{sample.per_s:>9,.0f} req/s  {sample.cpu_us:6.2f} µs CPU/req"
            say(f"{METRIC:<12} round {number + 1}  {server.name:<7} {rate}")
    return taken


def _check(server: Server) -> None:
    answer = httpx.get(f"http://127.0.0.1:{server.port}/", headers={"host": objects.HOST}, trust_env=False)
    if (answer.status_code, answer.content) != (200, b"ok"):
        raise AtollError(f"{server.name} answers {answer.status_code} {answer.text[:80]!r}")


def _load(generators: Generators, server: Server, seconds: float) -> Load:
    return generators.h1(server.port, seconds, Ask(), tls=False)
