"""The anycast role: a real health server, a real emulated Internet, drains, failures and leaving."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from time import time

import msgspec
import pytest
from networks import pop

from atoll.anycast.emulated import EmulatedSpeaker
from atoll.anycast.health import Health
from atoll.anycast.policy import PolicyLimits
from atoll.anycast.speaker import Announcement, RouteAcknowledged
from atoll.errors import AtollError
from atoll.node import anycast
from atoll.node.anycast import Role, Terms
from atoll.node.anycast_disk import AnycastDisk, Damping, Intent
from atoll.node.anycast_look import Looks
from atoll.wire import frames
from atoll.wire.messages import (
    AnycastStatus,
    ForgiveFalls,
    GetAnycast,
    GetProcesses,
    Message,
    Ok,
    Processes,
    ProcessInfo,
    RouteAnnounce,
    RouteWithdraw,
    SetIntent,
    SpeakerOpen,
)

V4, V6 = "192.0.2.0/24", "2001:db8:a70::/48"


class Neighbour:
    """Acknowledges everything and keeps what is announced."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.routes: dict[str, RouteAnnounce] = {}
        self.news = asyncio.Condition()

    async def answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        async with self.news:
            if isinstance(message, SpeakerOpen):
                self.routes.clear()  # they went with the session before
            if isinstance(message, RouteAnnounce):
                self.routes[message.prefix] = message
            if isinstance(message, RouteWithdraw):
                self.routes.pop(message.prefix, None)
            self.news.notify_all()
        return Ok()

    async def until(self, *prefixes: str, prepend: int = 0) -> None:
        """Wait until exactly `prefixes` are announced, each with `prepend`."""
        wanted = dict.fromkeys(prefixes, prepend)
        async with self.news, asyncio.timeout(5):
            await self.news.wait_for(
                lambda: {prefix: route.prepend for prefix, route in self.routes.items()} == wanted
            )


