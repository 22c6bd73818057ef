"""The emulated Internet: speakers' sessions come in, catchments come out.

One session per PoP over `internet.sock`; the connection is the session, so a PoP that dies takes its routes
along in the same turn of the loop. One that falls silent without dying (stopped, frozen, cut off) is found by
its missing keepalives, after the time that its speaker has stated. Every change recomputes where each city
goes, by the rules of `atoll.internet`, for IPv4 and IPv6 apart, and is told before its speaker gets the
acknowledgement. There is no propagation delay: the public Internet needs seconds to agree, this one none.

GRACEFUL_SHUTDOWN (RFC 8326) is honoured by every network here: a route that carries it is used only by those
who have no other. MED changes nothing, for no two links of this Internet lead to the same neighbour.

A speaker may say that its successor takes over: then its routes outlive the session for a moment (RFC 4724).
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from atoll.anycast.journal import Journal
from atoll.anycast.speaker import GRACEFUL_SHUTDOWN
from atoll.config.spec import NetworkSpec
from atoll.errors import AtollError
from atoll.internet.catchment import catchment
from atoll.internet.graph import Graph
from atoll.internet.routing import MAX_PREPEND, Announcement
from atoll.wire import frames
from atoll.wire.messages import (
    CatchmentRow,
    CatchmentTable,
    GetCatchment,
    Keepalive,
    Message,
    Ok,
    RouteAnnounce,
    RouteWithdraw,
    SpeakerOpen,
    SpeakerRestart,
)

MAX_KEEPALIVE_S = 60.0
MAX_MULTIPLIER = 255  # as in BFD's packets
MAX_RESTART_S = 30.0

Routes = Mapping[str, Mapping[str, RouteAnnounce]]
"""PoP to prefix to what it announces."""


class Reach(msgspec.Struct, frozen=True):
    """What users of one address family see. `draining` PoPs announce with GRACEFUL_SHUTDOWN."""

    rows: Mapping[str, CatchmentRow]
    draining: frozenset[str] = frozenset()


class Change(msgspec.Struct, frozen=True):
    """Something happened in the Internet; `v4` and `v6` are what is true since."""

    event: str
    v4: Reach
    v6: Reach


OnChange = Callable[[Change], None]


def covering(routes: Routes, address: str) -> tuple[str, ...]:
    """The announced prefixes that hold `address`, most specific first: routers look them up so."""
    ip = ipaddress.ip_address(address)
    networks = {ipaddress.ip_network(prefix) for held in routes.values() for prefix in held}
    found = [network for network in networks if ip in network]
    return tuple(str(network) for network in sorted(found, key=lambda network: -network.prefixlen))


def reach(
    graph: Graph, network: NetworkSpec, routes: Routes, address: str, without: Collection[str] = ()
) -> Reach:
    """Where each city's packets to `address` go."""
    rows: dict[str, CatchmentRow] = {}
    draining: set[str] = set()
    for prefix in covering(routes, address):
        holders = {pop: held[prefix] for pop, held in routes.items() if prefix in held and pop not in without}
        leaving = {pop for pop, route in holders.items() if GRACEFUL_SHUTDOWN in route.communities}
        draining |= leaving
        for chosen in (holders.keys() - leaving, holders.keys()):
            _fill(rows, _rows(graph, network, {pop: holders[pop] for pop in chosen}))
    _fill(rows, _rows(graph, network, {}))
    return Reach({eyeball.city: rows[eyeball.city] for eyeball in network.eyeballs}, frozenset(draining))


def _fill(rows: dict[str, CatchmentRow], found: Iterable[CatchmentRow]) -> None:
    for row in found:
        if not (row.city in rows and rows[row.city].pop):
            rows[row.city] = row


def _rows(
    graph: Graph, network: NetworkSpec, holders: Mapping[str, RouteAnnounce]
) -> tuple[CatchmentRow, ...]:
    asns = {pop.code: pop.asn for pop in network.pops}
    announcements = [Announcement(asns[pop], route.prepend) for pop, route in sorted(holders.items())]
    return catchment(graph, announcements, network.eyeballs)


