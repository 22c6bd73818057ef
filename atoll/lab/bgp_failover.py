"""A PoP leaves the Internet of real routers: what its users notice.

Users of its cities probe the anycast address every few milliseconds over UDP. Then the PoP leaves in one of
several ways, and its users are answered by another. A user's outage is the longest time between two of his
probes that were answered with others lost in between, less the interval between probes: what he was without,
wherever the fault was. BGP's own convergence is not what is measured.

| event | what is done |
|---|---|
| `withdraw` | `atoll anycast` is told to end: it withdraws in order; the service goes on |
| `kill` | the announcer and its speaker are killed; connections close, the service goes on |
| `silent` | all processes of the PoP stop, as a machine without power: nobody is told; BFD finds out |
| `hold` | the same without BFD: BGP's hold timer finds out |
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Final, Literal

import msgspec

from atoll.errors import AtollError
from atoll.internet.routing import propagate
from atoll.internet.world import World, default_world
from atoll.lab.router_net import SERVICE_PORT, RouterNet, Say, Site, User
from atoll.lab.router_plan import Timers
from atoll.lab.routers import Bird

Event = Literal["withdraw", "kill", "silent", "hold"]
Driver = Literal["exabgp", "bird"]
EVENTS: Final[tuple[Event, ...]] = ("withdraw", "kill", "silent", "hold")
PREFIX: Final = "192.0.2.0/24"
ADDRESS: Final = "192.0.2.1"
INTERVAL_MS: Final = 2.0
HOLD_S: Final = 3
BEFORE_S: Final = 0.5
WATCH_S: Final[Mapping[Event, float]] = {
    "withdraw": 1.5,
    "kill": 1.5,
    "silent": 2.0,
    "hold": 3 * HOLD_S + 2.0,
}
BACK_S: Final = 30.0
MOST_CITIES: Final = 3  # probers take processor time from what is measured

_POLL_S: Final = 0.1


class Answer(msgspec.Struct, frozen=True):
    """A probe that was answered."""

    number: int
    sent_s: float
    received_s: float
    site: str


class Noticed(msgspec.Struct, frozen=True, kw_only=True):
    """What users of a city noticed of one event."""

    event: Event
    trial: int
    city: str
    outage_ms: float
    lost: int  # probes without an answer
    sent: int
    switched_ms: float | None  # from the event to the first answer of another PoP
    taken_over_by: str


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of event: over all trials and cities."""

    driver: str
    event: Event
    trials: int
    outage_p50_ms: float
    outage_max_ms: float
    switched_p50_ms: float
    switched_max_ms: float
    lost: int
    sent: int
    unserved: int  # trials of a city that nobody took over


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A run."""

    driver: str
    pop: str
    routers: int
    links: int
    as_the_model_says: int  # routers whose path is the model's, before anything happened
    up_s: float  # from nothing to all sessions up and all paths chosen
    summaries: tuple[Summary, ...]
    noticed: tuple[Noticed, ...]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What to do."""

    pop: str = "lhr"
    trials: int = 10
    events: tuple[Event, ...] = EVENTS
    driver: Driver = "exabgp"


def noticed(
    event: Event, trial: int, city: str, answers: Sequence[Answer], sent: int, event_s: float, before: str
) -> Noticed:
    """What answers tell of an event at `event_s`, before which `before` answered."""
    ordered = sorted(answers, key=lambda answer: answer.number)
    around = [answer for answer in ordered if answer.sent_s >= event_s - BEFORE_S / 2]
    outages_ms = [
        (after.sent_s - earlier.sent_s) * 1000 - INTERVAL_MS
        for earlier, after in pairwise(around)
        if after.number > earlier.number + 1  # a prober that was late itself has lost nothing
    ]
    others = sorted(
        (answer.received_s, answer.site)
        for answer in around
        if answer.site != before and answer.received_s > event_s
    )
    return Noticed(
        event=event,
        trial=trial,
        city=city,
        outage_ms=round(max(outages_ms, default=0.0), 2),
        lost=sent - len(ordered),
        sent=sent,
        switched_ms=round((others[0][0] - event_s) * 1000, 2) if others else None,
        taken_over_by=others[0][1] if others else "",
    )


