"""The emulated Internet over its real socket: sessions, routes, what-ifs, and prefixes by their length."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from atoll.errors import AtollError
from atoll.internet.laptop import laptop_network
from atoll.internet.world import default_world
from atoll.lab.hub import Change, Hub, covering, describe, reach
from atoll.wire import frames
from atoll.wire.messages import (
    CatchmentTable,
    GetCatchment,
    Keepalive,
    Message,
    Ok,
    RouteAnnounce,
    RouteWithdraw,
    SpeakerOpen,
    SpeakerRestart,
    Stop,
)

NETWORK = laptop_network()
V4, V6 = NETWORK.prefixes
GRAPH = default_world().graph
ASNS = {pop.code: pop.asn for pop in NETWORK.pops}


class Net:
    """A hub and what it told."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.changes: list[Change] = []
        self.news = asyncio.Event()
        self.peers: list[frames.Peer] = []  # held: a session ends with its last reference
        self.hub = Hub(GRAPH, NETWORK, self._changed, lambda: 1767225600.5, "real")

    def _changed(self, change: Change) -> None:
        self.changes.append(change)
        self.news.set()

    async def session(self, pop: str, *prefixes: str, **hello: float) -> frames.Peer:
        """A speaker's connection that announces `prefixes`."""
        peer = await frames.connect(self.socket)
        self.peers.append(peer)
        assert await peer.call(SpeakerOpen(pop=pop, asn=ASNS[pop], **hello)) == Ok()  # type: ignore[arg-type]
        for prefix in prefixes:
            assert await peer.call(RouteAnnounce(prefix=prefix)) == Ok()
        return peer

    async def pops(self, *without: str) -> set[str]:
        """Which PoPs attract anyone."""
        table = await frames.ask(self.socket, GetCatchment(without=without))
        assert isinstance(table, CatchmentTable)
        return {row.pop for row in table.rows}


@pytest.fixture
async def net(tmp_path: Path) -> AsyncIterator[Net]:
    made = Net(tmp_path / "internet.sock")
    server = await made.hub.serve(made.socket)
    yield made
    for peer in made.peers:
        peer.close()
    server.close()


async def test_a_route_is_used_when_its_announcement_is_acknowledged(net: Net) -> None:
    assert await net.pops() == {""}
    peer = await net.session("lhr", V4)
    assert {row.pop for row in net.hub.v4.rows.values()} == {"lhr"}
    assert {row.pop for row in net.hub.v6.rows.values()} == {""}
    assert list(net.hub.v4.rows) == [eyeball.city for eyeball in NETWORK.eyeballs]
    await peer.call(RouteAnnounce(prefix=V6))
    assert {row.pop for row in net.hub.v6.rows.values()} == {"lhr"}
    assert await peer.call(RouteWithdraw(prefix=V4)) == Ok()
    assert await net.pops() == {""}
    assert [change.event for change in net.changes] == [
        f"lhr announces {V4}",
        f"lhr announces {V6}",
        f"lhr withdraws {V4}",
    ]


async def test_the_table_tells_latency_and_events(net: Net) -> None:
    await net.session("lhr", V4)
    table = await frames.ask(net.socket, GetCatchment())
    assert isinstance(table, CatchmentTable)
    assert (table.latency, table.events) == ("real", (f"2026-01-01T00:00:00.500Z lhr announces {V4}",))
    assert table.rows == tuple(net.hub.v4.rows.values())


async def test_a_lost_connection_takes_its_routes_along_at_once(net: Net) -> None:
    await net.session("iad", V4, V6)
    peer = await net.session("lhr", V4, V6)
    assert await net.pops() == {"iad", "lhr"}
    net.news.clear()
    peer.close()
    await net.news.wait()
    assert net.changes[-1].event == "lhr session lost, its routes with it"
    assert await net.pops() == {"iad"}
    assert {row.pop for row in net.hub.v6.rows.values()} == {"iad"}


