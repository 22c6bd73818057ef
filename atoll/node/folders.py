"""The network's folders: made private to their user before anything is put into them."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path
from typing import Final

from atoll.config.paths import Paths
from atoll.errors import AtollError

_OTHERS: Final = 0o077
_WRITE_OF_OTHERS: Final = 0o022


def make_folders(paths: Paths) -> None:
    """The network's folders, private to the user.

    Raises:
        AtollError: one cannot be made, or is not the user's alone: anybody can guess the name of the one for
            sockets, and be there first.
    """
    _make(paths.home)
    _close(paths.home)
    _make(paths.logs)
    _make(paths.run.parent)
    _check_private(paths.run.parent)
    _make(paths.run)


def _close(home: Path) -> None:
    """Have a home that was there before, made by hand perhaps, read by nobody else."""
    found = home.stat()
    if found.st_mode & stat.S_ISVTX:
        hint = "ATOLL_HOME names a folder for this network alone"
        raise AtollError("the network's folder is everybody's", hint, str(home))
    if found.st_uid == os.getuid() and found.st_mode & _OTHERS:
        home.chmod(0o700)


def _check_private(folder: Path) -> None:
    found = folder.lstat()  # what a link of somebody else's points to may be ours
    hint = "remove it, or set XDG_RUNTIME_DIR to a folder of yours"
    if not stat.S_ISDIR(found.st_mode):
        raise AtollError("the folder for sockets is not a folder", hint, str(folder))
    if found.st_uid != os.getuid():
        raise AtollError(
            f"the folder for sockets belongs to another user ({found.st_uid})", hint, str(folder)
        )
    if found.st_mode & _WRITE_OF_OTHERS:
        raise AtollError("others may write to the folder for sockets", hint, str(folder))
    if found.st_mode & _OTHERS:
        folder.chmod(0o700)


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
