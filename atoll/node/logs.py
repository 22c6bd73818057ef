"""Log files of processes: opened for appending by whoever starts the process, kept to a size.

A process writes straight to its file, so nothing is lost when a supervisor dies, and nobody copies lines. A
file that has grown too large becomes `<name>.log.1`: by renaming before a start, by copying and truncating
under a running process (its descriptor appends, so it goes on at the new end).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

LARGEST: Final = 8 * 1024 * 1024


def open_log(path: Path) -> int:
    """A descriptor that appends to `path`; what is too large is set aside first. The caller closes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if _size(path) > LARGEST:
        path.replace(_older(path))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def bound_log(path: Path) -> None:
    """Set the contents of `path` aside if they are too large, under the process that writes it."""
    if _size(path) > LARGEST:
        shutil.copyfile(path, _older(path))
        os.truncate(path, 0)


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