async def test_a_speaker_that_falls_silent_loses_its_routes(net: Net) -> None:
    await net.session("iad", V4)
    peer = await net.session("lhr", keepalive_s=0.02)
    await peer.call(RouteAnnounce(prefix=V4))
    for _ in range(15):
        await asyncio.sleep(0.02)
        peer.send(Keepalive())
    assert await net.pops() == {"iad", "lhr"}
    net.news.clear()
    async with asyncio.timeout(2):
        await net.news.wait()
        await peer.closed.wait()
    assert net.changes[-1].event == "lhr silent for 0.2 s, session closed, its routes with it"
    assert await net.pops() == {"iad"}


async def test_a_hub_that_was_stalled_itself_blames_nobody(net: Net) -> None:
    peer = await net.session("lhr", V4, keepalive_s=0.02)

    async def live() -> None:
        while True:
            peer.send(Keepalive())
            await asyncio.sleep(0.02)

    living = asyncio.ensure_future(live())
    await asyncio.sleep(0.05)
    for _ in range(3):
        await asyncio.to_thread(lambda: None)
        time.sleep(0.4)  # noqa: ASYNC251 - this is the stall
        await asyncio.sleep(0.1)
    assert await net.pops() == {"lhr"}
    living.cancel()


@pytest.mark.parametrize("hello", [{"keepalive_s": -1.0}, {"keepalive_s": 61.0}, {"multiplier": 0}])
async def test_keepalives_that_cannot_be_are_refused(net: Net, hello: dict[str, float]) -> None:
    with pytest.raises(AtollError, match="keepalives that cannot be"):
        await net.session("lhr", **hello)


async def test_a_what_if_changes_nothing(net: Net) -> None:
    await net.session("iad", V4)
    await net.session("lhr", V4)
    assert await net.pops("lhr") == {"iad"}
    assert await net.pops("lhr", "iad") == {""}
    assert await net.pops() == {"iad", "lhr"}
    assert len(net.changes) == 2


async def test_a_second_session_of_a_pop_replaces_the_first(net: Net) -> None:
    first = await net.session("lhr", V4)
    await net.session("lhr", V6)
    await asyncio.wait_for(first.closed.wait(), 5)
    assert {row.pop for row in net.hub.v4.rows.values()} == {""}
    assert {row.pop for row in net.hub.v6.rows.values()} == {"lhr"}


async def test_what_changes_nothing_is_no_change(net: Net) -> None:
    peer = await net.session("lhr", V4)
    assert await peer.call(RouteAnnounce(prefix=V4)) == Ok()
    assert await peer.call(RouteWithdraw(prefix=V6)) == Ok()
    assert len(net.changes) == 1
    await peer.call(RouteAnnounce(prefix=V4, prepend=2))
    assert net.changes[-1].event == f"lhr announces {V4} prepend 2"


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (SpeakerOpen(pop="cdg", asn=1), "no PoP 'cdg'"),
        (SpeakerOpen(pop="lhr", asn=64512), "lhr is AS64513, not AS64512"),
        (RouteAnnounce(prefix=V4), "no session is open"),
        (RouteWithdraw(prefix=V4), "no session is open"),
        (Stop(), "Stop is not answered here"),
    ],
)
async def test_what_is_refused(net: Net, message: Message, complaint: str) -> None:
    with pytest.raises(AtollError, match=complaint):
        await frames.ask(net.socket, message)


@pytest.mark.parametrize(
    ("route", "complaint"),
    [
        (RouteAnnounce(prefix="192.0.2.1/24"), "not a prefix"),
        (RouteAnnounce(prefix=V4, prepend=17), "prepend 17"),
        (RouteAnnounce(prefix=V4, prepend=-1), "prepend -1"),
    ],
)
async def test_bad_routes_leave_the_session_as_it_was(net: Net, route: RouteAnnounce, complaint: str) -> None:
    peer = await net.session("lhr", V4)
    with pytest.raises(AtollError, match=complaint):
        await peer.call(route)
    assert await net.pops() == {"lhr"}


def plain(*prefixes: str, **attributes: object) -> dict[str, RouteAnnounce]:
    """What a PoP holds."""
    return {prefix: RouteAnnounce(prefix=prefix, **attributes) for prefix in prefixes}  # type: ignore[arg-type]


