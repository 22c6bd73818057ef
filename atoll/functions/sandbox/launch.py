"""Start a program in a sandbox: the order (a `Sandbox`), the launcher's argv, and the launcher itself.

The launcher makes the sandboxed process with `clone` as a *sibling*, child of whoever started the launcher,
says its process id and ends: nothing stays between a program and its supervisor. The new process is the first
of its process namespace, so when it is killed all that it started is gone too; it is killed when its
supervisor's thread ends. Where the kernel refuses namespaces the launcher becomes the program itself, with
all that can be had without them, and says so. Only that is a refusal: anything else that goes wrong (a path
that is missing, memory or a table that is full) is a failure, and the program does not run.

Reports go over a pipe as JSON lines: `{"pid": 12}`, or `{"refused": "why"}`, or `{"failed": "why"}`; the pipe
closes when the program runs.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Final, TypedDict

import atoll
from atoll.functions.sandbox import libc
from atoll.functions.sandbox.confine import confine
from atoll.functions.sandbox.room import enter, furnish

NOBODY: Final = 65534
NAMESPACES: Final = (
    libc.CLONE_NEWNS
    | libc.CLONE_NEWPID
    | libc.CLONE_NEWNET
    | libc.CLONE_NEWIPC
    | libc.CLONE_NEWUTS
    | libc.CLONE_NEWCGROUP
)

_DENIED: Final = (errno.EPERM, errno.EACCES)
_UNKNOWN: Final = (errno.ENOSYS, errno.EINVAL)  # a kernel built without them
_MOST_NAMESPACES: Final = Path("/proc/sys/user/max_user_namespaces")

_PACKAGES: Final = str(Path(atoll.__file__).resolve().parents[1])
_BOOT: Final = (
    "import sys; sys.path.append(sys.argv[1]); from atoll.functions.sandbox.launch import main; main()"
)


class Sandbox(TypedDict):
    """What to run and what it may have."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    root: str  # an empty directory that becomes the mount point of its root
    binds: list[str]  # absolute paths it can read: files, directories, unix sockets
    limits: dict[str, int]  # resource limits by name: {"NOFILE": 1024}
    namespaces: bool  # False: only what needs none of them


def launcher_argv(sandbox: Sandbox, report_fd: int) -> list[str]:
    """The command line that starts `sandbox` and reports on `report_fd`, which it must inherit."""
    order = json.dumps(sandbox, separators=(",", ":"))
    return [sys.executable, "-I", "-S", "-c", _BOOT, _PACKAGES, str(report_fd), order]


def main() -> None:
    """The launcher."""
    report_fd = int(sys.argv[2])
    sandbox: Sandbox = json.loads(sys.argv[3])
    os.set_inheritable(report_fd, False)
    if sandbox["namespaces"]:
        _start_apart(sandbox, report_fd)
    else:
        _report(report_fd, "pid", os.getpid())
        _become(sandbox, report_fd)


def _report(report_fd: int, kind: str, value: int | str) -> None:
    os.write(report_fd, json.dumps({kind: value}).encode() + b"\n")


def _start_apart(sandbox: Sandbox, report_fd: int) -> None:
    outside = os.geteuid(), os.getegid()
    try:
        pid = _clone_sibling()
    except OSError as error:
        _report(report_fd, "refused" if _refuses_namespaces(error) else "failed", str(error.strerror))
        return
    if pid:
        _report(report_fd, "pid", pid)
        return
    try:
        _map_user(*outside)
        libc.set_hostname("atoll")
        enter(sandbox["root"])
    except OSError as error:
        _report(report_fd, "refused" if error.errno in _DENIED else "failed", str(error.strerror))
        os._exit(1)
    _settle(sandbox, report_fd)


def _settle(sandbox: Sandbox, report_fd: int) -> None:
    try:
        furnish(sandbox["root"], sandbox["binds"], sandbox["argv"][0])
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _report(report_fd, "failed", f"{where}{error.strerror}")
        os._exit(1)
    _become(sandbox, report_fd)


def _refuses_namespaces(error: OSError) -> bool:
    """Whether the kernel has no namespaces for us, and not only none at this moment."""
    if error.errno == errno.ENOSPC:  # too many; whoever allows none at all has forbidden them
        return _MOST_NAMESPACES.exists() and _MOST_NAMESPACES.read_text().strip() == "0"
    return error.errno in (*_DENIED, *_UNKNOWN)


def _clone_sibling() -> int:
    if not libc.supported():
        raise OSError(errno.ENOSYS, "not a Linux this sandbox knows")
    return libc.clone(libc.CLONE_PARENT | libc.CLONE_NEWUSER | NAMESPACES | signal.SIGCHLD)


def _map_user(uid: int, gid: int) -> None:
    """Inside, this process is nobody, and there is nobody else."""
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{NOBODY} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{NOBODY} {gid} 1")


def _become(sandbox: Sandbox, report_fd: int) -> None:
    try:
        os.chdir(sandbox["cwd"])
        confine(sandbox["limits"])
        _report(report_fd, "confined", os.getpid())
        os.execve(sandbox["argv"][0], sandbox["argv"], sandbox["env"])  # noqa: S606
    except OSError as error:
        _report(report_fd, "failed", str(error.strerror))
    os._exit(127)
