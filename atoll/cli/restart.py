"""`atoll restart`: what runs goes on as the code on disk, and nobody notices.

One PoP after the other, and in each its supervisor first: it starts the others. A step that fails ends the
command; what has not been restarted runs on as it was. What plays the Internet around the PoPs (gateway,
origins) is left alone unless it is named: no PoP can hide its restart from its users.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import click
import msgspec

from atoll.cli.output import json_option, print_json, say
from atoll.cli.stages import STAGES, waiting_for
from atoll.config.paths import Paths, resolve
from atoll.errors import AtollError
from atoll.node import lock
from atoll.node.code import compile_ahead
from atoll.wire import frames
from atoll.wire.messages import (
    AnycastStatus,
    GetAnycast,
    GetNetwork,
    GetProcesses,
    Message,
    NetworkStatus,
    PopState,
    Processes,
    RestartRole,
    Upgrade,
)

SUPERVISOR: Final = "supervisor"
DAEMON: Final = "network"
POP_ROLES: Final = (SUPERVISOR, "edge", "anycast", "agent")  # in the order in which they are restarted
SHARED_ROLES: Final = (DAEMON, "nats", "api")
NAMED_ROLES: Final = ("gateway", "origin")  # only when they are asked for
GRACE_S: Final = 600.0
STEP_TIMEOUT_S: Final = 90.0
ANNOUNCED_TIMEOUT_S: Final = 15.0
SETTLE_S: Final = 30.0
_LOOK_S: Final = 0.05
_PATIENCE_S: Final = 2.0


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One process to restart: a PoP's, or one of the network's own (`pop` is empty)."""

    pop: str
    name: str

    @property
    def upgrades(self) -> bool:
        """Whether it goes on in the same process, with what it looks after."""
        return self.name in (SUPERVISOR, DAEMON)

    @property
    def title(self) -> str:
        """As `atoll status` names it."""
        return f"{self.pop}/{self.name}" if self.pop else self.name


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """A step that was taken, and how long it took."""

    name: str
    ms: float


def plan(network: NetworkStatus, pops: Sequence[str], roles: Sequence[str], *, whole: bool) -> list[Step]:
    """What to restart, in order. `whole`: also what the PoPs share.

    Raises:
        AtollError: no such PoP, or nothing of that role.
    """
    found = {pop.code: pop for pop in network.pops}
    for code in pops:
        if code not in found:
            raise AtollError(f"no PoP {code}", hint=f"there are {', '.join(found)}")
    chosen = [found[code] for code in pops] if pops else list(found.values())
    steps = [step for pop in chosen if pop.state == "up" for step in _of_pop(pop, roles or POP_ROLES)]
    if whole or set(roles) & {*SHARED_ROLES, *NAMED_ROLES}:
        names = [process.name for process in network.processes]
        steps += [
            Step(pop="", name=name)
            for role in (roles or SHARED_ROLES)
            for name in names
            if role_of(name) == role
        ]
    if not steps:
        raise AtollError("nothing of that kind runs", hint="`atoll status` shows what does")
    return steps


def _of_pop(pop: PopState, roles: Iterable[str]) -> list[Step]:
    processes = [process for process in pop.processes if process.state == "ready"]
    return [
        Step(pop=pop.code, name=process.name)
        for role in POP_ROLES
        if role in roles
        for process in processes
        if role_of(process.name) == role
    ]


def role_of(name: str) -> str:
    """`edge` for `edge-0`, `origin` for `origin-us`."""
    return name.partition("-")[0]


@click.command()
@click.option("--pop", "pops", multiple=True, metavar="POP", help="Of this PoP; may be repeated.")
@click.option("--all", "whole", is_flag=True, help="Of every PoP, and what they share.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([*POP_ROLES, *SHARED_ROLES, *NAMED_ROLES]),
    help="Only processes of this role; may be repeated.",
)
@click.option(
    "--grace",
    "grace_s",
    default=GRACE_S,
    show_default=True,
    type=click.FloatRange(0, 86_400),
    help="Seconds for downloads and WebSockets that are open.",
)
@json_option
def restart(
    pops: tuple[str, ...], whole: bool, roles: tuple[str, ...], grace_s: float, as_json: bool
) -> None:
    """Have what runs go on as the code on disk, without losing a request.

    Listening sockets stay open throughout. An edge worker that is replaced lives on until what it has begun
    has ended, or for the grace; `atoll status` lists it as leaving. Supervisors keep their processes.

    \b
    Examples:
      atoll restart --all                     after an update
      atoll restart --pop lhr
      atoll restart --pop lhr --role edge --grace 60
    """
    if not (pops or whole or roles):
        raise AtollError("restart what?", hint="`--pop lhr`, or `--all`")
    paths = resolve(os.environ, os.getuid())
    if lock.holder(paths.lock_file) is None:
        raise AtollError("no network is running", "start one with `atoll up`")
    done: list[Done] = []

    def tell(step: Done) -> None:
        done.append(step)
        if not as_json:
            say(f"{step.name} restarted ({step.ms:.0f} ms)")

    compile_ahead()
    asyncio.run(_restart(paths, pops, roles, whole, grace_s, tell))
    _until_settled(paths)
    if as_json:
        print_json(done)