def test_the_most_specific_prefix_with_a_route_wins() -> None:
    routes = {
        "lhr": plain("192.0.0.0/16", "192.0.2.0/25"),
        "iad": plain(V4),
        "nrt": plain(V6, "192.0.2.128/25"),
    }
    assert covering(routes, "192.0.2.1") == ("192.0.2.0/25", "192.0.2.0/24", "192.0.0.0/16")
    assert {row.pop for row in reach(GRAPH, NETWORK, routes, "192.0.2.1").rows.values()} == {"lhr"}
    routes["lhr"] = plain("192.0.0.0/16")
    assert {row.pop for row in reach(GRAPH, NETWORK, routes, "192.0.2.1").rows.values()} == {"iad"}


def test_graceful_shutdown_is_used_only_where_nothing_else_is() -> None:
    leaving = plain(V4, communities=("65535:0",))
    alone = reach(GRAPH, NETWORK, {"lhr": leaving}, NETWORK.anycast4)
    assert {row.pop for row in alone.rows.values()} == {"lhr"}
    assert alone.draining == {"lhr"}
    both = reach(GRAPH, NETWORK, {"lhr": leaving, "nrt": plain(V4, prepend=16)}, NETWORK.anycast4)
    assert {row.pop for row in both.rows.values()} == {"nrt"}
    assert both.draining == {"lhr"}


def test_prepending_moves_users_away() -> None:
    near = reach(GRAPH, NETWORK, {pop: plain(V4) for pop in ASNS}, NETWORK.anycast4)
    far = reach(
        GRAPH, NETWORK, {pop: plain(V4, prepend=8 * (pop == "lhr")) for pop in ASNS}, NETWORK.anycast4
    )
    at_lhr = [{city for city, row in found.rows.items() if row.pop == "lhr"} for found in (near, far)]
    assert at_lhr[1] < at_lhr[0]


def test_routes_in_words() -> None:
    route = RouteAnnounce(prefix=V4, prepend=3, med=10, communities=("65535:0", "1:2:3"))
    assert describe(route) == f"{V4} prepend 3 MED 10 communities 65535:0 1:2:3"
    assert describe(RouteAnnounce(prefix=V4)) == V4


async def test_a_speaker_that_says_it_restarts_loses_no_route(net: Net) -> None:
    first = await net.session("lhr", V4, V6)
    before = len(net.changes)
    assert await first.call(SpeakerRestart(patience_s=20.0)) == Ok()
    first.close()
    await until_said(net, "lhr's speaker restarts, its routes are kept")
    assert {row.pop for row in net.hub.v4.rows.values()} == {"lhr"}
    await net.session("lhr", V4, V6)
    assert len(net.changes) == before


async def test_what_its_successor_does_not_announce_goes(net: Net) -> None:
    first = await net.session("lhr", V4, V6)
    await first.call(SpeakerRestart(patience_s=0.1))
    first.close()
    await until_said(net, "lhr's speaker restarts, its routes are kept")
    await net.session("lhr", V4)
    await until_said(net, f"lhr has not announced {V6} again")
    assert {row.pop for row in net.hub.v4.rows.values()} == {"lhr"}
    assert {row.pop for row in net.hub.v6.rows.values()} == {""}


async def test_a_successor_that_never_comes_takes_the_routes_along(net: Net) -> None:
    first = await net.session("lhr", V4)
    await first.call(SpeakerRestart(patience_s=0.05))
    first.close()
    await until_said(net, f"lhr has not announced {V4} again")
    assert await net.pops() == {""}


async def test_a_successor_that_dies_without_a_word_is_lost_like_any_other(net: Net) -> None:
    first = await net.session("lhr", V4)
    await first.call(SpeakerRestart(patience_s=20.0))
    second = await net.session("lhr")  # before the first session's end was noticed
    second.close()
    await until_said(net, "lhr session lost, its routes with it")
    assert await net.pops() == {""}


async def until_said(net: Net, text: str) -> None:
    """Wait until the Internet's journal says so."""
    async with asyncio.timeout(5):
        while True:
            table = await frames.ask(net.socket, GetCatchment())
            assert isinstance(table, CatchmentTable)
            if any(line.endswith(text) for line in table.events):
                return
            await asyncio.sleep(0.01)
