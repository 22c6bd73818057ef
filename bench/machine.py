"""Processes on chosen cores and what they use, from /proc: Linux only.

The servers that are measured share core 0, the load generator and the origin have core 1. A child inherits
the affinity of the thread that starts it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError

ROOT: Final = Path(__file__).resolve().parent.parent
SERVER_CORE: Final = 0
LOAD_CORE: Final = 1
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_GRACE_S: Final = 5.0
_MEMORY_FOLDER: Final = Path("/dev/shm")
_SCRATCH_BYTES: Final = 6 * 1024**3  # caches on disk of three servers, and their logs


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What a number was measured on."""

    cpu: str
    cores: int
    kernel: str
    python: str


@contextlib.contextmanager
def orderly_end() -> Iterator[None]:
    """Being told to end (SIGTERM) ends what was started in here, too, as an interrupt does."""

    def leave(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for caches and logs; in memory where there is enough, or a slow disk would be measured."""
    with tempfile.TemporaryDirectory(prefix="atoll-bench-", dir=_scratch_base()) as name:
        yield Path(name)


def _scratch_base() -> Path | None:
    with contextlib.suppress(OSError):
        if shutil.disk_usage(_MEMORY_FOLDER).free >= _SCRATCH_BYTES:
            return _MEMORY_FOLDER
    return None


def describe() -> Machine:
    """This machine."""
    return Machine(
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def require() -> None:
    """Two cores and /proc.

    Raises:
        AtollError: this machine cannot tell who used what.
    """
    if sys.platform != "linux":
        raise AtollError("benchmarks run on Linux", hint="they read CPU times from /proc and pin to cores")
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise AtollError("benchmarks need cores 0 and 1", hint="one for the server, one for the load")


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started in here runs on `core`."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(
    core: int,
    argv: Sequence[str],
    log: Path,
    env: Mapping[str, str] | None = None,
    fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """A process on `core` whose output goes to `log`; `python -m bench.…` works in it."""
    python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    with on_core(core), log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PYTHONPATH": python_path, **(env or {})},
            pass_fds=tuple(fds),
        )


def pin(pids: Iterable[int], core: int) -> None:
    """Keep running processes on `core`, all their threads: some choose others when they start."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def stop(process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGTERM) -> None:
    """End a process we have started."""
    if process.poll() is None:
        process.send_signal(number)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    """CPU seconds a process has used, all its threads, user and system."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    fields = stat[stat.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_bytes(pids: Iterable[int]) -> int:
    """Resident memory of processes; pages they share with each other or with others count by share."""
    found = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                found += int(line.split()[1]) * 1024
    return found


def children(pid: int, title: bytes) -> list[int]:
    """The processes that `pid` has started and whose command line begins with `title`."""
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if Path(f"/proc/{child}/cmdline").read_bytes().startswith(title)]
