"""A supervisor that goes on as the code on disk: it replaces its own program and keeps its process.

With the process it keeps its number, its children, which would end with it (`PR_SET_PDEATHSIG`), and every
listening socket: nothing is closed, and whoever connects meanwhile waits in a queue for some hundred
milliseconds. What cannot be seen from outside (which child is which, which sockets are whose) is written into
a file without a name, which the new code reads.

The new code is rehearsed in a process of its own before: code that does not even start must not take the
place of code that runs, for everything below would end with it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import IO, Final

import msgspec

from atoll.errors import AtollError
from atoll.node.hosts import HostState
from atoll.node.role import ROLE_VARIABLE, RoleConfig
from atoll.node.supervisor import SupervisedState

VARIABLE: Final = "ATOLL_HANDOVER"
STOPS_VARIABLE: Final = "ATOLL_HANDOVER_STOPS"
REHEARSAL_VARIABLE: Final = "ATOLL_REHEARSAL"
REHEARSAL_S: Final = 30.0
SETTLE_S: Final = 20.0
_LOOK_S: Final = 0.02
_STOPS: Final = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("atoll.supervisor")


class Handed(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the code before leaves. Fields that one side does not know are ignored."""

    sockets: dict[str, int] = {}  # descriptors that listen, by the names that the supervisor gives them
    supervised: tuple[SupervisedState, ...] = ()
    hosts: tuple[HostState, ...] = ()
    files: dict[str, int] = {}  # other descriptors, by name

    def descriptors(self) -> Iterable[int]:
        """Every one that has to stay open."""
        yield from self.sockets.values()
        yield from self.files.values()
        for host in self.hosts:
            yield from host.fds
        for supervised in self.supervised:
            if supervised.child is not None and supervised.child.ready_fd >= 0:
                yield supervised.child.ready_fd


class Sockets:
    """The listening sockets a supervisor holds, by name: those handed over, or new ones."""

    def __init__(self, handed: Mapping[str, int]) -> None:
        self._handed = dict(handed)
        self._held: dict[str, socket.socket] = {}

    def hold(self, name: str, make: Callable[[], socket.socket]) -> socket.socket:
        """The socket of that name; made if nobody has left one."""
        fd = self._handed.pop(name, None)
        self._held[name] = sock = make() if fd is None else socket.socket(fileno=fd)
        return sock

    def export(self) -> dict[str, int]:
        """Their descriptors."""
        return {name: sock.fileno() for name, sock in self._held.items()}

    def close(self) -> None:
        """Close all of them, and what was handed over and nobody has asked for."""
        for sock in self._held.values():
            sock.close()
        for fd in self._handed.values():
            os.close(fd)
        self._handed.clear()


def take(env: dict[str, str] | os._Environ[str]) -> Handed | None:
    """What code before ours has left; None in a process that has just begun.

    Raises:
        AtollError: it cannot be read.
    """
    text = env.pop(VARIABLE, None)
    if text is None:
        return None
    handed = _read(int(text))
    os.close(int(text))
    for fd in handed.descriptors():
        os.set_inheritable(fd, False)
    return handed


_told: Final[list[int]] = []
"""Stops that the system has delivered. The loop heeds them a turn later: no exec may come between."""


