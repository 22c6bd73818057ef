"""The list of system calls that a sandboxed process may not make, as a classic BPF program. Pure.

A deny list: what a JavaScript engine needs changes with every release, what no function ever needs does not.
Denied calls fail with EPERM; another architecture's calls end the process. `clone3` fails with ENOSYS, whose
flags a filter cannot read, so that the C library falls back to `clone`, whose flags it can. Sockets are
unix sockets or none, which keeps the network away even where namespaces are refused.
"""

from __future__ import annotations

import errno
import struct
from typing import Final

# Numbers of Linux's call tables: arch/x86/entry/syscalls/syscall_64.tbl and asm-generic/unistd.h.
DENIED: Final[dict[str, tuple[int | None, int | None]]] = {
    # name: (x86_64, aarch64)
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "modify_ldt": (154, None),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "personality": (135, 92),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "quotactl": (179, 60),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_SOCKET: Final = (41, 198)

_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_NEW_NAMESPACES: Final = 0x7E020000  # every CLONE_NEW* flag that clone(2) takes
_AF_UNIX: Final = 1
_X32_BIT: Final = 0x40000000

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06
_NR, _ARCH, _ARGUMENT0 = 0, 4, 16  # offsets in struct seccomp_data

ALLOW: Final = 0x7FFF0000
KILL_PROCESS: Final = 0x80000000
ERRNO: Final = 0x00050000

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def program(machine: str) -> list[Instruction]:
    """The filter for a machine (`x86_64` or `aarch64`)."""
    column, architecture = _ARCHITECTURES[machine]
    refuse = _RETURN, 0, 0, ERRNO | errno.EPERM
    checks: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, KILL_PROCESS),
        (_LOAD, 0, 0, _NR),
        (_AT_LEAST, 0, 1, _X32_BIT),
        refuse,
    ]
    for numbers in DENIED.values():
        number = numbers[column]
        if number is not None:
            checks += [(_EQUAL, 0, 1, number), refuse]
    checks += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, ERRNO | errno.ENOSYS)]
    checks += [(_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, _ARGUMENT0), (_ANY_BIT, 0, 1, _NEW_NAMESPACES)]
    checks += [refuse, (_LOAD, 0, 0, _NR)]
    checks += [(_EQUAL, 0, 3, _SOCKET[column]), (_LOAD, 0, 0, _ARGUMENT0), (_EQUAL, 1, 0, _AF_UNIX), refuse]
    return [*checks, (_RETURN, 0, 0, ALLOW)]


def assemble(instructions: list[Instruction]) -> bytes:
    """The program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
