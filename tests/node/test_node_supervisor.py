from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psutil
import pytest

from atoll.errors import AtollError
from atoll.node.process import Launch, tethered, usage
from atoll.node.supervisor import Supervised, Supervisor

ROLE = Path(__file__).with_name("fake_role.py")
MakeLaunch = Callable[..., Launch]


@pytest.fixture
def launch(tmp_path: Path) -> MakeLaunch:
    def make(behaviour: str = "good", **options: object) -> Launch:
        argv = (sys.executable, str(ROLE), behaviour)
        values: dict[str, object] = {
            "name": "role",
            "argv": argv,
            "log": tmp_path / "role.log",
            "grace_s": 0.3,
        }
        return Launch(**{**values, **options})  # type: ignore[arg-type]

    return make


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    await supervisor.stop_all()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


async def ready(supervised: Supervised) -> int:
    await asyncio.wait_for(supervised.ready.wait(), 10)
    return supervised.pid


async def until(check: Callable[[], bool]) -> None:
    """Wait for what no event tells of: a file's contents, the death of a process that is not ours."""
    for _ in range(1000):
        if check():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


async def ask(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"who?\n")
    answer = await reader.readline()
    writer.close()
    return int(answer)


async def test_a_role_is_ready_when_it_says_so_and_its_output_is_in_its_log(
    supervisor: Supervisor, launch: MakeLaunch, tmp_path: Path
) -> None:
    supervised = supervisor.run(launch())
    assert supervised.state in ("starting", "backoff")
    pid = await ready(supervised)
    assert supervised.state == "ready"
    assert (tmp_path / "role.log").read_text() == "serving\n"
    info = supervisor.infos()[0]
    assert (info.pid, info.restarts, info.state) == (pid, 0, "ready")
    assert info.rss > 1_000_000


async def test_a_silent_role_stays_starting(
    supervisor: Supervisor, launch: MakeLaunch, listener: socket.socket
) -> None:
    supervised = supervisor.run(launch("silent", fds={"http": listener.fileno()}))
    assert await ask(listener.getsockname()[1]) == supervised.pid
    assert supervised.state == "starting"


async def test_a_role_that_does_not_come_to_serve_is_started_again(
    supervisor: Supervisor, launch: MakeLaunch
) -> None:
    supervised = supervisor.run(launch("silent", start_s=0.2))
    await until(lambda: supervised.restarts > 0)


async def test_a_role_that_serves_in_time_is_left_alone(supervisor: Supervisor, launch: MakeLaunch) -> None:
    supervised = supervisor.run(launch(start_s=1.0))
    pid = await ready(supervised)
    await asyncio.sleep(1.0)  # the moment it would have been killed at is over
    assert (supervised.pid, supervised.restarts) == (pid, 0)


async def test_what_dies_is_started_again_at_once_on_the_same_socket(
    supervisor: Supervisor, launch: MakeLaunch, listener: socket.socket
) -> None:
    supervised = supervisor.run(launch(fds={"http": listener.fileno()}))
    first = await ready(supervised)
    os.kill(first, signal.SIGSTOP)  # connections queue up on the socket that the supervisor holds
    port = listener.getsockname()[1]
    waiting = [asyncio.ensure_future(ask(port)) for _ in range(20)]
    await asyncio.wait(waiting, timeout=0.05)
    supervised.kill()
    answers = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert first not in answers
    assert len(set(answers)) == 1
    assert supervised.restarts == 1


async def test_a_process_that_keeps_dying_backs_off(supervisor: Supervisor, launch: MakeLaunch) -> None:
    supervised = supervisor.run(launch("broken"))
    await until(lambda: supervised.state == "backoff" and supervised.restarts >= 2)
    await asyncio.wait_for(supervised.stop(), 1)
    assert supervised.state == "stopped"


async def test_replacing_loses_no_connection(
    supervisor: Supervisor, launch: MakeLaunch, listener: socket.socket
) -> None:
    supervised = supervisor.run(launch(fds={"http": listener.fileno()}))
    first = await ready(supervised)
    port, answers, replaced = listener.getsockname()[1], list[int](), asyncio.Event()

    async def load() -> None:
        while not replaced.is_set():
            answers.append(await ask(port))

    loading = asyncio.ensure_future(load())
    await supervised.replace()
    replaced.set()
    await loading
    assert supervised.pid != first
    assert supervised.state == "ready"
    assert supervised.restarts == 0
    assert set(answers) <= {first, supervised.pid}
    assert await ask(port) == supervised.pid


async def test_a_successor_that_fails_leaves_the_one_before(
    supervisor: Supervisor, launch: MakeLaunch, tmp_path: Path
) -> None:
    supervised = supervisor.run(launch())
    first = await ready(supervised)
    supervised.launch = launch("broken")
    with pytest.raises(AtollError, match="did not start"):
        await supervised.replace()
    assert supervised.pid == first
    assert supervised.state == "ready"