class Serving:
    """The PoP's own address: `status` as it should be answered, nothing while `mute`, or not listening."""

    def __init__(self) -> None:
        self.status = 200
        self.mute = False
        self.port = 0
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            if self.mute:
                return
            writer.write(f"HTTP/1.1 {self.status} Said\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
            writer.close()


class Supervisor:
    """The PoP's supervisor: says in which state the edge worker is."""

    def __init__(self) -> None:
        self.edge = "ready"

    async def answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        assert message == GetProcesses()
        agent = ProcessInfo(name="agent", pid=1, state="ready")
        return Processes(processes=(agent, ProcessInfo(name="edge-0", pid=2, state=self.edge)))


class Bench:
    """A role with everything around it, checking as fast as it can."""

    def __init__(self, home: Path) -> None:
        self.serving = Serving()
        self.supervisor = Supervisor()
        self.supervisor_socket = home / "supervisor.sock"
        self.neighbour = Neighbour(home / "internet.sock")
        self.socket = home / "anycast.sock"
        self.disk = AnycastDisk(home / "pops" / "lhr")

    @contextlib.asynccontextmanager
    async def role(self, drain_window_s: float = 60.0) -> AsyncIterator[Role]:
        """The role, watching."""
        where = msgspec.structs.replace(pop("lhr", 2), http_port=self.serving.port)
        limits = PolicyLimits(drain_window_s=drain_window_s)
        looks = Looks(where, self.supervisor_socket, timeout_s=0.2)
        role = Role(where.code, (V4, V6), self.disk, looks, Terms(policy=limits, interval_s=0.005))
        role.speaker = EmulatedSpeaker(self.neighbour.socket, "lhr", where.asn, role.on_event)
        await role.speaker.open()
        server = await frames.serve(self.socket, role.answer)
        watcher = asyncio.create_task(role.watch())
        try:
            yield role
        finally:
            watcher.cancel()
            server.close()
            await role.speaker.close()

    async def status(self) -> AnycastStatus:
        """What the role says of itself."""
        status = await frames.ask(self.socket, GetAnycast())
        assert isinstance(status, AnycastStatus)
        return status


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.serving.start()
    server = await frames.serve(made.neighbour.socket, made.neighbour.answer)
    supervisor = await frames.serve(made.supervisor_socket, made.supervisor.answer)
    yield made
    made.serving.stop()
    server.close()
    supervisor.close()


async def test_announces_once_healthy_and_says_so(bench: Bench) -> None:
    async with bench.role():
        await bench.neighbour.until(V4, V6)
        status = await bench.status()
    assert (status.pop, status.healthy, status.drain, status.session_up) == ("lhr", True, False, True)
    assert (status.announced, status.prepend, status.communities) == ((V4, V6), 0, ())
    assert status.reason == "healthy"
    said = [event.split(" ", 1)[1] for event in status.events]
    assert "health starting -> up: status 200" in said
    assert f"{V4} announced" in said


async def test_a_dead_edge_withdraws_at_once_and_a_living_one_comes_back(bench: Bench) -> None:
    async with bench.role():
        await bench.neighbour.until(V4, V6)
        bench.serving.stop()
        await bench.neighbour.until()
        assert (await bench.status()).reason == "nobody answers"
        await bench.serving.start()
        await bench.neighbour.until(V4, V6)


async def test_an_edge_that_is_gone_withdraws_though_its_socket_takes_connections(
    bench: Bench,
) -> None:
    async with bench.role() as role:
        await bench.neighbour.until(V4, V6)
        bench.serving.mute, bench.supervisor.edge = True, "backoff"
        async with asyncio.timeout(1):
            await bench.neighbour.until()
        assert role.status().events[-3].endswith("health up -> hard: no edge worker serves")


async def test_an_overloaded_edge_only_prepends(bench: Bench) -> None:
    async with bench.role() as role:
        await bench.neighbour.until(V4, V6)
        bench.serving.mute = True
        await bench.neighbour.until(V4, V6, prepend=3)
        await asyncio.sleep(1)  # five more looks
        assert {route.prepend for route in bench.neighbour.routes.values()} == {3}
        assert "overload" in " ".join(role.status().events)


async def test_failing_checks_only_prepend(bench: Bench) -> None:
    async with bench.role() as role:
        await bench.neighbour.until(V4, V6)
        bench.serving.status = 503
        await bench.neighbour.until(V4, V6, prepend=3)
        assert not role.status().healthy


async def test_a_drain_leaves_gracefully_then_goes_and_is_remembered(bench: Bench) -> None:
    async with bench.role():
        await bench.neighbour.until(V4, V6)
        assert await frames.ask(bench.socket, SetIntent(drain=True)) == Ok()
        assert {route.communities for route in bench.neighbour.routes.values()} == {("65535:0",)}
        assert {route.prepend for route in bench.neighbour.routes.values()} == {3}
        status = await bench.status()
        assert (status.drain, status.prepend, status.communities) == (True, 3, ("65535:0",))
        since_s = bench.disk.intent().drain_since_s
        assert since_s is not None
        await frames.ask(bench.socket, SetIntent(drain=True))
        assert bench.disk.intent().drain_since_s == since_s, "asking again does not start anew"
    async with bench.role(drain_window_s=0.0):
        await bench.neighbour.until()
        assert (await bench.status()).drain
        await frames.ask(bench.socket, SetIntent(drain=False))
        await bench.neighbour.until(V4, V6)
        assert {route.communities for route in bench.neighbour.routes.values()} == {()}
    assert bench.disk.intent() == Intent()


async def test_leaving_withdraws_first(bench: Bench) -> None:
    async with bench.role() as role:
        await bench.neighbour.until(V4, V6)
        await role.leave()
        assert bench.neighbour.routes == {}
        said = [event.split(" ", 1)[1] for event in role.status().events]
        assert said[-3:] == [f"{V4} withdrawn", f"{V6} withdrawn", "session down: closed"]


async def test_other_questions_are_refused(bench: Bench) -> None:
    async with bench.role():
        with pytest.raises(AtollError, match="not answered here"):
            await frames.ask(bench.socket, RouteWithdraw(prefix=V4))


async def test_a_finished_drain_stays_finished_when_the_clock_is_set_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench.role(drain_window_s=0.0):
        await bench.neighbour.until(V4, V6)
        await frames.ask(bench.socket, SetIntent(drain=True))
        await bench.neighbour.until()
    assert bench.disk.intent().drained
    monkeypatch.setattr(anycast, "time", lambda: time() - 3600)
    async with bench.role(drain_window_s=5.0) as role:
        while not role.status().healthy:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert (role.status().announced, role.status().reason) == ((), "drained by the operator")
        await frames.ask(bench.socket, SetIntent(drain=False))
        await bench.neighbour.until(V4, V6)
    assert bench.disk.intent() == Intent()


async def test_each_death_of_the_role_is_a_fall_and_an_orderly_end_is_none(bench: Bench) -> None:
    for deaths in range(4):
        async with bench.role() as role:
            while not role.status().healthy:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert bench.disk.damping().penalty == pytest.approx(deaths, abs=0.1)
            assert bench.disk.damping().up
    async with bench.role() as role:  # the fourth death in a row
        while role.status().reason == "starting":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert role.status().reason == "suppressed: fell too often"
        assert bench.neighbour.routes == {}
        assert await frames.ask(bench.socket, ForgiveFalls()) == Ok()
        await bench.neighbour.until(V4, V6)
        await role.leave()
    kept = bench.disk.damping()
    assert (kept.penalty, kept.suppressed, kept.up) == (0.0, False, False)
    async with bench.role():
        await bench.neighbour.until(V4, V6)
        assert bench.disk.damping().penalty == 0.0


async def test_undraining_forgives_too(bench: Bench) -> None:
    bench.disk.keep_damping(Health(state="hard", penalty=9.0, suppressed=True, checked_s=time()))
    async with bench.role():
        assert (await bench.status()).announced == ()
        await frames.ask(bench.socket, SetIntent(drain=False))
        await bench.neighbour.until(V4, V6)


def test_what_cannot_be_kept_or_read(tmp_path: Path) -> None:
    (tmp_path / "intent.json").write_text("{")
    (tmp_path / "damping.json").write_text("[]")
    assert AnycastDisk(tmp_path).intent() == Intent()
    assert AnycastDisk(tmp_path).damping() == Damping()
    (tmp_path / "file").write_text("")
    with pytest.raises(AtollError, match="cannot be kept"):
        AnycastDisk(tmp_path / "file").keep_intent(Intent(drain_since_s=1.0))
    deep = AnycastDisk(tmp_path / "deep" / "er")
    deep.keep_intent(Intent(drain_since_s=1.0))
    assert deep.intent() == Intent(drain_since_s=1.0)


def test_events_in_words(tmp_path: Path) -> None:
    where = pop("lhr", 2)
    role = Role(where.code, (V4,), AnycastDisk(tmp_path), Looks(where, tmp_path / "supervisor.sock"))
    route = Announcement(prefix=V4, prepend=2, communities=("65535:0",))
    role.on_event(RouteAcknowledged(announcement=route))
    assert role.status().events[-1].endswith(f"Z {V4} announced prepend 2 65535:0")
    assert not role.status().session_up
