"""The anycast role of a PoP: `python -m atoll.node.anycast`.

It looks four times a second whether the PoP serves, lets the pure policy decide what to announce, and has
the speaker do it. The operator's intent comes in over `anycast.sock` and is kept on disk,
so a drained PoP stays drained over a restart. Told to end, it withdraws, waits for the proof and leaves;
killed, its session ends and the routes with it. A successor looks first and speaks when its predecessor has
left; the neighbour keeps the routes in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from time import time
from typing import Final, Protocol

import msgspec
import uvloop

from atoll.anycast.emulated import EmulatedSpeaker, Liveness
from atoll.anycast.health import Health, HealthLimits, forgiven, observe, resumed
from atoll.anycast.journal import Journal
from atoll.anycast.policy import DRAINED, Decision, Inputs, PolicyLimits, changes, policy
from atoll.anycast.probe import Finding
from atoll.anycast.speaker import (
    Announcement,
    RouteAcknowledged,
    RouteWithdrawn,
    SessionUp,
    Speaker,
    SpeakerEvent,
)
from atoll.config.spec import NetworkSpec
from atoll.errors import AtollError
from atoll.node.anycast_disk import AnycastDisk, Intent
from atoll.node.anycast_look import Looks
from atoll.node.leaving import LEAVE
from atoll.node.role import RoleConfig, notify_ready, predecessor, read_role, until_gone
from atoll.wire import frames
from atoll.wire.messages import AnycastStatus, ForgiveFalls, GetAnycast, Message, Ok, SetIntent

CHECK_INTERVAL_S: Final = 0.25
STEADY_S: Final = 3.0  # for a successor to find that its PoP serves
PREDECESSOR_S: Final = 4.0  # for the predecessor to leave
RESTART_S: Final = 5.0  # for the neighbour to keep routes whose speaker restarts


def describe(event: SpeakerEvent) -> str:
    """An event as people read it."""
    if isinstance(event, SessionUp):
        return f"{event.neighbor} session up".lstrip()
    if isinstance(event, RouteAcknowledged):
        route = event.announcement
        extra = f" prepend {route.prepend}" if route.prepend else ""
        return f"{route.prefix} announced{extra} {' '.join(route.communities)}".rstrip()
    if isinstance(event, RouteWithdrawn):
        return f"{event.prefix} withdrawn"
    return f"{event.neighbor} session down: {event.reason}".lstrip()


class Looking(Protocol):
    """What finds out whether the service serves."""

    async def look(self) -> Finding:
        """What is so now."""


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """The operator's figures."""

    policy: PolicyLimits = PolicyLimits()
    health: HealthLimits = HealthLimits()
    interval_s: float = CHECK_INTERVAL_S
    plain: Announcement | None = None  # what every route is announced with; its prefix says nothing
    permit: bool = False  # whether failing checks withdraw, rather than prepend


