"""The few calls of Linux that the standard library has no function for, with errors raised as `OSError`.

Numbers are the kernel's, from its public headers. `PyDLL` keeps the interpreter's lock: a process made by
`clone` goes on in this interpreter.
"""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

MS_RDONLY: Final = 1
MS_NOSUID: Final = 2
MS_NODEV: Final = 4
MS_NOEXEC: Final = 8
MS_REMOUNT: Final = 32
MS_BIND: Final = 4096
MS_REC: Final = 16384
MS_PRIVATE: Final = 1 << 18
MNT_DETACH: Final = 2

CLONE_PARENT: Final = 0x00008000
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

PR_SET_PDEATHSIG: Final = 1
PR_SET_SECCOMP: Final = 22
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SECCOMP_MODE_FILTER: Final = 2
LINUX_CAPABILITY_VERSION_3: Final = 0x20080522

_SYSCALLS: Final = {
    "x86_64": {"clone": 56, "pivot_root": 155, "capset": 126},
    "aarch64": {"clone": 220, "pivot_root": 41, "capset": 91},
}
_numbers = _SYSCALLS.get(platform.machine(), {})
_libc = ctypes.PyDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def supported() -> bool:
    """Whether this is a Linux whose call numbers are known here."""
    return platform.system() == "Linux" and bool(_numbers)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def clone(flags: int) -> int:
    """A copy of this process under `flags`: its id here, 0 in the copy."""
    arguments = (ctypes.c_ulong(flags), *(ctypes.c_ulong(0) for _ in range(4)))
    return _checked(_libc.syscall(ctypes.c_long(_numbers["clone"]), *arguments), "clone")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2)."""
    arguments = (source.encode(), target.encode(), kind.encode() if kind else None)
    data = options.encode() if options else None
    _checked(_libc.mount(*arguments, ctypes.c_ulong(flags), data), f"mount {target}")


def unmount(target: str) -> None:
    """umount2(2), at once for new lookups."""
    _checked(_libc.umount2(target.encode(), MNT_DETACH), f"unmount {target}")


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    _checked(_libc.syscall(ctypes.c_long(_numbers["pivot_root"]), new.encode(), old.encode()), "pivot_root")


def set_hostname(name: str) -> None:
    """sethostname(2)."""
    _checked(_libc.sethostname(name.encode(), len(name)), "sethostname")


def prctl(option: int, value: int = 0, pointer: object = None) -> int:
    """prctl(2); the result where it is one, -1 where the kernel refuses."""
    zero = ctypes.c_ulong(0)
    third = zero if pointer is None else pointer
    return int(_libc.prctl(option, ctypes.c_ulong(value), third, zero, zero))


def must_prctl(what: str, option: int, value: int = 0, pointer: object = None) -> None:
    """prctl(2) that has to succeed."""
    _checked(prctl(option, value, pointer), what)


def drop_capabilities() -> None:
    """Give up every capability of this process, and the way to any by running a program."""
    number = 0
    while prctl(PR_CAPBSET_DROP, number) >= 0:
        number += 1
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    header = (ctypes.c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.syscall(ctypes.c_long(_numbers["capset"]), header, nothing), "capset")
