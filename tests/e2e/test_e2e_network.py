"""A whole network, used and hurt as a person would."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
from live_network import LiveNetwork
from load import USERS, load

from atoll.wire import frames
from atoll.wire.messages import GetProcesses, Message, Ok, Processes, ProcessSignal, RestartRole

pytestmark = pytest.mark.real


async def until(check: Callable[[], bool]) -> None:
    """Wait for what the network reports when asked."""
    for _ in range(200):
        if await asyncio.to_thread(check):
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


def is_whole(network: LiveNetwork) -> bool:
    return network.run("status").returncode == 0


async def pid_of(network: LiveNetwork, pop: str, name: str) -> int:
    reply = await frames.ask(network.paths.pop_run(pop) / "supervisor.sock", GetProcesses())
    assert isinstance(reply, Processes)
    return next(process.pid for process in reply.processes if process.name == name)


async def test_every_pop_is_up_and_every_city_has_one(network: LiveNetwork) -> None:
    status = network.ask("status")
    assert {pop["code"]: pop["state"] for pop in status["pops"]} == dict.fromkeys(
        ("sjc", "iad", "lhr", "sin", "nrt"), "up"
    )
    assert status["degraded"] == []
    assert len(status["catchment"]) == 14
    for row in status["catchment"]:
        response = await network.get(row["city"])
        assert response.status_code == 200
        assert response.headers["x-edge-location"] == row["pop"], row["city"]


async def test_the_second_answer_comes_from_the_cache(network: LiveNetwork) -> None:
    path = "/?from=the-second-answer"
    first, second = await network.get("tokyo", path), await network.get("tokyo", path)
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["MISS", "HIT"]
    assert second.headers["x-edge-location"] == "nrt"
    assert first.content == second.content


def test_a_second_up_says_so_and_changes_nothing(network: LiveNetwork) -> None:
    before = network.ask("status")
    again = network.run("up", "--no-deploy")
    assert again.returncode == 0
    assert "A network is already running (pid " in again.stderr
    after = network.ask("status")
    pids = [[process["pid"] for process in status["processes"]] for status in (before, after)]
    assert pids[0] == pids[1]


def test_an_up_with_other_options_is_refused(network: LiveNetwork) -> None:
    other = network.run("up", "--latency", "real")
    assert other.returncode == 1
    assert "with latency off, not real" in other.stderr
    assert "atoll down" in other.stderr
    port = network.run("up", "--http-port", "1")
    assert f"with http {network.http_port}, not 1" in port.stderr


def test_an_up_with_what_runs_spelled_out_is_no_other(network: LiveNetwork) -> None:
    ports = ("--http-port", str(network.http_port), "--api-port", str(network.api_port))
    assert network.run("up", "--no-deploy", "--latency", "off", *ports).returncode == 0


async def test_a_killed_pop_is_taken_over_and_comes_back(network: LiveNetwork) -> None:
    await until(lambda: is_whole(network))
    async with load(network, "london") as outcome:
        assert network.ask("pop", "kill", "lhr")["action"] == "kill"
        await outcome.more(20)
        assert set(outcome.pops[-10:]) == {"iad"}
        status = network.run("status")
        assert status.returncode == 3
        assert "lhr is down" in status.stderr
        network.ask("pop", "start", "lhr")
        await until(lambda: is_whole(network))
        await outcome.more(20)
    assert outcome.pops[-1] == "lhr"
    assert len(outcome.failures) <= 2 * USERS  # what was under way when the routes changed


async def test_a_drained_pop_loses_nobody(network: LiveNetwork) -> None:
    await until(lambda: is_whole(network))
    async with load(network, "london") as outcome:
        network.ask("pop", "drain", "lhr")
        await outcome.more(20)
        assert outcome.pops[-1] == "iad"
        network.ask("pop", "undrain", "lhr")
        await until(lambda: is_whole(network))
        await outcome.more(20)
    assert outcome.pops[-1] == "lhr"
    assert len(outcome.failures) <= USERS  # coming back moves users who are in the middle of a request


@pytest.mark.parametrize("name", ["nats", "lhr/agent"])
async def test_what_does_not_serve_can_die_unnoticed(network: LiveNetwork, name: str) -> None:
    await until(lambda: is_whole(network))
    async with load(network, "london") as outcome:
        assert isinstance(await kill(network, name), Ok)
        await outcome.more(50)
        await until(lambda: is_whole(network))
    assert outcome.failures == []
    assert set(outcome.pops) == {"lhr"}


async def test_a_killed_worker_loses_only_what_it_was_answering(network: LiveNetwork) -> None:
    await until(lambda: is_whole(network))
    before = await pid_of(network, "lhr", "edge-0")
    async with load(network, "london") as outcome:
        assert isinstance(await kill(network, "lhr/edge-0"), Ok)
        await outcome.more(50)
    assert len(outcome.failures) <= USERS
    assert await pid_of(network, "lhr", "edge-0") != before


async def test_a_worker_is_restarted_without_losing_anything(network: LiveNetwork) -> None:
    await until(lambda: is_whole(network))
    before = await pid_of(network, "lhr", "edge-0")
    async with load(network, "london") as outcome:
        socket = network.paths.pop_run("lhr") / "supervisor.sock"
        assert isinstance(await frames.ask(socket, RestartRole(name="edge-0"), 30), Ok)
        await outcome.more(20)
    assert outcome.failures == []
    assert set(outcome.pops) == {"lhr"}
    assert await pid_of(network, "lhr", "edge-0") != before


async def test_a_killed_supervisor_takes_its_pop_along_and_both_come_back(network: LiveNetwork) -> None:
    await until(lambda: is_whole(network))
    edge = await pid_of(network, "sjc", "edge-0")
    await kill(network, "sjc/supervisor")
    await until(lambda: not os.path.exists(f"/proc/{edge}"))
    await until(lambda: is_whole(network))
    assert (await network.get("san-francisco")).headers["x-edge-location"] == "sjc"


async def kill(network: LiveNetwork, name: str) -> Message:
    return await frames.ask(network.paths.network_socket, ProcessSignal(name=name))


def test_logs_of_one_process(network: LiveNetwork) -> None:
    written = network.ask("logs", "lhr/anycast")
    assert list(written) == ["lhr-anycast"]
    assert any("announced" in line for line in written["lhr-anycast"])
    unknown = network.run("logs", "lhr-nobody")
    assert unknown.returncode == 1
    assert "lhr-anycast" in unknown.stderr
