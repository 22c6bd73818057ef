"""Starting and ending the network daemon from the command line.

The daemon reports over a pipe: one byte when it runs, its error otherwise. What is left of a network after
its daemon is gone is found by the environment that every process of it inherited.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Final

import msgspec
import psutil

from atoll.config.paths import Paths
from atoll.errors import AtollError
from atoll.node import lock
from atoll.node.folders import make_folders
from atoll.node.logs import open_log
from atoll.node.role import READY_VARIABLE, ROLE_VARIABLE, RoleConfig
from atoll.wire.messages import Failed

STOP_TIMEOUT_S: Final = 40.0
SWEEP_TIMEOUT_S: Final = 5.0
_POLL_S: Final = 0.05
_EXTERNAL: Final = ("nats-server", "workerd")  # these may have shed the environment


def start(paths: Paths, options: dict[str, str]) -> None:
    """Start the daemon, detached; returns when it runs.

    Raises:
        AtollError: it does not, in its own words.
    """
    config = RoleConfig(
        role="network", home=str(paths.home), run=str(paths.run), token=str(paths.token), options=options
    )
    make_folders(paths)
    reading, writing = os.pipe()
    log = open_log(paths.logs / "network.log")
    env = {**os.environ, ROLE_VARIABLE: msgspec.json.encode(config).decode(), READY_VARIABLE: str(writing)}
    subprocess.Popen(
        [sys.executable, "-P", "-m", "atoll.node.network"],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        env=env,
        cwd="/",
        pass_fds=(writing,),
        start_new_session=True,
    )
    os.close(log)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        _judge(pipe.read(), paths)


def _judge(report: bytes, paths: Paths) -> None:
    if report == b"1":
        return
    if not report:
        hint, log = "the end of its log says why", paths.logs / "network.log"
        raise AtollError("the network daemon ended at its start", hint, str(log))
    failed = msgspec.json.decode(report, type=Failed)
    raise AtollError(failed.message, failed.hint, failed.where)


def stop(holder: lock.Holder, paths: Paths) -> bool:
    """Have the daemon stop everything; whether it has ended in time."""
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:
        return True
    deadline_s = monotonic() + STOP_TIMEOUT_S
    while lock.holder(paths.lock_file) is not None:
        if monotonic() > deadline_s:
            return False
        sleep(_POLL_S)
    return True


def sweep(paths: Paths) -> list[str]:
    """End every process of this network that is left; what they were."""
    left = {f"{process.name()} (pid {process.pid})": process for process in leftovers(paths)}
    for process in left.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    deadline_s = monotonic() + SWEEP_TIMEOUT_S
    while any(leftovers(paths)) and monotonic() < deadline_s:
        sleep(_POLL_S)
    return list(left)


def leftovers(paths: Paths) -> Iterator[psutil.Process]:
    """Processes of this user that belong to the network."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _belongs(process, paths):
                yield process
        except psutil.Error:
            continue  # gone meanwhile, or somebody else's


def _belongs(process: psutil.Process, paths: Paths) -> bool:
    if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
        return False
    role = process.environ().get(ROLE_VARIABLE, "")
    if f'"home":"{paths.home}"' in role:
        return True
    folders = (str(paths.home), str(paths.run))
    return process.name() in _EXTERNAL and any(
        folder in part for part in process.cmdline() for folder in folders
    )
