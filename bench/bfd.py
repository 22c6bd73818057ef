"""BFD beside BIRD and FRR: does a session stay up under load, and how soon is a silent router found?

Two routers in namespaces of their own, each with an IPv4 and an IPv6 session to our end, 50 ms × 3. First all
cores are kept busy for some minutes, in which no session may change. Then the routers are stopped (SIGSTOP: a
machine that falls silent with its link up) again and again, at any moment between two of their packets.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from selectors import EVENT_READ, DefaultSelector
from time import monotonic, sleep
from typing import Any, Final

import msgspec

from atoll.errors import AtollError
from atoll.lab import tools
from atoll.lab.netns import Netlab
from atoll.lab.routers import Bird, Frr
from bench.bfd_end import Said

INTERVAL_MS: Final = 50
MULTIPLIER: Final = 3
UP_S: Final = 15.0
DOWN_S: Final = 10.0
SETTLE_S: Final = 0.5
BURNERS: Final = 2  # busy processes for each core
ROUTERS: Final = {"bird": ("10.0.0.2", "fd00::2"), "frr": ("10.0.1.2", "fd00:1::2")}
OURS: Final = {"bird": ("10.0.0.1", "fd00::1"), "frr": ("10.0.1.1", "fd00:1::1")}

BIRD: Final = """\
router id 10.0.0.2;
protocol device {{}}
protocol bfd {{
  interface "*" {{ interval {interval} ms; multiplier {multiplier}; }};
  neighbor 10.0.0.1;
  neighbor fd00::1;
}}
"""
FRR: Final = """\
bfd
 profile fast
  detect-multiplier {multiplier}
  receive-interval {interval}
  transmit-interval {interval}
 exit
 peer 10.0.1.1
  profile fast
 exit
 peer fd00:1::1
  profile fast
 exit
exit
"""

Say = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how often."""

    minutes: float = 10.0
    trials: int = 20
    routers: tuple[str, ...] = tuple(ROUTERS)
    seed: int = 1


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A router's sessions under load, and how soon its silence was noticed."""

    router: str
    version: str
    minutes: float
    changes_under_load: int  # of all its sessions, once they were up
    trials: int
    missed: int  # silences that were not noticed in time, or after which a session did not come back
    detection_p50_ms: float
    detection_max_ms: float
    detection_min_ms: float
    detections_ms: tuple[float, ...]


class _End:
    """Our end's words, as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._stdout = process.stdout
        os.set_blocking(self._stdout.fileno(), False)
        self._selector = DefaultSelector()
        self._selector.register(self._stdout, EVENT_READ)
        self._rest = b""
        self._waiting: deque[Said] = deque()

    def said(self, until_s: float) -> Iterator[Said]:
        """Changes until a time."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if not self._selector.select(max(0.0, until_s - monotonic())):
                return
            read = self._stdout.read()
            if read == b"":
                raise AtollError("our end of the sessions died")
            *lines, self._rest = (self._rest + (read or b"")).split(b"\n")
            self._waiting.extend(msgspec.json.decode(line, type=Said) for line in lines)

    def wait(self, states: dict[str, str], limit_s: float) -> dict[str, float]:
        """When each peer of `states` came to the state it says there, for those that did in time."""
        when: dict[str, float] = {}
        for said in self.said(monotonic() + limit_s):
            if said.after == states.get(said.peer):
                when[said.peer] = said.at_s
            if len(when) == len(states):
                break
        return when


def run(options: Options, say: Say) -> tuple[Held, ...]:
    """Both phases.

    Raises:
        AtollError: no namespaces or routers to be had, or a session that never comes up.
    """
    wanted = {"bird": ("bird",), "frr": ("zebra", "bfdd")}
    names = [name for router in options.routers for name in wanted[router]]
    found = tools.find_tools(names, tools.cache_folder(os.environ), say)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        lab = stack.enter_context(Netlab())
        lab.add("pop")
        routers = {name: _start(lab, name, Path(scratch) / name, found, stack) for name in options.routers}
        end = _End(_ours(lab, options.routers, stack))
        peers = [peer for name in options.routers for peer in ROUTERS[name]]
        up = end.wait(dict.fromkeys(peers, "UP"), UP_S)
        if len(up) < len(peers):
            raise AtollError(f"only {len(up)} of {len(peers)} sessions came up")
        say(f"{len(peers)} sessions up; {options.minutes:g} minutes with all cores busy")
        with _all_cores_busy():
            changes = [said.peer for said in end.said(monotonic() + options.minutes * 60)]
        held = []
        for name in options.routers:
            say(f"{name}: silent {options.trials} times")
            trials = tuple(_trials(end, routers[name], ROUTERS[name], options))
            held.append(_summed(name, found, changes, trials, options))
        return tuple(held)


