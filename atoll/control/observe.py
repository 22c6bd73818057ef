"""The network as it is: asks the daemon, the emulated Internet and each PoP, and tells what it is told.

Nobody who does not answer holds up the rest: what is not known is reported as unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import Final, TypeVar

from atoll.config.paths import Paths
from atoll.config.spec import NetworkSpec, PopSpec
from atoll.control.answers import Pop, PopAction, Status
from atoll.control.presence import Presence
from atoll.control.specs import Specs
from atoll.control.status import announces, degraded
from atoll.errors import AtollError, RemoteError
from atoll.wire import frames
from atoll.wire.messages import (
    AnycastStatus,
    CatchmentTable,
    ForgiveFalls,
    GetAnycast,
    GetCatchment,
    GetNetwork,
    Message,
    NetworkStatus,
    PopCommand,
    PopState,
    ProcessSignal,
    SetIntent,
)

ASK_TIMEOUT_S: Final = 2.0
COMMAND_TIMEOUT_S: Final = 30.0
START: Final = "start"
LIFE_ACTIONS: Final = ("kill", START, "stop")
DRAIN: Final = "drain"
INTENTS: Final = {DRAIN: True, "undrain": False}

_Reply = TypeVar("_Reply", bound=Message)


class Observer:
    """Questions and commands to the running network."""

    def __init__(self, paths: Paths, network: NetworkSpec, presence: Presence) -> None:
        self._paths = paths
        self._network = network
        self._presence = presence
        self._draining = asyncio.Lock()

    async def status(self, specs: Specs | None) -> Status:
        """Everything, with what is wrong. `specs` are the store's, None when it cannot be reached."""
        daemon, table, pops = await asyncio.gather(self._daemon(), self.catchment_or_none(), self.pops())
        processes = daemon.processes if daemon else ()
        return Status(
            name=self._network.name,
            seq=specs.seq if specs else None,
            latency=table.latency if table else "off",
            pops=pops,
            processes=processes,
            catchment=table.rows if table else (),
            store=specs.store if specs else "",
            degraded=degraded(specs, daemon is not None, table, pops, processes),
        )

    async def pops(self) -> tuple[Pop, ...]:
        """Every PoP of the network."""
        daemon = await self._daemon()
        states = {pop.code: pop for pop in daemon.pops} if daemon else {}
        return tuple(
            await asyncio.gather(*(self._pop(spec, states.get(spec.code)) for spec in self._network.pops))
        )

    async def down(self) -> tuple[str, ...]:
        """The PoPs that are stopped."""
        daemon = await self._daemon()
        return tuple(pop.code for pop in daemon.pops if pop.state == "down") if daemon else ()

    async def catchment(self, without: tuple[str, ...]) -> CatchmentTable:
        """Where every city's network goes, or would go without some PoPs."""
        for code in without:
            self._spec(code)
        return await self._ask(self._paths.internet_socket, GetCatchment(without=without), CatchmentTable)

    async def catchment_or_none(self) -> CatchmentTable | None:
        """The catchment, None when the emulated Internet does not answer."""
        try:
            return await self.catchment(())
        except AtollError:
            return None

    async def act(self, code: str, action: str, *, force: bool = False) -> PopAction:
        """Kill, start, stop, drain or undrain a PoP. `force` drains also the last one that announces."""
        spec, started_s = self._spec(code), monotonic()
        anycast = None
        if action in LIFE_ACTIONS:
            await self._command(PopCommand(pop=code, action=action))
            if action == START:
                await self._forgive(spec)
        elif action in INTENTS:
            async with self._draining:  # two drains at once must not take each other for what is left
                if action == DRAIN and not force:
                    await self._require_another(code)
                anycast = await self._intend(spec, INTENTS[action])
        else:
            known = ", ".join((*LIFE_ACTIONS, *INTENTS))
            raise RemoteError(f"a PoP cannot {action}", 404, f"it can {known}")
        return PopAction(
            pop=code, action=action, ms=round((monotonic() - started_s) * 1000, 2), anycast=anycast
        )

    async def kill_process(self, name: str) -> None:
        """SIGKILL one process by name."""
        await self._command(ProcessSignal(name=name))

    async def _command(self, message: Message) -> None:
        try:
            await frames.ask(self._paths.network_socket, message, COMMAND_TIMEOUT_S)
        except OSError as error:
            raise RemoteError("the network daemon does not answer", 503, "see `atoll logs`") from error

    async def _forgive(self, spec: PopSpec) -> None:
        """A PoP that the operator starts is to be announced, however often it fell before."""
        with contextlib.suppress(OSError, AtollError):  # then it comes back when its penalty has decayed
            await frames.ask(self._paths.pop_run(spec.code) / "anycast.sock", ForgiveFalls(), ASK_TIMEOUT_S)

    async def _require_another(self, code: str) -> None:
        others = [pop.code for pop in self._network.pops if pop.code != code]
        if any(announces(found) for found in await asyncio.gather(*map(self._anycast, others))):
            return
        hint = f"undrain or start another, or insist: `atoll pop drain {code} --force`"
        raise RemoteError(f"without {code} nobody would announce: no other PoP does", 409, hint)

    async def _intend(self, spec: PopSpec, drain: bool) -> AnycastStatus:
        socket = self._paths.pop_run(spec.code) / "anycast.sock"
        try:
            await frames.ask(socket, SetIntent(drain=drain), COMMAND_TIMEOUT_S)
        except OSError as error:
            hint = f"is it up? `atoll pop start {spec.code}`"
            raise RemoteError(f"{spec.code} does not answer", 409, hint) from error
        return await self._ask(socket, GetAnycast(), AnycastStatus)

    async def _daemon(self) -> NetworkStatus | None:
        try:
            return await self._ask(self._paths.network_socket, GetNetwork(), NetworkStatus)
        except AtollError:
            return None

    async def _anycast(self, code: str) -> AnycastStatus | None:
        try:
            return await self._ask(self._paths.pop_run(code) / "anycast.sock", GetAnycast(), AnycastStatus)
        except AtollError:
            return None

    async def _ask(self, socket: object, question: Message, kind: type[_Reply]) -> _Reply:
        try:
            reply = await frames.ask(str(socket), question, ASK_TIMEOUT_S)
        except OSError as error:
            raise RemoteError(f"nobody answers {type(question).__name__}", 503, where=str(socket)) from error
        if not isinstance(reply, kind):
            raise RemoteError(f"{type(question).__name__} was answered {type(reply).__name__}", 502)
        return reply

    async def _pop(self, spec: PopSpec, state: PopState | None) -> Pop:
        last = self._presence.last(spec.code, monotonic())
        gone = state is not None and state.state == "down"
        beat, heard_s = last if last is not None and not gone else (None, None)
        return Pop(
            code=spec.code,
            city=spec.city,
            country=spec.country,
            asn=spec.asn,
            http_port=spec.http_port,
            https_port=spec.https_port,
            state=state.state if state else "unknown",
            seq=beat.seq if beat else None,
            heard_s=round(heard_s, 3) if heard_s is not None else None,
            store=beat.store if beat else "",
            functions=beat.functions if beat else {},
            processes=state.processes if state else (),
            edges=beat.edges if beat else (),
            anycast=None if gone else await self._anycast(spec.code),
        )

    def _spec(self, code: str) -> PopSpec:
        for pop in self._network.pops:
            if pop.code == code:
                return pop
        known = ", ".join(pop.code for pop in self._network.pops)
        raise RemoteError(f"no PoP {code}", 404, f"there are {known}")
