"""Predecessors that live on: how long, how many, and what becomes of one that hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from atoll.node import leaving
from atoll.node.process import Launch
from atoll.node.supervisor import MOST_LEAVING, Supervised, Supervisor

ROLE = Path(__file__).with_name("fake_role.py")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Bench:
    """A role that may leave, and who is connected to it."""

    def __init__(self, sock: socket.socket, folder: Path) -> None:
        self.supervisor = Supervisor()
        self._log = folder / "role.log"
        self._replaced = 0
        self.port: int = sock.getsockname()[1]
        self.launch = Launch(
            name="role",
            argv=(sys.executable, str(ROLE), "good"),
            log=folder / "role.log",
            fds={"http": sock.fileno()},
            grace_s=0.5,
            leave_s=30.0,
        )
        self.role: Supervised = None  # type: ignore[assignment]

    async def start(self, alive: leaving.Alive | None = None) -> None:
        self.role = self.supervisor.run(self.launch, alive)
        await asyncio.wait_for(self.role.ready.wait(), 10)

    async def connect(self) -> Streams:
        """A connection that the present process has accepted."""
        streams = await asyncio.open_connection("127.0.0.1", self.port)
        await say(await asyncio.open_connection("127.0.0.1", self.port))
        return streams

    async def replace(self, grace_s: float | None = None) -> None:
        """Returns when the predecessor has heard of it."""
        await self.role.replace(grace_s)
        self._replaced += 1
        await until(lambda: self._log.read_text().count("accepts no more") == self._replaced)

    def leavers(self) -> list[int]:
        return [info.pid for info in self.supervisor.infos() if info.state == leaving.LEAVING]


async def say(streams: Streams) -> int:
    """Who answers."""
    streams[1].write(b"who?\n")
    answer = await asyncio.wait_for(streams[0].readline(), 10)
    streams[1].close()
    return int(answer or b"0")


async def until(check: Callable[[], bool]) -> None:
    """Wait for the end of a process, which nobody tells."""
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        made = Bench(sock, tmp_path)
        yield made
        await made.supervisor.stop_all()


async def test_a_restart_does_not_wait_for_what_has_been_begun(bench: Bench) -> None:
    await bench.start()
    first, open_one = bench.role.pid, await bench.connect()
    await asyncio.wait_for(bench.replace(), 10)
    assert bench.leavers() == [first]
    info = bench.supervisor.infos()[1]
    assert (info.name, info.state) == ("role", "leaving")
    assert bench.role.pid != first
    assert await say(open_one) == first
    await until(lambda: gone(first))
    await until(lambda: bench.leavers() == [])
    assert bench.role.restarts == 0


async def test_its_successor_is_watched_meanwhile(bench: Bench) -> None:
    await bench.start()
    first, open_one = bench.role.pid, await bench.connect()
    await bench.replace()
    second = bench.role.pid
    bench.role.kill()
    await until(lambda: bench.role.pid not in (0, second))
    assert bench.role.restarts == 1
    assert await say(open_one) == first


async def test_grace_ends(bench: Bench) -> None:
    await bench.start()
    first, open_one = bench.role.pid, await bench.connect()
    await bench.replace(grace_s=0.2)
    await until(lambda: gone(first))  # it would have waited for ever
    assert await say(open_one) == 0


async def test_the_oldest_makes_room(bench: Bench) -> None:
    await bench.start()
    pids, held = [], []
    for _ in range(MOST_LEAVING + 1):
        pids.append(bench.role.pid)
        held.append(await bench.connect())
        await bench.replace()
    await until(lambda: gone(pids[0]))
    await until(lambda: bench.leavers() == pids[1:])
    assert [await say(streams) for streams in held] == [0, *pids[1:]]


async def test_one_that_hangs_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "LOOK_S", 0.02)
    hangs = set[int]()

    async def alive(pid: int) -> bool:
        return pid not in hangs

    await bench.start(alive)
    first, _open_one = bench.role.pid, await bench.connect()
    await bench.replace()
    await asyncio.sleep(0.2)
    assert bench.leavers() == [first]
    os.kill(first, signal.SIGSTOP)
    hangs.add(first)
    await until(lambda: gone(first))


async def test_stopping_the_role_stops_them_all(bench: Bench) -> None:
    await bench.start()
    first, _open_one = bench.role.pid, await bench.connect()
    await bench.replace()
    pids = [first, bench.role.pid]
    await asyncio.wait_for(bench.role.stop(), 5)
    assert all(map(gone, pids))


async def test_killing_the_role_kills_them_all(bench: Bench) -> None:
    await bench.start()
    first, _open_one = bench.role.pid, await bench.connect()
    await bench.replace()
    pids = [first, bench.role.pid]
    await asyncio.wait_for(bench.role.kill_and_leave(), 5)
    assert all(map(gone, pids))
