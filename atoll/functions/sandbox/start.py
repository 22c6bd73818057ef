"""Start a sandboxed process from an event loop and learn of its end.

The launcher's reports are read to their end, which is when the program runs. If the kernel refuses namespaces
the program is started once more without them, unless they are required: `Sandboxed.reduced` says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping
from typing import Final

from atoll.errors import AtollError
from atoll.functions.sandbox.launch import Sandbox, launcher_argv

SANDBOX_VARIABLE: Final = "ATOLL_SANDBOX"
REQUIRED: Final = "required"
UNKNOWN_EXIT: Final = 255


def is_required(env: Mapping[str, str]) -> bool:
    """Whether whoever runs this wants a full sandbox or no functions.

    Raises:
        AtollError: they ask for something else; what they want is not guessed.
    """
    asked = env.get(SANDBOX_VARIABLE, "")
    if asked not in ("", REQUIRED):
        raise AtollError(f"{SANDBOX_VARIABLE} is {asked!r}", hint=f"{REQUIRED}, or nothing")
    return asked == REQUIRED


class Sandboxed:
    """A process of ours; `exited` is done when it is gone and reaped."""

    def __init__(self, pid: int, reduced: str) -> None:
        self.pid = pid
        self.reduced = reduced  # why it has no namespaces; "" when it has
        self.exited: asyncio.Task[int] = asyncio.ensure_future(reap(pid))

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless it is gone."""
        if not self.exited.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


async def reap(pid: int) -> int:
    """Wait for a child of this process: its exit code, negative for a signal.

    `UNKNOWN_EXIT` for one that code before ours in this process has reaped without telling.
    """
    try:
        if hasattr(os, "pidfd_open"):
            await _readable(os.pidfd_open(pid))
            return _exit_code(pid)
        return await asyncio.get_running_loop().run_in_executor(None, _exit_code, pid)
    except (ProcessLookupError, ChildProcessError):
        return UNKNOWN_EXIT


def _exit_code(pid: int) -> int:
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


async def _readable(fd: int) -> None:
    """Wait until `fd` is readable, then close it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def start(
    sandbox: Sandbox, output_fd: int, inherited: tuple[int, ...], *, required: bool = False
) -> Sandboxed:
    """Start it, its output going to `output_fd`. `required`: in its namespaces or not at all.

    Raises:
        AtollError: it cannot be started.
    """
    reports = await _launch(sandbox, output_fd, inherited)
    refused = reports.get("refused")
    if refused is not None:
        if required:
            hint = f"{SANDBOX_VARIABLE}={REQUIRED} asks for it: allow user namespaces, or do not ask"
            raise AtollError(f"no full sandbox can be had here: {refused}", hint)
        reports = await _launch({**sandbox, "namespaces": False}, output_fd, inherited)
    if "failed" in reports or "confined" not in reports:
        why = reports.get("failed", "the launcher ended without a word: look at its log")
        raise AtollError(f"{sandbox['argv'][0]} cannot be started: {why}")
    return Sandboxed(int(reports["pid"]), str(refused or ""))


async def _launch(sandbox: Sandbox, output_fd: int, inherited: tuple[int, ...]) -> dict[str, int | str]:
    """One run of the launcher: its reports. What it left behind in vain is reaped."""
    reading, writing = os.pipe()
    try:
        launcher = _spawn(launcher_argv(sandbox, writing), output_fd, (*inherited, writing))
    except OSError as error:
        os.close(reading)
        raise AtollError(f"the sandbox cannot be started: {error.strerror}") from error
    finally:
        os.close(writing)
    reports = _parse(await _read_to_end(reading))
    ours = {launcher, int(reports.get("pid", launcher))}
    if "confined" in reports and "failed" not in reports:
        ours.discard(int(reports["pid"]))
    for pid in ours:
        await reap(pid)
    return reports


def _spawn(argv: list[str], output_fd: int, inherited: tuple[int, ...]) -> int:
    """A process that is reaped by its id, not by this object. Started from the calling thread: when a thread
    ends, so do the processes that asked to."""
    devnull = subprocess.DEVNULL
    process = subprocess.Popen(
        argv, stdin=devnull, stdout=output_fd, stderr=output_fd, env={}, pass_fds=inherited
    )
    process.returncode = 0
    return process.pid


async def _read_to_end(fd: int) -> bytes:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(fd, "rb", 0)
    )
    try:
        return await reader.read()
    finally:
        transport.close()


def _parse(text: bytes) -> dict[str, int | str]:
    reports: dict[str, int | str] = {}
    for line in text.splitlines():
        reports.update(json.loads(line))
    return reports
