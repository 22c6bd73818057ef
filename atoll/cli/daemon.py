"""Starting and ending the network daemon from the command line.

The daemon reports over a pipe: one byte when it runs, its error otherwise.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from time import monotonic, sleep
from typing import Final

import msgspec

from atoll.config.paths import Paths
from atoll.errors import AtollError
from atoll.node import lock
from atoll.node.code import compile_ahead
from atoll.node.folders import make_folders
from atoll.node.logs import open_log
from atoll.node.role import READY_VARIABLE, ROLE_VARIABLE, RoleConfig
from atoll.wire.messages import Failed

STOP_TIMEOUT_S: Final = 40.0
_POLL_S: Final = 0.05


def start(paths: Paths, options: dict[str, str]) -> None:
    """Start the daemon, detached; returns when it runs.

    Raises:
        AtollError: it does not, in its own words.
    """
    config = RoleConfig(
        role="network", home=str(paths.home), run=str(paths.run), token=str(paths.token), options=options
    )
    make_folders(paths)
    compile_ahead()
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
    """Have the daemon stop everything; whether it has ended in time.

    Raises:
        AtollError: the lock is held, and its file does not say by whom.
    """
    if holder.pid <= 0:  # to `kill` this is no process but a group of them, ours among them
        hint = f"try again in a moment; `fuser {paths.lock_file}` names who holds it"
        raise AtollError("the network's lock is held by a process that it does not name", hint)
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
