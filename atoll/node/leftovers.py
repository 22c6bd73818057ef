"""What is left of a network whose daemon is gone, found by the environment that all its processes inherited.

PoPs end by themselves when their daemon does, but in order, and that takes seconds. Whoever takes the home
over ends them first: what goes on dying would remove the sockets of what starts.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psutil

from atoll.config.paths import Paths
from atoll.node.role import ROLE_VARIABLE

SWEEP_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.05
_DAEMON: Final = '"role":"network"'
_EXTERNAL: Final = ("nats-server", "workerd")  # these may have shed the environment


def sweep(paths: Paths, *, daemons: bool = True) -> list[str]:
    """End every process of this network that is left; what they were. `daemons`: also one that starts."""
    left = {f"{process.name()} (pid {process.pid})": process for process in leftovers(paths, daemons=daemons)}
    for process in left.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline_s = monotonic() + SWEEP_TIMEOUT_S
    while any(leftovers(paths, daemons=daemons)) and monotonic() < deadline_s:
        sleep(_POLL_S)
    return list(left)


def leftovers(paths: Paths, *, daemons: bool = True) -> Iterator[psutil.Process]:
    """Processes of this user that belong to the network, without the one that asks."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _belongs(process, paths, daemons=daemons):
                yield process
        except psutil.Error:
            continue  # gone meanwhile, or somebody else's


def _belongs(process: psutil.Process, paths: Paths, *, daemons: bool) -> bool:
    if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
        return False
    role = _role(process)
    if f'"home":"{paths.home}"' in role:
        return daemons or _DAEMON not in role
    return process.name() in _EXTERNAL and names_any(process.cmdline(), (paths.home, paths.run))


def _role(process: psutil.Process) -> str:
    """What it was told that it is; "" also for one in a sandbox, which nobody may look into."""
    with contextlib.suppress(psutil.AccessDenied):
        return process.environ().get(ROLE_VARIABLE, "")
    return ""


def names_any(arguments: Iterable[str], folders: Iterable[Path]) -> bool:
    """Whether an argument is one of the folders or a path in it: `/a/edge` is nothing of `/a/ed`."""
    wanted = [str(folder) for folder in folders]
    return any(
        argument == folder or argument.startswith(f"{folder}/") for argument in arguments for folder in wanted
    )
