"""How far a starting network has come, asked of the network itself.

Each stage names what it still waits for; a network is up when no stage waits. PoPs that someone has stopped
on purpose are nobody's to wait for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from atoll.cli.client import Client
from atoll.config.paths import Paths
from atoll.control.answers import Status
from atoll.errors import AtollError
from atoll.wire import frames
from atoll.wire.messages import (
    AnycastStatus,
    GetAnycast,
    GetNetwork,
    NetworkStatus,
    PopState,
    ProcessInfo,
)

STAGES: Final = ("origins", "NATS", "gateway", "PoPs", "routes", "control plane")
_DAEMON: Final = ["network does not answer"]


def waiting_for(paths: Paths, stage: str) -> list[str]:
    """What `stage` still waits for; empty when it is reached."""
    return asyncio.run(_waiting_for(paths, stage))


async def _waiting_for(paths: Paths, stage: str) -> list[str]:
    try:
        network = await frames.ask(paths.network_socket, GetNetwork())
    except (OSError, AtollError):
        return _DAEMON
    assert isinstance(network, NetworkStatus)
    wanted = [pop for pop in network.pops if pop.state != "down"]
    match stage:
        case "origins":
            return unready(network.processes, "origin-")
        case "NATS":
            return unready(network.processes, "nats")
        case "gateway":
            return unready(network.processes, "gateway")
        case "PoPs":
            return [line for pop in wanted for line in _unready_roles(pop)]
        case "control plane":
            return unready(network.processes, "api") or _control_plane(paths)
        case _:
            found = await asyncio.gather(*(_unannounced(paths, pop.code) for pop in wanted))
            return [line for line in found if line]


def unready(processes: Iterable[ProcessInfo], prefix: str) -> list[str]:
    """Processes of that name that do not serve yet."""
    chosen = [process for process in processes if process.name.startswith(prefix)]
    return [f"{process.name} is {process.state}" for process in chosen if process.state != "ready"]


def _unready_roles(pop: PopState) -> list[str]:
    if pop.state == "up":
        return []
    roles = [f"{pop.code}-{line}" for line in unready(pop.processes, "")]
    return roles or [f"{pop.code}-supervisor is {pop.state}"]


def _control_plane(paths: Paths) -> list[str]:
    try:
        with Client(paths) as client:
            return unsettled(client.get("/v1/status", Status))
    except AtollError as error:
        return [f"api {error.message}"]


def unsettled(status: Status) -> list[str]:
    """What settles by itself: what does not (a PoP of another store) is told when the network is up."""
    if status.seq is None:
        return ["api has no store"]
    seq, lines = status.seq, []
    for pop in status.pops:
        if pop.state != "down" and pop.seq is None:
            lines.append(f"{pop.code}-agent is silent")
        elif pop.seq is not None and pop.store in ("", status.store) and pop.seq < seq:
            lines.append(f"{pop.code}-agent serves seq {pop.seq} of {seq}")
    return lines


async def _unannounced(paths: Paths, code: str) -> str:
    """Empty when the PoP announces, or is drained on purpose."""
    try:
        found = await frames.ask(paths.pop_run(code) / "anycast.sock", GetAnycast())
    except (OSError, AtollError):
        return f"{code}-anycast does not answer"
    assert isinstance(found, AnycastStatus)
    if found.drain or found.announced:
        return ""
    return f"{code}-anycast announces nothing: {found.reason or 'no session'}"
