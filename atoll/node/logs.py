"""Log files of processes: opened for appending by whoever starts the process, kept to a size.

A process writes straight to its file, so nothing is lost when a supervisor dies, and nobody copies lines. A
file that has grown too large becomes `<name>.log.1`: by renaming before a start, by copying its end and
truncating under a running process (its descriptor appends, so it goes on at the new end).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Final

LARGEST: Final = 8 * 1024 * 1024
_CHUNK: Final = 1024 * 1024

_log = logging.getLogger("atoll.logs")


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`; what is too large is set aside first. The caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if _size(path) > LARGEST:
        path.replace(_older(path))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def bound_log(path: Path) -> None:
    """Set the last `LARGEST` bytes of `path` aside if it has more, under the process that writes it.

    Never raises: one log that cannot be copied is no reason to let the others grow.
    """
    try:
        size = _size(path)
        if size > LARGEST:
            _copy_end(path, size)
            os.truncate(path, 0)
    except OSError as error:
        _log.error("%s is not kept to a size: %s", path, error)


def _copy_end(path: Path, size: int) -> None:
    """To its older one; no more than that, however fast it grows meanwhile."""
    copy = os.open(_older(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with path.open("rb") as whole, open(copy, "wb") as end:
        os.fchmod(copy, 0o600)  # also one that another version has made
        whole.seek(size - LARGEST)
        for _ in range(LARGEST // _CHUNK):
            end.write(whole.read(_CHUNK))


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
