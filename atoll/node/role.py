"""How a supervisor tells a role who it is: one JSON value and the sockets it inherits.

The supervisor owns every listening socket; a role gets them as file descriptors, so a role that dies loses
no queued connection. A role answers with one byte on an inherited pipe when it serves, and asks the kernel
to end it with its supervisor (prctl(2), `PR_SET_PDEATHSIG`; elsewhere the process group has to do).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.paths import Paths
from atoll.config.spec import PopSpec
from atoll.errors import AtollError

ROLE_VARIABLE: Final = "ATOLL_ROLE"
FDS_VARIABLE: Final = "ATOLL_FDS"
READY_VARIABLE: Final = "ATOLL_READY"
SUCCEEDS_VARIABLE: Final = "ATOLL_SUCCEEDS"
_PR_SET_PDEATHSIG: Final = 1


class RoleConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Who a role process is. Paths are strings so that the value is JSON."""

    role: str  # edge | agent | anycast | supervisor | api | gateway | origin | network
    home: str
    run: str
    token: str
    pop: PopSpec | None = None
    index: int = 0  # which edge worker
    nats_url: str = ""  # with credentials
    options: dict[str, str] = {}  # what only one role knows: {"region": "EU"}, {"latency": "real"}
    supervisor_pid: int = 0  # the role ends with this process; 0: it is on its own

    @property
    def paths(self) -> Paths:
        """The network's paths."""
        return Paths(home=Path(self.home), run=Path(self.run), token=Path(self.token))


def read_role(env: Mapping[str, str]) -> RoleConfig:
    """The role this process was started as; from here on it ends with its supervisor.

    Raises:
        AtollError: started by hand, without the supervisor's variables.
    """
    text = env.get(ROLE_VARIABLE)
    if text is None:
        raise AtollError("this is a role of a PoP, not a command", hint="start a network with `atoll up`")
    config = msgspec.json.decode(text, type=RoleConfig)
    if config.supervisor_pid:
        # A supervisor of roles stops them in order; anything else has nothing to put in order.
        end_with(config.supervisor_pid, signal.SIGTERM if config.role == "supervisor" else signal.SIGKILL)
    return config


def end_with(parent_pid: int, number: signal.Signals) -> None:
    """Have the kernel send this process `number` when its parent ends; Linux only, survives `execve`."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if os.getppid() != parent_pid:  # it ended before we asked
        os.kill(os.getpid(), number)


def notify_ready() -> None:
    """Tell the supervisor that this role serves. Once; without a supervisor it does nothing."""
    text = os.environ.pop(READY_VARIABLE, "")
    if text:
        fd = int(text)
        try:
            os.write(fd, b"1")
        except BrokenPipeError:
            pass  # the supervisor no longer waits
        finally:
            os.close(fd)


def predecessor(env: Mapping[str, str]) -> int:
    """The process whose place this one is to take, which serves until this one does; 0: there is none."""
    return int(env.get(SUCCEEDS_VARIABLE, "0"))


async def until_gone(pid: int, patience_s: float) -> None:
    """Wait until a process that need not be ours has ended, or for so long."""
    try:
        fd = os.pidfd_open(pid)
    except (OSError, AttributeError):  # it is gone, or the system cannot tell
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(fd, gone.set)
    try:
        async with asyncio.timeout(patience_s):
            await gone.wait()
    except TimeoutError:
        pass
    finally:
        loop.remove_reader(fd)
        os.close(fd)


def inherited_sockets(env: Mapping[str, str]) -> dict[str, socket.socket]:
    """The sockets the supervisor handed over, by name ("http", "https", "bindings", ...)."""
    fds = msgspec.json.decode(env.get(FDS_VARIABLE, "{}"), type=dict[str, int])
    sockets = {}
    for name, fd in fds.items():
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        sockets[name] = sock
    return sockets
