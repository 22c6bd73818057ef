"""A supervisor goes on as the code on disk: real processes, real sockets, a real exec."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import psutil
import pytest

from atoll.errors import AtollError
from atoll.node import handover
from atoll.node.role import ROLE_VARIABLE, RoleConfig
from atoll.wire import frames
from atoll.wire.messages import GetProcesses, Message, Processes, ProcessInfo, RestartRole, Upgrade

pytestmark = pytest.mark.real

HERE = Path(__file__).parent


async def until(check: Callable[[], bool]) -> None:
    """Wait for what no event tells of: the death of a process that is not ours, a file of another's."""
    for _ in range(1500):
        if check():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class Running:
    """A fake supervisor in a process of its own."""

    def __init__(self, run: Path, behaviour: str) -> None:
        self.run = run
        config = RoleConfig(
            role="supervisor", home=str(run), run=str(run), token="", options={"behaviour": behaviour}
        )
        env = {
            **os.environ,
            ROLE_VARIABLE: msgspec.json.encode(config).decode(),
            "PYTHONPATH": str(HERE),
        }
        self.process = subprocess.Popen([sys.executable, "-P", "-m", "fake_supervisor"], env=env)

    @property
    def port(self) -> int:
        return int((self.run / "port").read_text())

    async def ask(self, message: Message) -> Message:
        for _ in range(1000):
            try:
                return await frames.ask(self.run / "supervisor.sock", message, 30.0)
            except OSError:
                await asyncio.sleep(0.01)
        raise TimeoutError

    async def processes(self) -> tuple[ProcessInfo, ...]:
        """Its own line first."""
        reply = await self.ask(GetProcesses())
        assert isinstance(reply, Processes)
        return reply.processes

    async def role(self, state: str = "ready") -> ProcessInfo:
        """The role, as soon as it is in that state."""
        for _ in range(1000):
            _, *roles = await self.processes()
            found = [role for role in roles if role.state == state]
            if found:
                return found[-1]
            await asyncio.sleep(0.01)
        raise TimeoutError

    async def upgrade(self) -> None:
        """Returns when new code answers."""
        began_s = asyncio.get_running_loop().time()
        await self.ask(Upgrade())
        async with asyncio.timeout(20):
            while True:
                try:
                    me, *_ = await self.processes()
                except AtollError:
                    continue  # the connection was the old code's
                if me.uptime_s < asyncio.get_running_loop().time() - began_s:
                    return

    async def who(self) -> int:
        """Which process answers on the socket."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"who?\n")
        answer = await reader.readline()
        writer.close()
        return int(answer)


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="atoll-") as name:
        yield Path(name)


@pytest.fixture
async def running(folder: Path) -> AsyncIterator[Running]:
    made = Running(folder, "good")
    await made.role()
    yield made
    made.process.kill()
    made.process.wait()


async def test_process_children_and_sockets_stay(running: Running) -> None:
    before = await running.processes()
    port = running.port
    await running.upgrade()
    after = await running.processes()
    assert [(info.name, info.pid) for info in after] == [(info.name, info.pid) for info in before]
    assert after[0].pid == running.process.pid
    assert after[1].state == "ready"
    assert after[1].uptime_s > before[1].uptime_s  # it was not started again
    assert running.port == port
    assert await running.who() == after[1].pid


async def test_whoever_asks_meanwhile_is_answered(running: Running) -> None:
    answers, done = list[int](), asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            answers.append(await running.who())

    loading = asyncio.ensure_future(load())
    for _ in range(3):
        await running.upgrade()
    done.set()
    await loading
    assert set(answers) == {(await running.role()).pid}


async def test_what_dies_afterwards_is_started_again(running: Running) -> None:
    first = await running.role()
    await running.upgrade()
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: gone(first.pid))
    second = await running.role()
    assert (second.pid != first.pid, second.restarts) == (True, 1)
    assert await running.who() == second.pid


async def test_what_dies_in_the_gap_is_started_again(running: Running) -> None:
    first = await running.role()
    await running.ask(Upgrade())
    os.kill(first.pid, signal.SIGKILL)
    await until(lambda: gone(first.pid))
    async with asyncio.timeout(20):
        while (second := await running.role()).pid == first.pid:
            pass
    assert await running.who() == second.pid


@pytest.mark.parametrize("later_s", [0.0, 0.001, 0.02, 0.1, 0.2])
async def test_a_stop_in_the_gap_is_heeded(running: Running, later_s: float) -> None:
    role = await running.role()
    await running.ask(Upgrade())
    await asyncio.sleep(later_s)
    running.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(running.process.wait, 20) == 0
    assert gone(role.pid)


async def test_children_end_with_it_as_before(running: Running) -> None:
    """The role asks for that itself in a real PoP; here the supervisor's own stop shows whose they are."""
    role = await running.role()
    await running.upgrade()
    assert psutil.Process(role.pid).ppid() == running.process.pid
    running.process.terminate()
    assert await asyncio.to_thread(running.process.wait, 20) == 0
    assert gone(role.pid)


async def test_code_that_does_not_start_replaces_nothing(running: Running) -> None:
    before = await running.processes()
    (running.run / "broken").touch()
    with pytest.raises(AtollError, match="does not start: this version is broken"):
        await running.ask(Upgrade())
    (running.run / "broken").unlink()
    after = await running.processes()
    assert [info.pid for info in after] == [info.pid for info in before]
    assert after[0].uptime_s > before[0].uptime_s  # it is the code that ran before


async def test_a_child_that_still_starts_says_to_the_new_code_that_it_serves(folder: Path) -> None:
    made = Running(folder, "slow")
    try:
        starting = await made.role("starting")
        await made.upgrade()
        assert (await made.role("starting")).pid == starting.pid
        assert (await made.role()).pid == starting.pid
    finally:
        made.process.kill()
        made.process.wait()


async def test_predecessors_that_leave_are_taken_over(running: Running) -> None:
    first = await running.role()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    await running.who()  # by now the connection before it has been accepted
    await running.ask(RestartRole(name="role"))
    assert (await running.role("leaving")).pid == first.pid
    await running.upgrade()
    leaving = await running.role("leaving")
    assert leaving.pid == first.pid
    assert 0 < int(leaving.detail.split("for ")[1].split(" s")[0]) <= 30
    writer.write(b"who?\n")
    assert int(await reader.readline()) == first.pid
    writer.close()
    await until(lambda: gone(first.pid))
    assert [info.state for info in await running.processes()] == ["ready", "ready"]


async def test_two_upgrades_at_once_are_one(running: Running) -> None:
    results = await asyncio.gather(running.ask(Upgrade()), running.ask(Upgrade()), return_exceptions=True)
    assert sum(isinstance(result, AtollError) for result in results) == 1
    assert await running.role()


def test_a_process_that_has_just_begun_was_left_nothing() -> None:
    assert handover.take({}) is None
    assert not handover.rehearses({})