def _until_settled(paths: Paths) -> None:
    """What was restarted has found the others again: an API that has only begun has heard of no PoP yet."""
    deadline_s = monotonic() + SETTLE_S
    for stage in STAGES:
        while missing := waiting_for(paths, stage):
            if monotonic() > deadline_s:
                hint = f"look at `atoll logs {missing[0].split(' ')[0]}`"
                raise AtollError(f"{stage} not ready after the restart: {', '.join(missing)}", hint)
            sleep(_LOOK_S)


async def _restart(
    paths: Paths,
    pops: tuple[str, ...],
    roles: tuple[str, ...],
    whole: bool,
    grace_s: float,
    tell: Callable[[Done], None],
) -> None:
    network = await ask_network(paths)
    steps = plan(network, pops, roles, whole=whole)
    for position, step in enumerate(steps):
        announced = await _announced(paths, step.pop)
        tell(await take(paths, step, grace_s))
        last = position + 1 == len(steps) or steps[position + 1].pop != step.pop
        if last and announced:
            await _until_announced(paths, step.pop)


async def ask_network(paths: Paths) -> NetworkStatus:
    """What runs.

    Raises:
        AtollError: the daemon does not answer.
    """
    reply = await _ask(paths.network_socket, GetNetwork())
    assert isinstance(reply, NetworkStatus)
    return reply


async def take(paths: Paths, step: Step, grace_s: float) -> Done:
    """Restart one process; returns when it serves.

    Raises:
        AtollError: it could not be restarted, and runs on as it was.
    """
    began_s = monotonic()
    socket = paths.pop_run(step.pop) / "supervisor.sock" if step.pop else paths.network_socket
    if step.upgrades:
        await _ask(socket, Upgrade())
        await _until_anew(socket, step, began_s)
    else:
        await _ask(socket, RestartRole(name=step.name, grace_s=grace_s))
    return Done(name=step.title, ms=round((monotonic() - began_s) * 1000, 1))


async def _ask(socket: Path, question: Message) -> Message:
    try:
        return await frames.ask(socket, question, STEP_TIMEOUT_S)
    except OSError as error:
        raise AtollError(f"nobody answers {type(question).__name__}", where=str(socket)) from error


async def _until_anew(socket: Path, step: Step, began_s: float) -> None:
    """Until new code answers: its uptime is shorter than we have waited."""
    while monotonic() - began_s < STEP_TIMEOUT_S:
        await asyncio.sleep(_LOOK_S)
        try:
            reply = await frames.ask(socket, GetProcesses() if step.pop else GetNetwork(), _PATIENCE_S)
        except (OSError, AtollError):
            continue  # it is between the one and the other
        assert isinstance(reply, Processes | NetworkStatus)
        if reply.processes[0].uptime_s < monotonic() - began_s:
            return
    raise AtollError(f"{step.title} does not come back", hint="look at `atoll logs`")


async def _announced(paths: Paths, pop: str) -> bool:
    if not pop:
        return False
    try:
        reply = await frames.ask(paths.pop_run(pop) / "anycast.sock", GetAnycast(), _PATIENCE_S)
    except (OSError, AtollError):
        return False
    return isinstance(reply, AnycastStatus) and reply.session_up and bool(reply.announced)


async def _until_announced(paths: Paths, pop: str) -> None:
    """The next PoP's turn comes when this one's users are back, if they ever were away."""
    deadline_s = monotonic() + ANNOUNCED_TIMEOUT_S
    while not await _announced(paths, pop):
        if monotonic() > deadline_s:
            raise AtollError(f"{pop} is not announced any more", hint=f"look at `atoll logs {pop}-anycast`")
        await asyncio.sleep(_LOOK_S)
