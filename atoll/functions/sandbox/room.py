"""The file system of a sandboxed process: an empty root into which a list of paths is bound, read-only.

Runs in a new mount namespace, before anything is given up. Paths keep their names, so that a program's
configuration is the same inside and outside. There is no /proc and no /sys; `/proc/self/exe` is a plain
link, because a program asks where it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from atoll.functions.sandbox import libc

DEVICES: Final = ("/dev/null", "/dev/urandom")
TMP_SIZE: Final = 16 * 1024 * 1024

_KEPT_FLAGS: Final = {os.ST_NOSUID: libc.MS_NOSUID, os.ST_NODEV: libc.MS_NODEV, os.ST_NOEXEC: libc.MS_NOEXEC}
_TIME_FLAGS: Final = {os.ST_NOATIME: 1 << 10, os.ST_NODIRATIME: 1 << 11, os.ST_RELATIME: 1 << 21}


def enter(root: str) -> None:
    """Begin an empty file system at `root`, an existing directory: what a kernel refuses, it refuses here.

    Raises:
        OSError: the kernel refuses a mount.
    """
    libc.mount("none", "/", None, libc.MS_REC | libc.MS_PRIVATE)
    libc.mount("tmpfs", root, "tmpfs", libc.MS_NOSUID, "size=1m,mode=0755")
    _tmp(f"{root}/tmp")  # noqa: S108 - first: what is bound may live below it


def furnish(root: str, binds: list[str], program: str) -> None:
    """Make `root`, which has been begun, this process' root, with `binds` in it.

    Raises:
        OSError: a step fails: a path is missing, memory is short.
    """
    for path in (*DEVICES, *binds):
        _bind(path, root)
    Path(f"{root}/proc/self").mkdir(parents=True)
    Path(f"{root}/proc/self/exe").symlink_to(program)
    os.chdir(root)
    libc.pivot_root(".", ".")
    libc.unmount(".")
    os.chdir("/")
    libc.mount("none", "/", None, libc.MS_REMOUNT | libc.MS_BIND | libc.MS_RDONLY | libc.MS_NOSUID)


def _tmp(path: str) -> None:
    Path(path).mkdir(exist_ok=True)
    flags = libc.MS_NOSUID | libc.MS_NODEV | libc.MS_NOEXEC
    libc.mount("tmpfs", path, "tmpfs", flags, f"size={TMP_SIZE},mode=1777")


def _bind(path: str, root: str) -> None:
    target = Path(f"{root}{path}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if Path(path).is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    libc.mount(path, str(target), None, libc.MS_BIND)
    flags = _flags_of(str(target)) | libc.MS_RDONLY | libc.MS_NOSUID
    libc.mount("none", str(target), None, libc.MS_REMOUNT | libc.MS_BIND | flags)


def _flags_of(path: str) -> int:
    """A bound mount keeps what the one it comes from forbids; the kernel refuses to loosen it."""
    found = os.statvfs(path).f_flag
    return sum(mount for stat, mount in {**_KEPT_FLAGS, **_TIME_FLAGS}.items() if found & stat)