def _start(
    lab: Netlab, name: str, folder: Path, found: dict[str, tools.Tool], stack: ExitStack
) -> Callable[[signal.Signals], None]:
    """A router; what sends it a signal."""
    lab.add(name)
    ours, theirs = OURS[name], ROUTERS[name]
    lab.link(
        "pop", name, [f"{ours[0]}/30", f"{ours[1]}/64"], [f"{theirs[0]}/30", f"{theirs[1]}/64"]
    )  # fmt: skip
    figures = {"interval": INTERVAL_MS, "multiplier": MULTIPLIER}
    if name == "bird":
        bird = Bird(lab, name, folder, found, BIRD.format(**figures))
        stack.callback(bird.stop)
        return bird.signal
    frr = Frr(lab, name, folder, found, {"bfdd": FRR.format(**figures)})
    stack.callback(frr.stop)
    return lambda number: frr.signal("bfdd", number)


def _ours(lab: Netlab, routers: tuple[str, ...], stack: ExitStack) -> subprocess.Popen[bytes]:
    pairs = [
        f"{ours}={theirs}" for name in routers for ours, theirs in zip(OURS[name], ROUTERS[name], strict=True)
    ]
    process = lab.start(
        "pop", sys.executable, "-m", "bench.bfd_end", str(INTERVAL_MS), *pairs, stdout=subprocess.PIPE
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def _trials(
    end: _End, send: Callable[[signal.Signals], None], peers: tuple[str, ...], options: Options
) -> Iterator[dict[str, float]]:
    """For each trial how many ms each session took to notice; fewer than all where one did not."""
    chance = Random(options.seed)
    for _ in range(options.trials):
        sleep(SETTLE_S + chance.random() * INTERVAL_MS / 1000)
        silent_s = monotonic()
        send(signal.SIGSTOP)
        down = end.wait(dict.fromkeys(peers, "DOWN"), DOWN_S)
        send(signal.SIGCONT)
        up = end.wait(dict.fromkeys(peers, "UP"), UP_S)
        complete = len(down) == len(peers) == len(up)
        yield {peer: (at_s - silent_s) * 1000 for peer, at_s in down.items()} if complete else {}


def _summed(
    name: str,
    found: dict[str, tools.Tool],
    changes: list[str],
    trials: tuple[dict[str, float], ...],
    options: Options,
) -> Held:
    noticed = sorted(took_ms for trial in trials for took_ms in trial.values()) or [float("nan")]
    mine = set(ROUTERS[name])
    return Held(
        router=name,
        version=found["bird" if name == "bird" else "bfdd"].version("--version"),
        minutes=options.minutes,
        changes_under_load=sum(peer in mine for peer in changes),
        trials=len(trials),
        missed=sum(not trial for trial in trials),
        detection_p50_ms=noticed[len(noticed) // 2],
        detection_max_ms=noticed[-1],
        detection_min_ms=noticed[0],
        detections_ms=tuple(round(took_ms, 1) for took_ms in noticed),
    )


@contextmanager
def _all_cores_busy() -> Iterator[None]:
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range(BURNERS * len(os.sched_getaffinity(0)))
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def table(held: tuple[Held, ...]) -> tuple[list[str], list[list[Any]]]:
    """For people."""
    columns = ["router", "version", ">minutes busy", ">changes", ">silent", ">missed", ">p50 ms", ">max ms"]
    rows: list[list[Any]] = [
        [
            each.router,
            each.version,
            f"{each.minutes:g}",
            str(each.changes_under_load),
            str(each.trials),
            str(each.missed),
            f"{each.detection_p50_ms:.0f}",
            f"{each.detection_max_ms:.0f}",
        ]
        for each in held
    ]
    return columns, rows
