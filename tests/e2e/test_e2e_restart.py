"""A running network goes on as the code on disk, and nobody notices."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from time import monotonic

import psutil
import pytest
from live_network import LiveNetwork
from load import load

from atoll.cli.restart import POP_ROLES, SHARED_ROLES, plan
from atoll.errors import AtollError
from atoll.node.code import code_version
from atoll.wire import frames
from atoll.wire.messages import EdgeStats, GetEdgeStats, GetNetwork, NetworkStatus, ProcessInfo

pytestmark = pytest.mark.real


async def processes(network: LiveNetwork) -> dict[str, ProcessInfo]:
    """Every process of the network that has not been replaced, by its title."""
    reply = await frames.ask(network.paths.network_socket, GetNetwork())
    assert isinstance(reply, NetworkStatus)
    found = {info.name: info for info in reply.processes}
    for pop in reply.pops:
        found |= {f"{pop.code}/{info.name}": info for info in pop.processes if info.state != "leaving"}
    return found


async def restart(network: LiveNetwork, *arguments: str) -> list[str]:
    """What was restarted, by title."""
    done = await asyncio.to_thread(network.ask, "restart", *arguments)
    return [step["name"] for step in done]


async def test_everything_goes_on_as_the_code_on_disk(network: LiveNetwork) -> None:
    """One PoP and what all share: `--all` is the same for each PoP."""
    before, began_s = await processes(network), monotonic()
    roles = [option for role in (*POP_ROLES, *SHARED_ROLES) for option in ("--role", role)]
    async with load(network, "london") as users:
        steps = await restart(network, "--pop", "lhr", *roles)
    assert users.failures == []
    after = await processes(network)
    assert after.keys() == before.keys()
    kept = {name for name, info in before.items() if after[name].pid == info.pid}
    supervisors = {"lhr/supervisor", "network"}
    others = {name for name in before if "/" in name and not name.startswith("lhr/")}
    left_alone = others | {name for name in before if name.startswith(("origin-", "gateway"))}
    assert kept == supervisors | left_alone
    assert set(steps) == before.keys() - left_alone
    assert {name for name, info in after.items() if info.state != "ready"} == set()
    restarted = {name for name, info in after.items() if info.restarts > before[name].restarts}
    assert restarted == set()  # nobody has died of it
    assert all(after[name].uptime_s < monotonic() - began_s for name in supervisors)
    assert network.run("status").returncode == 0


async def test_users_notice_nothing(network: LiveNetwork) -> None:
    arguments = ("lab", "restart", "--trials", "1", "--rate", "80", "--hold", "2")
    roles = [option for role in ("supervisor", "edge", "anycast", "agent") for option in ("--role", role)]
    outcome = await asyncio.to_thread(network.ask, *arguments, *roles)
    assert outcome["ok"]
    trial = outcome["trials"][0]
    assert trial["requests"] > 80
    assert min(trial["downloads"], trial["events"], trial["websockets"]) >= 4


async def test_a_pop_that_is_hurt_is_noticed(network: LiveNetwork) -> None:
    """What the experiment says is worth something: here its edge worker is killed in the middle."""

    control = network.paths.pop_run("nrt") / "edge-0.sock"

    def held() -> bool:
        stats = asyncio.run(frames.ask(control, GetEdgeStats()))
        return isinstance(stats, EdgeStats) and stats.connections >= 12  # more than the requests take

    async def kill() -> None:
        await until(held)
        os.kill((await processes(network))["nrt/edge-0"].pid, signal.SIGKILL)

    killing = asyncio.ensure_future(kill())
    done = await asyncio.to_thread(
        network.run, "lab", "restart", "--pop", "nrt", "--trials", "1", "--rate", "80", "--role", "agent",
        "--hold", "3", "--json",
    )  # fmt: skip
    await killing
    assert done.returncode == 1
    assert '"broken_websockets": 4' in done.stdout


async def test_a_long_download_outlives_the_command(network: LiveNetwork) -> None:
    path = "/lasting/events/60/50"  # three seconds
    async with (
        network.client() as client,
        client.stream("GET", path, headers={"host": "lab.london.localhost"}) as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == "data: 0"
        pop = response.headers["x-edge-location"]
        old = (await processes(network))[f"{pop}/edge-0"].pid
        await restart(network, "--pop", pop, "--role", "edge")
        assert (await processes(network))[f"{pop}/edge-0"].pid != old
        assert f"leaving: {pop}/edge-0 (pid {old})" in network.run("status").stdout
        events = [line async for line in lines if line]
    assert events[-1] == "data: 59"


async def test_children_still_end_with_their_supervisor(network: LiveNetwork) -> None:
    """A supervisor that has gone on as other code is killed: nothing of its PoP may live on."""
    await restart(network, "--pop", "sin")
    before = await processes(network)
    os.kill(before["sin/supervisor"].pid, signal.SIGKILL)
    old = [info.pid for name, info in before.items() if name.startswith("sin/")]
    await until(lambda: all(map(gone, old)))
    await until(lambda: network.run("status").returncode == 0)
    after = await processes(network)
    assert after.keys() == before.keys()
    assert not {info.pid for info in after.values()} & set(old)


async def until(check: Callable[[], bool]) -> None:
    """Wait for what the network or the system reports when asked."""
    for _ in range(300):
        if await asyncio.to_thread(check):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_second_up_says_when_other_code_runs(network: LiveNetwork) -> None:
    reply = await frames.ask(network.paths.network_socket, GetNetwork())
    assert isinstance(reply, NetworkStatus)
    done = await asyncio.to_thread(network.run, "up", "--no-deploy")
    assert done.returncode == 0
    told = f"It runs {reply.version}, this is {code_version()}: `atoll restart --all`" in done.stderr
    assert told == (reply.version != code_version())


def test_what_to_restart_has_to_be_said(network: LiveNetwork) -> None:
    assert "--all" in network.run("restart").stderr
    assert "no PoP xyz" in network.run("restart", "--pop", "xyz").stderr


async def test_roles_come_in_order(network: LiveNetwork) -> None:
    reply = await frames.ask(network.paths.network_socket, GetNetwork())
    assert isinstance(reply, NetworkStatus)
    titles = [step.title for step in plan(reply, ["lhr"], [], whole=False)]
    assert titles == ["lhr/supervisor", "lhr/edge-0", "lhr/edge-h3", "lhr/anycast", "lhr/agent"]
    assert [step.title for step in plan(reply, [], ["gateway"], whole=False)] == ["gateway"]
    with pytest.raises(AtollError, match="nothing of that kind"):
        plan(reply, ["lhr"], ["nats-streaming"], whole=False)