def summed(driver: str, event: Event, found: Sequence[Noticed]) -> Summary:
    """One line for an event."""
    outages = [each.outage_ms for each in found] or [float("nan")]
    switched = [each.switched_ms for each in found if each.switched_ms is not None] or [float("nan")]
    return Summary(
        driver=driver,
        event=event,
        trials=len({each.trial for each in found}),
        outage_p50_ms=round(median(outages), 2),
        outage_max_ms=max(outages),
        switched_p50_ms=round(median(switched), 2),
        switched_max_ms=max(switched),
        lost=sum(each.lost for each in found),
        sent=sum(each.sent for each in found),
        unserved=sum(not each.taken_over_by for each in found),
    )


async def run(options: Options, say: Say, progress: Callable[[str, float], None]) -> Result:
    """All trials. Events that need BFD and those that need it gone have a network each.

    Raises:
        AtollError: no namespaces or routers to be had, or the network never comes up.
    """
    world = default_world()
    if options.pop not in world.pops:
        raise AtollError(f"no PoP {options.pop!r}", f"there are {', '.join(world.pops)}", "--pop")
    found: list[Noticed] = []
    facts: dict[str, float] = {}
    guarded = tuple(event for event in options.events if event != "hold")
    unguarded = tuple(event for event in options.events if event == "hold")
    plans = ((guarded, Timers()), (unguarded, Timers(bfd=False, hold_s=HOLD_S)))
    total = len(options.events) * options.trials
    for events, timers in plans:
        if not events:
            continue
        with _network(world, timers, say) as net:
            lab = _Lab(net, world, options)
            facts = await lab.start()
            for event in events:
                for trial in range(options.trials):
                    progress(f"{event} {trial + 1}", len({(n.event, n.trial) for n in found}) / total)
                    found += await lab.trial(event, trial)
    return Result(
        driver=options.driver,
        pop=options.pop,
        routers=int(facts["routers"]),
        links=len(world.graph.links),
        as_the_model_says=int(facts["same"]),
        up_s=round(facts["up_s"], 2),
        summaries=tuple(
            summed(options.driver, event, [each for each in found if each.event == event])
            for event in options.events
        ),
        noticed=tuple(found),
    )


def _network(world: World, timers: Timers, say: Say) -> RouterNet:
    sites = [Site(name=code, asn=asn) for code, asn in world.pops.items()]
    users = [
        User(
            city=each.city,
            asn=each.asn,
            prefix=f"{each.address4.rpartition('.')[0]}.0/24",
            address=each.address4,
        )
        for each in world.eyeballs
    ]
    return RouterNet(world.graph, sites, users, PREFIX, ADDRESS, timers, say)