class Role:
    """Health in, routes out. `name` is for people; `seen` is what a successor has seen of the service."""

    def __init__(
        self,
        name: str,
        prefixes: tuple[str, ...],
        disk: AnycastDisk,
        looks: Looking,
        terms: Terms | None = None,
        seen: Health | None = None,
    ) -> None:
        self._name = name
        self._terms = terms or Terms()
        self._looks = looks
        self._prefixes = prefixes
        self._disk = disk
        self._intent = disk.intent()
        kept = disk.damping()
        self._health = resumed(
            kept.penalty, kept.suppressed, kept.checked_s, kept.up, time(), self._terms.health
        )
        if seen is not None and not self._health.suppressed:
            self._health = msgspec.structs.replace(self._health, state=seen.state, passes=seen.passes)
        self._decision = Decision(announcements=(), reason="starting")
        self._asked: tuple[Announcement, ...] = ()
        self._acting = asyncio.Lock()
        self._journal = Journal()
        self.speaker: Speaker | None = None

    def on_event(self, event: SpeakerEvent) -> None:
        """Something happened to the speaker's session or routes."""
        self.note(describe(event))

    def note(self, text: str) -> None:
        """Remember and log."""
        sys.stdout.write(self._journal.add(time(), text) + "\n")
        sys.stdout.flush()

    async def watch(self) -> None:
        """Check and act until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + self._terms.interval_s
            self.take(await self._looks.look())
            await self.act()
            await asyncio.sleep(max(0.0, due_s - loop.time()))

    def take(self, finding: Finding) -> None:
        """Let one more look count."""
        before = self._health.state
        self._health = observe(self._health, finding.verdict, time(), self._terms.health)
        if self._health.state != before:
            self.note(f"health {before} -> {self._health.state}: {finding.detail}")
            self._keep_damping()

    def _keep_damping(self, *, leaving: bool = False) -> None:
        try:
            self._disk.keep_damping(self._health, leaving=leaving)
        except AtollError as error:  # it is forgotten with this process, which is no reason to end it
            self.note(str(error))

    async def act(self) -> None:
        """Have the speaker say what policy wants said."""
        async with self._acting:
            inputs = Inputs(
                prefixes=self._prefixes,
                health=self._health,
                drain_since_s=self._intent.drain_since_s,
                drained=self._intent.drained,
                permit=self._terms.permit,
                limits=self._terms.policy,
            )
            decision = policy(inputs, time())
            if decision.reason == DRAINED and not self._intent.drained:
                self._keep_intent(msgspec.structs.replace(self._intent, drained=True))
            if decision.reason != self._decision.reason:
                self.note(f"policy: {decision.reason}")
            self._decision = decision
            await self._apply(tuple(amended(each, self._terms.plain) for each in decision.announcements))

    async def _apply(self, wanted: tuple[Announcement, ...]) -> None:
        assert self.speaker is not None
        todo = changes(self._asked, wanted)
        for prefix in todo.withdraw:
            await self._withdraw(prefix)
        for announcement in todo.announce:
            try:
                await self.speaker.announce(announcement)
            except AtollError as error:
                self.note(f"{announcement.prefix} not announced: {error}")
                continue
            others = tuple(old for old in self._asked if old.prefix != announcement.prefix)
            self._asked = (*others, announcement)

    async def _withdraw(self, prefix: str) -> None:
        assert self.speaker is not None
        try:
            await self.speaker.withdraw(prefix)
        except AtollError as error:
            self.note(f"{prefix} not proven withdrawn: {error}")
            return
        self._asked = tuple(old for old in self._asked if old.prefix != prefix)

    async def answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        """Serve `anycast.sock`."""
        if isinstance(message, SetIntent):
            await self.set_intent(message.drain)
            return Ok()
        if isinstance(message, ForgiveFalls):
            self.forgive()
            await self.act()
            return Ok()
        if isinstance(message, GetAnycast):
            return self.status()
        return None

    async def set_intent(self, drain: bool) -> None:
        """Keep what the operator wants, and act on it."""
        if drain != (self._intent.drain_since_s is not None):
            intent = Intent(drain_since_s=time() if drain else None)
            self._disk.keep_intent(intent)
            self._intent = intent
            self.note("operator: drain" if drain else "operator: undrain")
        if not drain:
            self.forgive()
        await self.act()

    def forgive(self) -> None:
        """Forget how often it fell, because the operator wants it announced."""
        if self._health.suppressed:
            self.note("operator: falls forgiven")
        self._health = forgiven(self._health)
        self._keep_damping()

    def _keep_intent(self, intent: Intent) -> None:
        self._intent = intent
        try:
            self._disk.keep_intent(intent)
        except AtollError as error:  # the clock will say the same again after a restart
            self.note(str(error))

    def status(self) -> AnycastStatus:
        """What is announced and why."""
        held = self.speaker.acknowledged if self.speaker is not None else ()
        return AnycastStatus(
            pop=self._name,
            healthy=self._health.state == "up",
            drain=self._intent.drain_since_s is not None,
            announced=tuple(route.prefix for route in held),
            session_up=self.speaker is not None and self.speaker.session_up,
            prepend=max((route.prepend for route in held), default=0),
            communities=tuple(sorted({text for route in held for text in route.communities})),
            reason=self._decision.reason,
            events=self._journal.lines,
        )

    async def hand_over(self) -> None:
        """End in favour of a successor: the routes stay."""
        assert self.speaker is not None
        async with self._acting:
            self._keep_damping(leaving=True)
            try:
                await self.speaker.hand_over(RESTART_S)
            except AtollError as error:
                self.note(f"the routes are withdrawn meanwhile: {error}")
            else:
                return
        await self.leave()

    async def leave(self) -> None:
        """Withdraw everything, with proof, and end the session."""
        assert self.speaker is not None
        async with self._acting:
            for announcement in self._asked:
                await self._withdraw(announcement.prefix)
        await self.speaker.close()
        self._keep_damping(leaving=True)


def amended(announcement: Announcement, plain: Announcement | None) -> Announcement:
    """What policy wants announced, with what its service is announced with in any case."""
    if plain is None:
        return announcement
    return msgspec.structs.replace(
        announcement,
        prepend=max(announcement.prepend, plain.prepend),
        med=plain.med,
        communities=(*plain.communities, *announcement.communities),
        large_communities=plain.large_communities,
        actions=plain.actions,
    )


def read_prefixes(config: RoleConfig) -> tuple[str, ...]:
    """What the network announces.

    Raises:
        AtollError: the network's spec cannot be read.
    """
    path = config.paths.network_file
    try:
        return msgspec.json.decode(path.read_bytes(), type=NetworkSpec).prefixes
    except OSError as error:
        raise AtollError(f"no network to announce: {error.strerror}", where=str(path)) from error
    except msgspec.MsgspecError as error:
        raise AtollError(f"not a network: {error}", where=str(path)) from error


def read_liveness(config: RoleConfig) -> Liveness:
    """How often the speaker says that it lives; the options `keepalive_s` and `keepalive_multiplier`."""
    usual = Liveness()
    return Liveness(
        interval_s=float(config.options.get("keepalive_s", usual.interval_s)),
        multiplier=int(config.options.get("keepalive_multiplier", usual.multiplier)),
    )


async def until_steady(looks: Looks, patience_s: float = STEADY_S) -> Health:
    """The health after as many looks as it takes to find that the PoP serves, or in so long."""
    health, limits = Health(), HealthLimits()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            while health.state == "starting":
                health = observe(health, (await looks.look()).verdict, time(), limits)
                await asyncio.sleep(CHECK_INTERVAL_S / 5)
    return health


async def serve(config: RoleConfig) -> None:
    """The role, until it is told to stop."""
    pop = config.pop
    assert pop is not None
    paths = config.paths
    window_s = float(config.options.get("drain_window_s", PolicyLimits().drain_window_s))
    looks = Looks(pop, paths.pop_run(pop.code) / "supervisor.sock")
    stop, leave = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().add_signal_handler(LEAVE, leave.set)
    seen, before = None, predecessor(os.environ)
    if before:
        seen = await until_steady(looks)
        notify_ready()  # it is told to leave
        await until_gone(before, PREDECESSOR_S)
    role = Role(
        pop.code,
        read_prefixes(config),
        AnycastDisk(paths.pop_data(pop.code)),
        looks,
        Terms(policy=PolicyLimits(drain_window_s=window_s)),
        seen=seen,
    )
    role.speaker = EmulatedSpeaker(
        paths.internet_socket, pop.code, pop.asn, role.on_event, liveness=read_liveness(config)
    )
    await role.speaker.open()
    server = await frames.serve(paths.pop_run(pop.code) / "anycast.sock", role.answer)
    gc.collect()
    gc.freeze()
    notify_ready()
    ending = [asyncio.create_task(event.wait()) for event in (stop, leave)]
    watcher = asyncio.create_task(role.watch())
    await asyncio.wait((*ending, watcher), return_when=asyncio.FIRST_COMPLETED)
    if watcher.done():  # it never returns: whatever ended it ends the role, and the session with it
        watcher.result()
    watcher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watcher
    await (role.leave() if stop.is_set() else role.hand_over())
    server.close()


def main() -> None:
    """Entry point."""
    try:
        uvloop.run(serve(read_role(os.environ)))
    except AtollError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