class _Session:
    """A speaker's connection, when it was last heard, and for how long it may be silent.

    `restart_s` is how long its routes outlive it; 0: not at all.
    """

    def __init__(self, peer: frames.Peer, hello: SpeakerOpen, now_s: float) -> None:
        self.peer = peer
        self.heard_s = now_s
        self.patience_s = hello.keepalive_s * hello.multiplier
        self.restart_s = 0.0

    async def end(self) -> str:
        """Wait for its end; what ended it."""
        loop = asyncio.get_running_loop()
        closed = asyncio.ensure_future(self.peer.closed.wait())
        try:
            since_s = self.heard_s
            while not closed.done() and self.patience_s:
                due_s = max(since_s, self.heard_s) + self.patience_s
                await asyncio.wait({closed}, timeout=max(0.0, due_s - loop.time()))
                late_s = loop.time() - due_s
                if late_s > self.patience_s / 4:
                    since_s = loop.time()  # this side was stalled itself: what was said lies unread
                elif late_s >= 0.0 and self.heard_s + self.patience_s <= due_s and not closed.done():
                    return f"silent for {self.patience_s:g} s, session closed"
            await closed
            return "session lost"
        finally:
            closed.cancel()


class Hub:
    """Serves speakers and questions; tells every change."""

    def __init__(
        self,
        graph: Graph,
        network: NetworkSpec,
        on_change: OnChange,
        now_s: Callable[[], float],
        latency: str = "off",
    ) -> None:
        self._graph = graph
        self._network = network
        self._on_change = on_change
        self._now_s = now_s
        self._latency = latency
        self._asns = {pop.code: pop.asn for pop in network.pops}
        self._sessions: dict[str, _Session] = {}
        self._routes: dict[str, dict[str, RouteAnnounce]] = {}
        self._stale: dict[str, set[str]] = {}  # prefixes that a successor has not announced yet
        self._watchers: set[asyncio.Task[None]] = set()
        self._journal = Journal()
        self.v4 = reach(graph, network, {}, network.anycast4)
        self.v6 = reach(graph, network, {}, network.anycast6)

    async def serve(self, socket: Path) -> asyncio.AbstractServer:
        """Listen for speakers."""
        return await frames.serve(socket, self._answer)

    async def _answer(self, peer: frames.Peer, message: Message) -> Message | None:
        if isinstance(message, SpeakerOpen):
            return self._open(peer, message)
        if isinstance(message, Keepalive):
            self._pop_of(peer)
        if isinstance(message, SpeakerRestart):
            return self._restart(self._pop_of(peer), message)
        if isinstance(message, RouteAnnounce):
            return self._announce(self._pop_of(peer), message)
        if isinstance(message, RouteWithdraw):
            return self._withdraw(self._pop_of(peer), message)
        if isinstance(message, GetCatchment):
            return self._table(message.without)
        return None

    def _open(self, peer: frames.Peer, hello: SpeakerOpen) -> Ok:
        asn = self._asns.get(hello.pop)
        if asn is None:
            raise AtollError(f"no PoP {hello.pop!r}", hint=f"one of {', '.join(self._asns)}")
        if asn != hello.asn:
            raise AtollError(f"{hello.pop} is AS{asn}, not AS{hello.asn}")
        if not (0.0 <= hello.keepalive_s <= MAX_KEEPALIVE_S and 1 <= hello.multiplier <= MAX_MULTIPLIER):
            hint = f"an interval up to {MAX_KEEPALIVE_S:g} s, 1 to {MAX_MULTIPLIER} of them"
            raise AtollError("keepalives that cannot be", hint, "keepalive_s, multiplier")
        older = self._sessions.pop(hello.pop, None)
        if older is not None:  # RFC 4271 §6.8: of two connections of one speaker, one goes
            older.peer.close()
            self._over(hello.pop, older, "session lost")
        session = _Session(peer, hello, asyncio.get_running_loop().time())
        self._sessions[hello.pop] = session
        self._routes.setdefault(hello.pop, {})
        watcher = asyncio.ensure_future(self._watch(session, hello.pop))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return Ok()

    async def _watch(self, session: _Session, pop: str) -> None:
        reason = await session.end()
        if self._sessions.get(pop) is session:
            del self._sessions[pop]
            self._over(pop, session, reason)
        session.peer.close()

    def _restart(self, pop: str, message: SpeakerRestart) -> Ok:
        self._sessions[pop].restart_s = min(max(message.patience_s, 0.0), MAX_RESTART_S)
        return Ok()

    def _over(self, pop: str, session: _Session, reason: str) -> None:
        """The session has ended: its routes go with it, or wait for a successor."""
        if not session.restart_s:
            self._drop(pop, reason)
            return
        self._journal.add(self._now_s(), f"{pop}'s speaker restarts, its routes are kept")
        stale = self._stale[pop] = set(self._routes[pop])
        asyncio.get_running_loop().call_later(session.restart_s, self._expire, pop, stale)

    def _expire(self, pop: str, stale: set[str]) -> None:
        """What the successor has not announced by now, it does not mean to."""
        if self._stale.get(pop) is not stale:
            return
        del self._stale[pop]
        routes = self._routes[pop]
        for prefix in stale & routes.keys():
            del routes[prefix]
        if stale:
            self._changed(f"{pop} has not announced {', '.join(sorted(stale))} again")

    def _drop(self, pop: str, reason: str) -> None:
        self._stale.pop(pop, None)
        if self._routes.pop(pop, {}):
            self._changed(f"{pop} {reason}, its routes with it")

    def _pop_of(self, peer: frames.Peer) -> str:
        """Whose connection it is; whatever came over it, its speaker lives."""
        for pop, session in self._sessions.items():
            if session.peer is peer:
                session.heard_s = asyncio.get_running_loop().time()
                return pop
        raise AtollError("no session is open on this connection", hint="SpeakerOpen comes first")

    def _announce(self, pop: str, route: RouteAnnounce) -> Ok:
        try:
            prefix = str(ipaddress.ip_network(route.prefix))
        except ValueError as error:
            raise AtollError(f"not a prefix: {error}", where="prefix") from None
        if not 0 <= route.prepend <= MAX_PREPEND:
            raise AtollError(f"prepend {route.prepend}", hint=f"0 to {MAX_PREPEND}", where="prepend")
        route = msgspec.structs.replace(route, prefix=prefix)
        self._stale.get(pop, set()).discard(prefix)
        if self._routes[pop].get(prefix) != route:
            self._routes[pop][prefix] = route
            self._changed(f"{pop} announces {describe(route)}")
        return Ok()

    def _withdraw(self, pop: str, message: RouteWithdraw) -> Ok:
        self._stale.get(pop, set()).discard(message.prefix)
        if self._routes[pop].pop(message.prefix, None) is not None:
            self._changed(f"{pop} withdraws {message.prefix}")
        return Ok()

    def _changed(self, text: str) -> None:
        self._journal.add(self._now_s(), text)
        self.v4 = reach(self._graph, self._network, self._routes, self._network.anycast4)
        self.v6 = reach(self._graph, self._network, self._routes, self._network.anycast6)
        self._on_change(Change(text, self.v4, self.v6))

    def _table(self, without: tuple[str, ...]) -> CatchmentTable:
        found = self.v4
        if without:
            found = reach(self._graph, self._network, self._routes, self._network.anycast4, without)
        return CatchmentTable(
            rows=tuple(found.rows.values()), latency=self._latency, events=self._journal.lines
        )


def describe(route: RouteAnnounce) -> str:
    """A route as people read it.

    >>> describe(RouteAnnounce(prefix="192.0.2.0/24", prepend=3, communities=("65535:0",)))
    '192.0.2.0/24 prepend 3 communities 65535:0'
    """
    parts = [route.prefix]
    if route.prepend:
        parts.append(f"prepend {route.prepend}")
    if route.med:
        parts.append(f"MED {route.med}")
    if route.communities:
        parts.append(f"communities {' '.join(route.communities)}")
    return " ".join(parts)
