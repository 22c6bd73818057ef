"""One network per home: an exclusive lock that the daemon holds while it lives, and who holds it.

`flock(2)` goes with its process however that ends, so a lock is never stale. It belongs to an open file: a
daemon that goes on as newer code takes the descriptor along.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Final

import msgspec

TRIES: Final = 20  # someone who asks `holder` has the lock for an instant
PAUSE_S: Final = 0.01


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon that holds the lock and what it was asked for."""

    pid: int
    started_s: float
    options: dict[str, str] = {}


_held: Final[list[int]] = []


def descriptor() -> int:
    """Of the lock that this process holds."""
    return _held[0]


def adopt(fd: int) -> None:
    """Hold the lock that the code before had."""
    _held.append(fd)


def acquire(path: Path, holder: Holder) -> bool:
    """Take the lock for as long as this process lives; False when another one has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(TRIES):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE_S)
        else:
            os.ftruncate(fd, 0)
            os.write(fd, msgspec.json.encode(holder))
            _held.append(fd)
            return True
    os.close(fd)
    return False


def holder(path: Path) -> Holder | None:
    """Who holds the lock now; None when nobody does."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _decode(os.read(fd, 65536))
    else:
        return None
    finally:
        os.close(fd)


def _decode(data: bytes) -> Holder:
    """Unreadable for the instant between locking and writing: then only that it is held is known."""
    try:
        return msgspec.json.decode(data, type=Holder)
    except msgspec.MsgspecError:
        return Holder(pid=0, started_s=0.0)