class _Lab:
    """PoPs in a network, and users who probe."""

    def __init__(self, net: RouterNet, world: World, options: Options) -> None:
        self._net = net
        self._options = options
        self._model = propagate(world.graph, world.announcements())
        self._names = {asn: code for code, asn in world.pops.items()}
        self._services: dict[str, subprocess.Popen[bytes]] = {}
        self._announcers: dict[str, subprocess.Popen[bytes]] = {}
        self._birds: dict[str, Bird] = {}
        home = world.pops[options.pop]
        self._cities = [
            each.city for each in world.eyeballs if self._model[each.asn].origin == home
        ][:MOST_CITIES]  # fmt: skip
        if not self._cities:
            raise AtollError(f"{options.pop} has no users in this world", where="--pop")

    async def start(self) -> dict[str, float]:
        """Have all PoPs announced; what was found on the way."""
        began_s = monotonic()
        for code in self._names.values():
            self._serve(code)
            if self._options.driver == "bird":
                self._birds[code] = self._net.start_pop_bird(self._net.site(code))
            self._announce(code)
        await self._net.settle()
        same = await self._until_back()
        up_s = self._net.raised_s + monotonic() - began_s
        return {"up_s": up_s, "same": same, "routers": len(self._net.birds)}

    def _serve(self, code: str) -> None:
        log = self._net.folder / f"{code}.log"
        self._services[code] = self._net.start(
            self._net.site(code).asn, "atoll.lab.udp_echo", code, ADDRESS, str(SERVICE_PORT), log=log
        )

    def _announce(self, code: str) -> None:
        site, folder = self._net.site(code), self._net.folder
        file = folder / f"{code}.toml"
        file.write_text(self._net.anycast_file(site, self._options.driver))
        self._announcers[code] = self._net.start(
            site.asn, "atoll.cli.main", "anycast", "--state", str(folder / f"state-{code}"),
            "--config", str(file), log=folder / f"{code}.log",
        )  # fmt: skip

    async def _until_back(self) -> int:
        """Wait until every router's path is the model's; how many are, when it takes too long."""
        until_s = monotonic() + BACK_S
        while True:
            paths = await self._net.paths()
            same = sum(paths.get(asn) == self._model[asn].as_path for asn in self._net.birds)
            if same == len(self._net.birds) or monotonic() > until_s:
                return same
            await asyncio.sleep(_POLL_S)

    async def trial(self, event: Event, number: int) -> list[Noticed]:
        """One event; everything is as before when it returns.

        Raises:
            AtollError: the network did not come back to what it was.
        """
        code = self._options.pop
        probers = {city: self._probe(city) for city in self._cities}
        await asyncio.sleep(BEFORE_S * 2)
        event_s = monotonic()
        self._happen(event, code)
        await asyncio.sleep(WATCH_S[event])
        found = []
        for city, (process, log) in probers.items():
            answers, sent = await asyncio.to_thread(_finish, process, log)
            found.append(noticed(event, number, city, answers, sent, event_s, code))
        self._undo(event, code)
        same = await self._until_back()
        if same < len(self._net.birds):
            raise AtollError(
                f"{same} of {len(self._net.birds)} routers came back to their paths after {event}",
                (self._net.folder / f"{code}.log").read_text(errors="replace")[-500:],
            )
        return found

    def _probe(self, city: str) -> tuple[subprocess.Popen[bytes], Path]:
        user = self._net.user(city)
        log = self._net.folder / f"{city}.probes"
        log.write_bytes(b"")
        process = self._net.start(
            user.asn, "atoll.lab.udp_prober", user.address, ADDRESS, str(SERVICE_PORT), str(INTERVAL_MS),
            log=log, stdin=subprocess.PIPE,
        )  # fmt: skip
        return process, log

    def _happen(self, event: Event, code: str) -> None:
        announcer = self._announcers[code]
        if event == "withdraw":
            _signal(announcer.pid, signal.SIGTERM)
        elif event == "kill":
            for bird in self._own_bird(code):
                bird.signal(signal.SIGKILL)
            _signal_all(announcer.pid, signal.SIGKILL)
        else:
            self._signal_pop(code, signal.SIGSTOP)

    def _own_bird(self, code: str) -> tuple[Bird, ...]:
        return (self._birds[code],) if code in self._birds else ()

    def _signal_pop(self, code: str, number: signal.Signals) -> None:
        """Everything that runs at a PoP: the service first, as users see it."""
        _signal_all(self._services[code].pid, number)
        for bird in self._own_bird(code):
            bird.signal(number)
        _signal_all(self._announcers[code].pid, number)

    def _undo(self, event: Event, code: str) -> None:
        if event not in ("withdraw", "kill"):
            self._signal_pop(code, signal.SIGCONT)
            return
        self._announcers[code].wait()
        if event == "kill":
            for bird in self._own_bird(code):
                bird.restart()
        self._announce(code)


def _finish(process: subprocess.Popen[bytes], log: Path) -> tuple[list[Answer], int]:
    """End a prober; what it was answered, and how often it asked."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    answers, sent = [], 0
    for line in log.read_text().splitlines():
        words = line.split()
        if words[0] == "sent":
            sent = int(words[1])
        else:
            answers.append(Answer(int(words[0]), float(words[1]), float(words[2]), words[3]))
    return answers, sent


def _signal_all(pid: int, number: signal.Signals) -> None:
    """A process and all below it, the children first: a parent that is told first could act on it."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        below = [int(word) for word in children.read_text().split()]
    except OSError:
        return
    for child in below:
        _signal_all(child, number)
    _signal(pid, number)


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
