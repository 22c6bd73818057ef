"""`atoll anycast` as a user runs it: a service of one's own, a real neighbour, real failures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from bgp_world import Isp, pop_and_isp
from faults import until

from atoll.lab.netns import Netlab

pytestmark = pytest.mark.real

CHECKOUT = Path(__file__).parent.parent.parent
PREFIX = "192.0.2.0/24"
FILE = """\
as = 64512
router_id = "10.0.0.1"
prefixes = ["192.0.2.0/24"]
drain_window_s = 0.5

[check]
http = "http://127.0.0.1:8080/"
interval_ms = 50

[[neighbor]]
name = "transit_a"
address = "10.0.0.2"
as = 64600
local_address = "10.0.0.1"
bfd = { interval_ms = 50, multiplier = 3 }
"""
BFD = 'protocol bfd { interface "*" { interval 50 ms; multiplier 3; }; }'


class Pop:
    """What runs in the PoP's namespace."""

    def __init__(self, lab: Netlab, folder: Path, isp: Isp) -> None:
        self.lab = lab
        self.folder = folder
        self.isp = isp
        self.log = folder / "anycast.log"
        self._processes: list[asyncio.subprocess.Process] = []

    async def service(self) -> asyncio.subprocess.Process:
        """A web server of somebody else's."""
        www = self.folder / "www"
        www.mkdir(exist_ok=True)
        argv = (sys.executable, "-m", "http.server", "8080", "--bind", "127.0.0.1", "-d", str(www))
        return await self._start(*argv, log=self.folder / "service.log")

    async def anycast(self, *more: str) -> asyncio.subprocess.Process:
        """The command."""
        file = self.folder / "anycast.toml"
        file.write_text(FILE)
        return await self._start(*self._atoll(), "--config", str(file), *more)

    async def say(self, *words: str) -> tuple[int, str]:
        """Another command to the running one: its exit code and output."""
        process = await asyncio.create_subprocess_exec(
            *self._atoll(), *words, stdout=asyncio.subprocess.PIPE, cwd=CHECKOUT
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def status(self) -> dict[str, Any]:
        """What it says of itself."""
        said: dict[str, Any] = json.loads((await self.say("status", "--json"))[1])
        return said

    def _atoll(self) -> tuple[str, ...]:
        return (sys.executable, "-m", "atoll.cli.main", "anycast", "--state", str(self.folder / "state"))

    async def _start(self, *argv: str, log: Path | None = None) -> asyncio.subprocess.Process:
        with (log or self.log).open("ab") as sink:
            process = await asyncio.create_subprocess_exec(
                *self.lab["pop"].command(*argv), stdout=sink, stderr=sink, cwd=CHECKOUT, env=dict(os.environ)
            )
        self._processes.append(process)
        return process

    async def end(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def pop(folder: Path) -> AsyncIterator[Pop]:
    with pop_and_isp(folder, more="bfd on;", bfd=BFD) as (lab, isp):
        made = Pop(lab, folder, isp)
        try:
            yield made
        finally:
            await made.end()


async def test_routes_follow_the_service_and_the_operator(tmp_path: Path) -> None:
    async with pop(tmp_path) as here:
        running = await here.anycast()
        service = await here.service()
        await here.isp.until(lambda routes: PREFIX in routes)

        service.kill()
        await service.wait()
        await here.isp.until(lambda routes: PREFIX not in routes)
        found = await here.status()
        assert found["reason"] == "nobody answers"
        assert found["neighbors"][0]["up"]

        await here.service()
        await here.isp.until(lambda routes: PREFIX in routes)

        assert (await here.say("drain"))[0] == 0
        routes = await here.isp.until(lambda routes: "community" in routes.get(PREFIX, {}))
        assert routes[PREFIX]["community"] == "(65535,0)"
        assert routes[PREFIX]["as_path"].split() == ["64512"] * 4
        await here.isp.until(lambda routes: PREFIX not in routes)
        code, said = await here.say("status")
        assert code == 3
        assert "transit_a" in said
        assert (await here.say("undrain"))[0] == 0
        await here.isp.until(lambda routes: PREFIX in routes)

        running.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await running.wait() == 0
        assert PREFIX not in await here.isp.routes()
        assert "Traceback" not in here.log.read_text()


async def test_a_silent_neighbour_is_noticed_and_a_kill_withdraws(tmp_path: Path) -> None:
    async with pop(tmp_path) as here:
        await here.service()
        running = await here.anycast()
        await here.isp.until(lambda routes: PREFIX in routes)

        async def guarded() -> bool:
            return str((await here.status())["neighbors"][0]["bfd"]) == "UP"

        await until(guarded)
        here.isp.bird.signal(signal.SIGSTOP)

        async def noticed() -> bool:
            return any("transit_a BFD UP -> DOWN" in line for line in (await here.status())["events"])

        await until(noticed)
        here.isp.bird.signal(signal.SIGCONT)
        await until(guarded)
        await here.isp.until(lambda routes: PREFIX in routes)

        running.kill()
        await running.wait()
        await here.isp.until(lambda routes: PREFIX not in routes)


async def test_a_second_one_is_refused(tmp_path: Path) -> None:
    async with pop(tmp_path) as here:
        await here.service()
        await here.anycast()
        await here.isp.until(lambda routes: PREFIX in routes)
        second = await here.anycast()
        async with asyncio.timeout(10):
            assert await second.wait() == 1
        assert "another `atoll anycast` runs here" in here.log.read_text()
        assert PREFIX in await here.isp.routes()
