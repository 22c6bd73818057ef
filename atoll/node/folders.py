"""The network's folders: made private to their user before anything is put into them."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from atoll.config.paths import Paths
from atoll.errors import AtollError


def make_folders(paths: Paths) -> None:
    """The network's folders, private to the user.

    Raises:
        AtollError: one cannot be made, or the folder for sockets, whose name anybody can guess, is not ours.
    """
    for folder in (paths.home, paths.logs, paths.run.parent):
        _make(folder)
    owner = paths.run.parent.stat().st_uid
    if owner != os.getuid():
        message = f"the folder for sockets belongs to another user ({owner})"
        hint = "set XDG_RUNTIME_DIR to a folder of yours"
        raise AtollError(message, hint, where=str(paths.run.parent))
    _make(paths.run)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        hint = "ATOLL_HOME chooses the network's folder, XDG_RUNTIME_DIR that of its sockets"
        raise AtollError(f"a folder cannot be used: {error.strerror}", hint, str(error.filename)) from error


def clear_run(paths: Paths) -> None:
    """Remove the sockets that a run before has left; only for who holds the lock."""
    shutil.rmtree(paths.run, ignore_errors=True)
    paths.run.mkdir(mode=0o700)


def remove_run(paths: Paths) -> None:
    """Remove the sockets, and the folder around them when no other network of this user has any there."""
    shutil.rmtree(paths.run, ignore_errors=True)
    with contextlib.suppress(OSError):
        paths.run.parent.rmdir()
