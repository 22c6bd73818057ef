"""The beginning and the end of a network, also when they go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest
from live_network import LiveNetwork

from atoll.node import lock
from atoll.node.leftovers import leftovers

pytestmark = pytest.mark.real


async def test_two_ups_at_once_then_a_dead_daemon_then_down(tmp_path: Path) -> None:
    live = LiveNetwork(tmp_path)
    first, second = await asyncio.gather(*(asyncio.to_thread(live.up, "--no-deploy") for _ in range(2)))
    assert sorted([first["already_running"], second["already_running"]]) == [False, True]
    assert first["endpoints"] == second["endpoints"]
    holder = lock.holder(live.paths.lock_file)
    assert holder is not None
    processes = list(leftovers(live.paths))
    assert len(processes) >= 29
    roles = [json.loads(found) for process in processes if (found := process.environ().get("ATOLL_ROLE"))]
    trusted = {role["role"] for role in roles if role["nats_url"]}
    assert trusted == {"api", "supervisor", "agent"}  # nobody else has the password

    os.kill(holder.pid, signal.SIGKILL)
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 20)
    assert alive == []
    assert "No network was running" in live.run("down").stderr
    assert not live.paths.run.exists()


async def test_what_a_dead_daemon_leaves_takes_nothing_from_the_next(tmp_path: Path) -> None:
    live = LiveNetwork(tmp_path)
    live.up("--no-deploy")
    holder = lock.holder(live.paths.lock_file)
    assert holder is not None
    lhr = next(pop for pop in live.ask("status")["pops"] if pop["code"] == "lhr")
    edge = next(process["pid"] for process in lhr["processes"] if process["name"] == "edge-0")
    os.kill(edge, signal.SIGSTOP)  # its PoP waits for it while it stops, as for one with much to do
    os.kill(holder.pid, signal.SIGKILL)
    live.up("--no-deploy")
    await asyncio.sleep(8)  # by now that PoP would have ended
    sockets = {path.name for path in live.paths.pop_run("lhr").iterdir()}
    assert {"supervisor.sock", "bindings.sock", "anycast.sock", "edge-0.sock"} <= sockets
    assert live.ask("status")["degraded"] == []
    assert live.ask("down")["killed"] == []


def test_down_ends_every_process_and_frees_every_port(tmp_path: Path) -> None:
    live = LiveNetwork(tmp_path)
    live.up("--no-deploy")
    with httpx.Client(base_url=f"http://127.0.0.1:{live.http_port}", trust_env=False) as browser:
        assert browser.get("/", headers={"host": "tokyo.localhost"}).status_code == 200
        done = live.ask("down")  # a browser keeps its connection: that holds up nobody
    assert done["was_running"]
    assert done["seconds"] < 4
    assert done["killed"] == []
    assert list(leftovers(live.paths)) == []
    for port in (live.http_port, live.https_port, live.api_port):
        socket.create_server(("127.0.0.1", port)).close()
    assert not live.paths.run.exists()


def test_down_kills_what_was_left_and_names_it(tmp_path: Path) -> None:
    live = LiveNetwork(tmp_path)
    role = f'{{"role":"agent","home":"{tmp_path}"}}'
    with subprocess.Popen(["sleep", "60"], env={**os.environ, "ATOLL_ROLE": role}) as left:
        done = live.ask("down")
        assert done == {**done, "was_running": False, "killed": [f"sleep (pid {left.pid})"]}
        assert left.wait(5) == -signal.SIGKILL


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    live = LiveNetwork(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = live.run("up", "--http-port", str(port))
    assert failed.returncode == 1
    assert f"port {port} is in use by" in failed.stderr
    assert f"(pid {os.getpid()})" in failed.stderr
    assert "--http-port" in failed.stderr
    assert lock.holder(live.paths.lock_file) is None
