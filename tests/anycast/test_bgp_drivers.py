"""Every real driver does the same: what is asked of it is what a neighbour across a link has."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bgp_world import Isp, pop_and_isp

from atoll.anycast.neighbors import Neighbor, Speaking
from atoll.anycast.speaker import GRACEFUL_SHUTDOWN, Announcement
from atoll.lab import tools
from atoll.lab.netns import Netlab
from atoll.lab.routers import Bird

pytestmark = pytest.mark.real

PREFIX, OTHER, SIXTH = "192.0.2.0/24", "198.51.100.0/24", "2001:db8::/48"
LIMIT_S = 15.0
SUPPORT = Path(__file__).parent.parent / "support"

OURS = """\
router id 10.0.0.1;
include "{folder}/atoll.conf";
protocol device {{}}
protocol bgp up1 {{
  local 10.0.0.1 as 64512;
  neighbor 10.0.0.2 as 64600;
  connect delay time 1; {more}
  ipv4 {{ import none; export where atoll_to_up1(); }};
  ipv6 {{ import none; export where atoll_to_up1(); next hop address fd00::1; }};
}}
"""


class End:
    """The process with the driver."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []

    async def do(self, what: str, announcement: Announcement | None = None, patience_s: float = 0.0) -> Any:
        """What it answers; AssertionError when it refuses."""
        order: dict[str, object] = {"do": what, "patience_s": patience_s}
        if announcement is not None:
            order["announcement"] = announcement
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(order) + b"\n")
        answer = await self._next(lambda said: said["kind"] != "event")
        assert answer["kind"] == "done", answer["value"]
        return answer["value"]

    async def until(self, event: str) -> dict[str, Any]:
        """The next event of a type that nobody has waited for yet."""
        while not any(value["type"] == event for value in self.events):
            await self._next(lambda said: said["kind"] == "event")
        found = next(value for value in self.events if value["type"] == event)
        self.events.remove(found)
        return found

    async def _next(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while line := await self.process.stdout.readline():
                said: dict[str, Any] = msgspec.json.decode(line)
                if said["kind"] == "event":
                    self.events.append(said["value"])
                if wanted(said):
                    return said
        raise AssertionError("the driver's process ended")


class World:
    """A PoP's namespace, a neighbour's, and the driver in the first."""

    def __init__(self, lab: Netlab, folder: Path, driver: str, isp: Isp) -> None:
        self.lab = lab
        self.folder = folder
        self.driver = driver
        self.isp = isp

    @asynccontextmanager
    async def end(self) -> AsyncIterator[End]:
        """A driver's process, opened."""
        process = await asyncio.create_subprocess_exec(
            *self.lab["pop"].command(sys.executable, str(SUPPORT / "speaker_end.py")),
            self.driver,
            str(self.folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SUPPORT.parent.parent)},
        )
        end = End(process)
        try:
            await end.do("open")
            yield end
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            process._transport.close()  # type: ignore[attr-defined] # its children may hold the pipes


@asynccontextmanager
async def world(
    driver: str, folder: Path, *, restart_s: int = 0, ours: str = "", theirs: str = "", **neighbor: Any
) -> AsyncIterator[World]:
    speaking = Speaking(
        asn=64512,
        router_id="10.0.0.1",
        graceful_restart_s=restart_s,
        neighbors=(
            Neighbor(
                name="up1",
                address="10.0.0.2",
                asn=64600,
                local_address="10.0.0.1",
                families=("ipv4", "ipv6"),
                next_hops={"ipv6": "fd00::1"},
                communities={"not-asia": "64600:3000", "region": "64600:1:2"},
                **neighbor,
            ),
        ),
    )
    (folder / "speaking.json").write_bytes(msgspec.json.encode(speaking))
    with ExitStack() as stack:
        more = f"graceful restart; {theirs}" if restart_s else theirs
        lab, isp = stack.enter_context(pop_and_isp(folder, more))
        if driver == "bird":
            own = folder / "bird"
            own.mkdir()
            (own / "atoll.conf").write_text(
                "protocol static atoll4 { ipv4; }\nprotocol static atoll6 { ipv6; }\n"
                "function atoll_to_up1() { return false; }\n"
            )
            found = tools.find_tools(["bird"], tools.cache_folder(os.environ), print)
            local = Bird(lab, "pop", own, found, OURS.format(folder=own, more=ours))
            stack.callback(local.stop)
        yield World(lab, folder, driver, isp)


