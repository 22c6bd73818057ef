"""What a process gives up before it becomes the program it was started for.

In order: what it may use (limits), what it may become (capabilities, no new privileges), what it may ask of
the kernel (the filter), and that it ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import platform
import resource
import signal

from atoll.functions.sandbox import libc, seccomp


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def limit(limits: dict[str, int]) -> None:
    """Set resource limits by name (`NOFILE`, `DATA`, ...), never above what is allowed already.

    A write beyond `FSIZE` is an error to whoever writes, and does not end the process.
    """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for name, wanted in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        _, hard = resource.getrlimit(which)
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (value, value))


def confine(limits: dict[str, int]) -> None:
    """Give up everything listed above.

    Raises:
        OSError: the kernel refuses one of them.
    """
    limit(limits)
    if not libc.supported():
        return
    libc.drop_capabilities()
    libc.must_prctl("no_new_privs", libc.PR_SET_NO_NEW_PRIVS, 1)
    _filter_calls()
    # Last: a change of credentials clears it.
    libc.must_prctl("pdeathsig", libc.PR_SET_PDEATHSIG, signal.SIGKILL)


def _filter_calls() -> None:
    code = seccomp.assemble(seccomp.program(platform.machine()))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc.must_prctl("seccomp", libc.PR_SET_SECCOMP, libc.SECCOMP_MODE_FILTER, ctypes.byref(program))