async def test_stop_is_orderly_and_then_not(supervisor: Supervisor, launch: MakeLaunch) -> None:
    polite = supervisor.run(launch("good", name="polite"))
    stubborn = supervisor.run(launch("stubborn", name="stubborn"))
    pids = [await ready(polite), await ready(stubborn)]
    await asyncio.wait_for(supervisor.stop("polite", "stubborn", "nobody"), 5)
    assert [polite.state, stubborn.state] == ["stopped", "stopped"]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    polite.start()
    await ready(polite)
    assert polite.pid != pids[0]


async def test_stop_during_the_start_leaves_nothing(supervisor: Supervisor, launch: MakeLaunch) -> None:
    supervised = supervisor.run(launch())
    await asyncio.sleep(0)
    await asyncio.wait_for(supervised.stop(), 5)
    assert supervised.state == "stopped"
    assert supervised.pid == 0


def children() -> set[int]:
    found = psutil.Process().children()
    return {child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE}


async def test_what_dies_while_its_successor_starts_is_started_again_alone(
    supervisor: Supervisor, launch: MakeLaunch
) -> None:
    before = children()
    supervised = supervisor.run(launch())
    await ready(supervised)
    replacing = asyncio.ensure_future(supervised.replace())
    await asyncio.sleep(0)
    supervised.kill()
    with pytest.raises(AtollError, match="ended while its successor started"):
        await replacing
    assert children() - before == {await ready(supervised)}
    await asyncio.wait_for(supervised.stop(), 5)
    assert children() == before


async def test_two_replacements_happen_one_after_the_other(
    supervisor: Supervisor, launch: MakeLaunch
) -> None:
    before = children()
    supervised = supervisor.run(launch())
    await ready(supervised)
    await asyncio.gather(supervised.replace(), supervised.replace())
    assert children() - before == {supervised.pid}
    await asyncio.wait_for(supervised.stop(), 5)
    assert children() == before


async def test_a_stop_ends_a_replacement(supervisor: Supervisor, launch: MakeLaunch) -> None:
    before = children()
    supervised = supervisor.run(launch())
    await ready(supervised)
    supervised.launch = launch("silent")
    replacing = asyncio.ensure_future(supervised.replace())
    await asyncio.sleep(0.05)  # its successor is there, and never serves
    await asyncio.wait_for(supervised.stop(), 5)
    with pytest.raises(AtollError, match="did not start"):
        await replacing
    assert children() == before


async def test_the_last_of_stop_resume_and_kill_counts(supervisor: Supervisor, launch: MakeLaunch) -> None:
    supervised = supervisor.run(launch("stubborn"))
    first = await ready(supervised)
    stopping = asyncio.ensure_future(supervised.stop())
    await asyncio.sleep(0)
    await supervised.resume()
    assert stopping.done()
    assert await ready(supervised) != first
    orders = [supervised.stop(), supervised.resume(), supervised.stop()]
    await asyncio.wait_for(asyncio.gather(*orders), 10)
    assert supervised.state == "stopped"
    await supervised.resume()
    await ready(supervised)
    orders = [supervised.stop(), supervised.resume(), supervised.kill_and_leave()]
    await asyncio.wait_for(asyncio.gather(*orders), 10)
    assert (supervised.state, supervised.pid) == ("stopped", 0)


async def test_a_group_dies_as_one(supervisor: Supervisor, launch: MakeLaunch, tmp_path: Path) -> None:
    script = "import subprocess,sys; p=subprocess.Popen(['sleep','60']); print(p.pid, flush=True); p.wait()"
    argv = (sys.executable, "-c", script)
    supervised = supervisor.run(launch(argv=argv, own_group=True))
    await until(lambda: read(tmp_path / "role.log").endswith("\n"))
    grandchild = int((tmp_path / "role.log").read_text())
    await supervised.kill_and_leave()
    await until(lambda: gone(grandchild))


async def test_an_external_program_ends_with_its_supervisor(launch: MakeLaunch, tmp_path: Path) -> None:
    script = (
        "import asyncio,sys,os\n"
        "from pathlib import Path\n"
        "from atoll.node.process import Child, Launch, tethered\n"
        "async def main():\n"
        "    launch = Launch(name='s', argv=tethered('sleep', '60'), log=Path(sys.argv[1]))\n"
        "    c = await Child.start(launch, int)\n"
        "    print(c.pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "sleep.log"), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    sleeper = int(await process.stdout.readline())
    process.kill()
    await process.wait()
    await until(lambda: gone(sleeper))


async def test_a_missing_program_is_reported_in_its_log(
    supervisor: Supervisor, launch: MakeLaunch, tmp_path: Path
) -> None:
    supervisor.run(launch(argv=tethered("no-such-program")))
    await until(lambda: "no-such-program cannot be started" in read(tmp_path / "role.log"))


async def test_an_unknown_name_lists_the_known(supervisor: Supervisor, launch: MakeLaunch) -> None:
    supervisor.run(launch())
    with pytest.raises(AtollError, match="there are: role"):
        supervisor.get("rule")


def test_usage_of_a_process_that_is_gone_is_nothing() -> None:
    assert usage(2**22 - 1).private == 0
    assert usage(os.getpid()).private > 0
