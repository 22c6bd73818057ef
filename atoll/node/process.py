"""One child process: how it starts, how it says that it serves, how it ends.

A child inherits listening sockets by number (`pass_fds`), learns their names from `ATOLL_FDS`, and writes
one byte into the pipe `ATOLL_READY` when it serves (see `atoll.node.role`). Its output goes straight to its
log file. Nothing runs between fork and exec: a role asks for its own end with its supervisor, an external
program is started through `atoll.node.tether`. A supervisor that goes on as newer code keeps its process, and
with it its children: they are adopted by their numbers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

import msgspec
import psutil

from atoll.functions.sandbox.start import reap
from atoll.node.logs import open_log
from atoll.node.role import (
    FDS_VARIABLE,
    READY_VARIABLE,
    ROLE_VARIABLE,
    SUCCEEDS_VARIABLE,
    RoleConfig,
)

PROBE_INTERVAL_S: Final = 0.05
ROLE_START_S: Final = 60.0  # a machine that is overloaded needs many seconds for what takes half a one


@dataclass(frozen=True, kw_only=True)
class Launch:
    """All that is needed to start a process, again and again."""

    name: str
    argv: tuple[str, ...]
    log: Path | None  # None: what it writes goes where ours does
    env: Mapping[str, str] = field(default_factory=dict)
    fds: Mapping[str, int] = field(default_factory=dict)  # name: descriptor in this process
    probe: Callable[[], Awaitable[bool]] | None = None  # None: it notifies
    own_group: bool = False  # a session of its own, ended as one
    grace_s: float = 8.0  # between SIGTERM and SIGKILL
    start_s: float | None = None  # killed when it does not serve by then; None: it takes what it takes
    leave_s: float = 0.0  # a replaced one is told to leave and may take so long; 0: it is stopped


def role_launch(name: str, module: str, config: RoleConfig, *, own_group: bool = False) -> Launch:
    """A launch of one of our own roles, `python -m <module>`."""
    config = msgspec.structs.replace(config, supervisor_pid=os.getpid())
    return Launch(
        name=name,
        argv=(sys.executable, "-P", "-m", module),
        log=config.paths.logs / f"{log_name(name, config)}.log",
        env={ROLE_VARIABLE: msgspec.json.encode(config).decode()},
        own_group=own_group,
        start_s=None if own_group else ROLE_START_S,  # a group has roles that serve already
    )


def log_name(name: str, config: RoleConfig) -> str:
    """`lhr-edge-0` for a PoP's process, its plain name for the network's own."""
    return f"{config.pop.code}-{name}" if config.pop else name


def tethered(program: str, *arguments: str) -> tuple[str, ...]:
    """The argv of an external program that ends with this process."""
    return (sys.executable, "-P", "-m", "atoll.node.tether", str(os.getpid()), program, *arguments)


class _Process(Protocol):
    """What `Child` needs of a process."""

    @property
    def pid(self) -> int: ...

    async def wait(self) -> int: ...

    def send_signal(self, signal: int) -> None: ...


class _Adopted:
    """A child of this process that code before ours has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._exited = asyncio.ensure_future(reap(pid))

    async def wait(self) -> int:
        return await asyncio.shield(self._exited)

    def send_signal(self, signal: int) -> None:
        if not self._exited.done():
            os.kill(self.pid, signal)


class ChildState(msgspec.Struct, frozen=True, kw_only=True):
    """A running child as who takes over finds it. `started_s` is on the machine's monotonic clock."""

    pid: int
    started_s: float
    serves: bool
    ready_fd: int = -1  # the pipe in which it will say so; -1: nothing is expected there


class Child:
    """A running process; `ready()` is called once, when it serves."""

    def __init__(self, launch: Launch, process: _Process, ready: Callable[[], None]) -> None:
        self.launch = launch
        self.pid = process.pid
        self.started_s = monotonic()
        self.serves = False
        self._process = process
        self._on_ready = ready
        self._ready_fd = -1
        self._prober: asyncio.Task[None] | None = None

    @staticmethod
    def adopt(launch: Launch, state: ChildState, ready: Callable[[], None]) -> Child:
        """Look after a child that is there already."""
        child = Child(launch, _Adopted(state.pid), ready)
        child.started_s = state.started_s
        if state.serves:
            child._serve()
        elif launch.probe is not None or state.ready_fd >= 0:
            child._expect_ready(state.ready_fd)
        return child

    def export(self) -> ChildState:
        """What `adopt` needs."""
        return ChildState(pid=self.pid, started_s=self.started_s, serves=self.serves, ready_fd=self._ready_fd)

    @staticmethod
    async def start(launch: Launch, ready: Callable[[], None], succeeds: int = 0) -> Child:
        """Start the process; `succeeds` is the number of the one whose place it is to take, if there is one.

        Raises:
            OSError: the program cannot be started.
        """
        reading, writing = os.pipe()
        log = open_log(launch.log) if launch.log is not None else None
        try:
            process = await asyncio.create_subprocess_exec(
                *launch.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(launch, writing, succeeds),
                pass_fds=(*launch.fds.values(), writing),
                start_new_session=launch.own_group,
            )
        except OSError:
            os.close(reading)
            raise
        finally:
            if log is not None:
                os.close(log)
            os.close(writing)
        child = Child(launch, process, ready)
        child._expect_ready(reading)
        return child

    def _expect_ready(self, pipe: int) -> None:
        if self.launch.probe is not None:
            if pipe >= 0:
                os.close(pipe)
            self._prober = asyncio.ensure_future(self._probe(self.launch.probe))
            return
        loop = asyncio.get_running_loop()
        self._ready_fd = pipe

        def readable() -> None:
            loop.remove_reader(pipe)
            notified = os.read(pipe, 1)
            os.close(pipe)
            self._ready_fd = -1
            if notified:
                self._serve()

        loop.add_reader(pipe, readable)

    async def _probe(self, probe: Callable[[], Awaitable[bool]]) -> None:
        while True:
            if await probe():
                self._serve()
                return
            await asyncio.sleep(PROBE_INTERVAL_S)

    def _serve(self) -> None:
        self.serves = True
        self._on_ready()

    async def wait(self) -> int:
        """Its exit code (negative: the signal); what is left of its group is ended too."""
        code = await self._process.wait()
        self.serves = False
        if self._prober is not None:
            self._prober.cancel()
        if self.launch.own_group:
            self._kill_group()
        return code

    def kill(self) -> None:
        """SIGKILL, to its whole group if it has its own."""
        if self.launch.own_group:
            self._kill_group()
        else:
            self.send(signal.SIGKILL)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, then SIGKILL after the launch's grace; its exit code."""
        self.send(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.wait(), self.launch.grace_s)
        except TimeoutError:
            self.kill()
            return await self.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it is gone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def _environment(launch: Launch, ready_fd: int, succeeds: int) -> dict[str, str]:
    env = {**os.environ, FDS_VARIABLE: msgspec.json.encode(dict(launch.fds)).decode()}
    env.pop(ROLE_VARIABLE, None)
    env[READY_VARIABLE] = str(ready_fd)
    if succeeds:
        env[SUCCEEDS_VARIABLE] = str(succeeds)
    env.update(launch.env)
    return env


@dataclass(frozen=True)
class Usage:
    """What a process takes."""

    private: int = 0  # bytes nobody shares, where the kernel says; otherwise resident
    cpu_s: float = 0.0


def usage(pid: int) -> Usage:
    """What process `pid` takes now; nothing if it is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Usage(_private(process), times.user + times.system)
    except psutil.NoSuchProcess:
        return Usage()


def _private(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().uss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