DRIVERS = ("exabgp", "bird")


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_is_announced_is_what_the_neighbour_has(driver: str, tmp_path: Path) -> None:
    async with world(driver, tmp_path) as net, net.end() as end:
        assert (await end.until("SessionUp"))["neighbor"] == "up1"
        await end.do(
            "announce",
            Announcement(
                prefix=PREFIX,
                prepend=2,
                med=10,
                communities=(GRACEFUL_SHUTDOWN,),
                large_communities=("64512:1:2",),
                actions=("not-asia", "region", "unknown"),
            ),
        )
        await end.do("announce", Announcement(prefix=SIXTH))
        routes = await net.isp.until(lambda routes: PREFIX in routes and SIXTH in routes)
        assert routes[PREFIX]["as_path"] == "64512 64512 64512"
        assert routes[PREFIX]["med"] == "10"
        assert set(routes[PREFIX]["community"].split()) == {"(65535,0)", "(64600,3000)"}
        assert routes[PREFIX]["large_community"] == "(64512, 1, 2) (64600, 1, 2)"
        assert routes[PREFIX]["next_hop"] == "10.0.0.1"
        assert routes[SIXTH]["as_path"] == "64512"
        assert routes[SIXTH]["next_hop"].split()[0] == "fd00::1"
        assert [each["prefix"] for each in await end.do("acknowledged")] == [PREFIX, SIXTH]

        await end.do("announce", Announcement(prefix=PREFIX))  # replaced, not added to
        routes = await net.isp.until(lambda routes: routes[PREFIX].get("as_path") == "64512")
        assert "community" not in routes[PREFIX]

        proof = await end.do("withdraw", Announcement(prefix=PREFIX))
        assert proof["how"] in ("sent", "acknowledged")
        routes = await net.isp.until(lambda routes: PREFIX not in routes)
        assert SIXTH in routes
        assert [each["prefix"] for each in await end.do("acknowledged")] == [SIXTH]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_session_that_breaks_comes_back_with_what_is_wanted_by_then(
    driver: str, tmp_path: Path
) -> None:
    async with world(driver, tmp_path) as net, net.end() as end:
        await end.until("SessionUp")
        await end.do("announce", Announcement(prefix=PREFIX))
        await net.isp.until(lambda routes: PREFIX in routes)
        await net.isp.bird.ask("disable pop")
        assert (await end.until("SessionDown"))["reason"]
        await end.do("withdraw", Announcement(prefix=PREFIX))
        await end.do("announce", Announcement(prefix=OTHER))
        await net.isp.bird.ask("enable pop")
        await end.until("SessionUp")
        routes = await net.isp.until(lambda routes: OTHER in routes)
        assert PREFIX not in routes


@pytest.mark.parametrize("driver", DRIVERS)
async def test_routes_go_when_the_driver_is_closed(driver: str, tmp_path: Path) -> None:
    async with world(driver, tmp_path) as net, net.end() as end:
        await end.until("SessionUp")
        await end.do("announce", Announcement(prefix=PREFIX))
        await net.isp.until(lambda routes: PREFIX in routes)
        await end.do("close")
        await net.isp.until(lambda routes: not routes)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("restart_s", [0, 60])
async def test_routes_go_when_the_process_with_the_driver_is_killed(
    driver: str, restart_s: int, tmp_path: Path
) -> None:
    async with world(driver, tmp_path, restart_s=restart_s) as net, net.end() as end:
        await end.until("SessionUp")
        await end.do("announce", Announcement(prefix=PREFIX))
        await net.isp.until(lambda routes: PREFIX in routes)
        end.process.send_signal(signal.SIGKILL)
        await net.isp.until(lambda routes: not routes)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_successor_takes_over_and_the_route_never_leaves(driver: str, tmp_path: Path) -> None:
    async with world(driver, tmp_path, restart_s=20) as net:
        async with net.end() as first:
            await first.until("SessionUp")
            await first.do("announce", Announcement(prefix=PREFIX))
            await net.isp.until(lambda routes: PREFIX in routes)
            looking = asyncio.create_task(_never_without(net, PREFIX))
            await first.do("hand_over", patience_s=5.0)
        async with net.end() as second:
            await second.do("announce", Announcement(prefix=PREFIX, prepend=1))
            await second.until("SessionUp")
            await net.isp.until(lambda routes: routes[PREFIX].get("as_path") == "64512 64512")
            looking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await looking


async def _never_without(net: World, prefix: str) -> None:
    while True:
        assert prefix in await net.isp.routes()
        await asyncio.sleep(0.005)


async def test_exabgp_that_is_killed_is_started_again_and_told_everything(tmp_path: Path) -> None:
    async with world("exabgp", tmp_path) as net, net.end() as end:
        await end.until("SessionUp")
        await end.do("announce", Announcement(prefix=PREFIX))
        await net.isp.until(lambda routes: PREFIX in routes)
        os.kill(await end.do("pid"), signal.SIGKILL)
        await net.isp.until(lambda routes: not routes)
        await end.until("SessionDown")
        await end.until("SessionUp")
        await net.isp.until(lambda routes: PREFIX in routes)


async def test_a_secret_and_ttl_security_are_what_the_neighbour_asks_for(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("tide-and-reef\n")
    secret.chmod(0o600)
    theirs = 'password "tide-and-reef"; ttl security on;'
    async with (
        world("exabgp", tmp_path, theirs=theirs, password_file=str(secret), ttl_security=True) as net,
        net.end() as end,
    ):
        await end.until("SessionUp")
        await end.do("announce", Announcement(prefix=PREFIX))
        await net.isp.until(lambda routes: PREFIX in routes)


async def test_a_neighbour_that_refuses_is_told_with_its_reason(tmp_path: Path) -> None:
    async with world("exabgp", tmp_path, theirs='password "another";') as net, net.end() as end:
        await asyncio.sleep(1)
        assert (await end.do("sessions"))[0][1] is False
        assert await net.isp.routes() == {}