def heed_stops(stop: Callable[[], None]) -> None:
    """Call `stop` when told to stop, also for what came while nobody could heed it."""
    for number in _STOPS:
        asyncio.get_running_loop().add_signal_handler(number, stop)
        # The loop is woken by a descriptor; what the handler itself does is left to others.
        signal.signal(number, lambda told, _frame: _told.append(told))
        signal.siginterrupt(number, False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    heard = os.environ.pop(STOPS_VARIABLE, None)
    if heard is not None and _taken(int(heard)):
        asyncio.get_running_loop().call_soon(stop)


def rehearses(env: Mapping[str, str]) -> bool:
    """Whether this process only shows that its code starts, and can read what is left to it.

    Raises:
        AtollError: it cannot.
    """
    if REHEARSAL_VARIABLE not in env:
        return False
    try:
        msgspec.json.decode(env.get(ROLE_VARIABLE, ""), type=RoleConfig)
    except msgspec.MsgspecError as error:
        raise AtollError(f"what the role is told cannot be read: {error}") from error
    _read(int(env[VARIABLE]))
    return True


class Upgrader:
    """Has a supervisor go on as the code on disk.

    `settled` says whether everything can be exported just now; `export` does it.
    """

    def __init__(self, module: str, settled: Callable[[], bool], export: Callable[[], Handed]) -> None:
        self._module = module
        self._settled = settled
        self._export = export
        self._turn = asyncio.Lock()

    async def upgrade(self) -> None:
        """Returns just before it happens, when nothing but a broken kernel can stop it any more.

        Raises:
            AtollError: the code on disk does not start, or something here does not settle.
        """
        if self._turn.locked():
            raise AtollError("an upgrade is under way already")
        async with self._turn:
            await self._until_settled()
            await self._rehearse()
            await self._until_settled()
            # Whoever has asked gets the answer first: it is written in this turn of the loop.
            asyncio.get_running_loop().call_soon(self._go)

    async def _until_settled(self) -> None:
        deadline_s = monotonic() + SETTLE_S
        while not self._settled():
            if monotonic() > deadline_s:
                raise AtollError("something here is always starting or stopping", hint="try again later")
            await asyncio.sleep(_LOOK_S)

    def _go(self) -> None:
        if self._settled():
            become(self._module, self._export())
        else:
            asyncio.get_running_loop().call_later(_LOOK_S, self._go)

    async def _rehearse(self) -> None:
        with _written(self._export()) as file:
            env = {**os.environ, VARIABLE: str(file.fileno()), REHEARSAL_VARIABLE: "1"}
            process = await asyncio.create_subprocess_exec(
                *_argv(self._module),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=env,
                pass_fds=(file.fileno(),),
            )
            try:
                async with asyncio.timeout(REHEARSAL_S):
                    _, said = await process.communicate()
            except TimeoutError:
                process.kill()
                await process.wait()
                raise AtollError(
                    "the code on disk does not start in time", hint="what runs goes on"
                ) from None
        if process.returncode != 0:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise AtollError(f"the code on disk does not start: {last}", hint="what runs goes on")


def become(module: str, handed: Handed) -> None:
    """Replace this program by `module` as it is on disk; returns if it has just been told to stop instead."""
    file = _written(handed)
    kept = [file.fileno(), *handed.descriptors()]
    for fd in kept:
        os.set_inheritable(fd, True)
    argv, env = _argv(module), {**os.environ, VARIABLE: str(file.fileno())}
    _log.info("goes on as the code on disk")
    # Who tells it to stop from now on is heard by what follows: what this thread has blocked waits for that,
    # and what another one takes in the moments until there are none is written where the new code looks.
    heard, hears = os.pipe()
    os.set_blocking(hears, False)
    os.set_inheritable(heard, True)
    env[STOPS_VARIABLE] = str(heard)
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    loops = signal.set_wakeup_fd(hears, warn_on_full_buffer=False)
    try:
        if not _told:
            os.execve(sys.executable, argv, env)  # noqa: S606
    except OSError as error:
        _log.error("cannot go on as the code on disk: %s", error)
    signal.set_wakeup_fd(loops)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
    for number in _taken(heard):
        signal.raise_signal(number)  # the loop has not heard of it
    os.close(hears)
    for fd in kept:
        os.set_inheritable(fd, False)
    file.close()


def _taken(heard: int) -> bytes:
    """The stops that another thread has taken meanwhile; closes the pipe that they are in."""
    os.set_blocking(heard, False)
    try:
        numbers = os.read(heard, 64)
    except BlockingIOError:
        numbers = b""
    os.close(heard)
    return bytes(number for number in numbers if number in _STOPS)


def _argv(module: str) -> list[str]:
    return [sys.executable, "-P", "-m", module]


def _written(handed: Handed) -> IO[bytes]:
    """A file without a name, which is gone when nobody has it open."""
    file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - whoever asked closes it
    file.write(msgspec.json.encode(handed))
    file.flush()
    return file


def _read(fd: int) -> Handed:
    try:
        return msgspec.json.decode(os.pread(fd, os.fstat(fd).st_size, 0), type=Handed)
    except (OSError, msgspec.MsgspecError) as error:
        raise AtollError(f"what the code before has left cannot be read: {error}") from error
