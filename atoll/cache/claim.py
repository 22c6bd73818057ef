"""Who uses a store's folder, and whether what is in it can be trusted.

The index is written without waiting for the disk. That is safe when processes are killed, because the kernel
keeps what they wrote, and not when the kernel itself ends. So a marker says under which boot of which machine
the store is in use: another boot without an orderly end in between, and it starts empty. It starts empty as
well when its index can not be opened, and when it has not been closed properly several times and then fails a
check of its structure: a damaged index could end every process that reads it.

Openers and closers come one at a time; whoever is alone may check, empty and mark.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb.verify
import msgspec
import psutil

FORMAT: Final = 1
"""Of index and folder. Another format is another folder: workers of two versions can run side by side."""

_PATIENCE_S: Final = 5.0
_PAUSE_S: Final = 0.002
_SUSPICIOUS: Final = 3  # ends that were not orderly, before the store was trusted
_MOST_VERIFIED: Final = 256 * 1024 * 1024  # bytes of index; larger ones take too long, and start empty

_log = logging.getLogger("atoll.cache")


class Marker(msgspec.Struct, kw_only=True):
    """What is known about a store before it is opened."""

    boot: str
    machine: str
    seed: int  # of the hashes of its keys
    in_use: bool = False
    disorderly: int = 0  # ends that were not orderly, since it was trusted


class Claim:
    """A process' use of a folder, for as long as it holds it."""

    def __init__(self, folder: Path) -> None:
        """Claim the folder, which is made or emptied where needed.

        Raises:
            OSError: the folder can not be used.
        """
        self.folder = folder / f"v{FORMAT}"
        self.bodies = self.folder / "bodies"
        self.segments = self.folder / "segments"
        self.index = self.folder / "index"
        self.writable = _prepare(folder, self.folder)
        self._users = -1
        if not self.writable:
            self.marker = _read(self.folder) or Marker(boot="", machine="", seed=0)
            return
        self._users = os.open(self.folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with self._door():
                if self._alone():
                    self._take_over()
                fcntl.flock(self._users, fcntl.LOCK_SH)
                self.marker = _read(self.folder) or self._fresh()
        except BaseException:
            os.close(self._users)
            raise

    def release(self) -> None:
        """The process no longer uses the folder; all that it wrote is on the disk."""
        if self._users < 0:
            return
        with contextlib.suppress(OSError), self._door():
            if self._alone():
                self.marker.in_use = False
                _write(self.folder, self.marker)
        os.close(self._users)
        self._users = -1

    def trust(self) -> None:
        """The store has worked for a while: what came before is forgiven."""
        if self.writable and self.marker.disorderly:
            with contextlib.suppress(OSError), self._door():
                self.marker.disorderly = 0
                _write(self.folder, self.marker)

    def start_empty(self, why: str) -> bool:
        """Empty the folder because it can not be used; False when others use it."""
        if not self.writable:
            return False
        with contextlib.suppress(OSError), self._door():
            alone = self._alone()
            if alone:
                self._empty(why)
                self.marker = self._fresh()
            fcntl.flock(self._users, fcntl.LOCK_SH)
            return alone
        return False

    def _take_over(self) -> None:
        """Nobody else uses the folder: look at what is there."""
        marker = _read(self.folder)
        if marker is None:
            if any(self.index.glob("*")):
                self._empty("nothing says what it is")
            marker = self._fresh()
        elif marker.in_use and (marker.boot, marker.machine) != (_boot(), _machine()):
            self._empty("the system went down while it was in use")
            marker = self._fresh()
        elif marker.in_use:
            marker.disorderly += 1
            if marker.disorderly >= _SUSPICIOUS:
                marker.disorderly = 0
                if not self._verified():
                    self._empty("its index is damaged")
                    marker = self._fresh()
        for path in (self.index, self.segments, self.bodies):
            path.mkdir(mode=0o700, exist_ok=True)
        marker.boot, marker.machine, marker.in_use = _boot(), _machine(), True
        _write(self.folder, marker)
        _remove_others(self.folder)

    def _verified(self) -> bool:
        """Whether the index's structure is sound. Reads it without the library that could stumble."""
        data = self.index / "data.mdb"
        try:
            if not data.exists():
                return True
            if data.stat().st_size > _MOST_VERIFIED:
                return False
            findings: list[str] = lmdb.verify.verify(str(self.index))  # type: ignore[no-untyped-call]
            return not findings
        except (OSError, ValueError, lmdb.verify.VerifyError):
            return False

    def _empty(self, why: str) -> None:
        _log.warning("the cache in %s starts empty: %s", self.folder, why)
        for path in (self.index, self.segments, self.bodies):
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700, exist_ok=True)

    def _fresh(self) -> Marker:
        marker = Marker(boot=_boot(), machine=_machine(), seed=secrets.randbits(63), in_use=True)
        _write(self.folder, marker)
        return marker

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @contextlib.contextmanager
    def _door(self) -> Iterator[None]:
        """One opener or closer at a time."""
        fd = os.open(self.folder / "open.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd)
            yield
        finally:
            os.close(fd)


def _lock(fd: int) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)
        else:
            return


def _prepare(outer: Path, inner: Path) -> bool:
    """Make the folders; whether anything can be written there."""
    try:
        for path in (outer, inner):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(inner / "open.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        if not (inner / "marker").exists():
            raise
        return False
    os.close(fd)
    return True


def _read(folder: Path) -> Marker | None:
    try:
        return msgspec.json.decode((folder / "marker").read_bytes(), type=Marker)
    except (OSError, msgspec.MsgspecError):
        return None


def _write(folder: Path, marker: Marker) -> None:
    """On the disk when this returns: it is read after a crash of the system."""
    path = folder / "marker.new"
    with path.open("wb") as file:
        file.write(msgspec.json.encode(marker))
        file.flush()
        os.fsync(file.fileno())
    path.replace(folder / "marker")
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_others(folder: Path) -> None:
    """Stores of other formats go when nobody uses them."""
    for other in folder.parent.glob("v*"):
        if other == folder or not (other / "users.lock").exists():
            continue
        with contextlib.suppress(OSError):
            fd = os.open(other / "users.lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(other, ignore_errors=True)
            finally:
                os.close(fd)


def _boot() -> str:
    """Changes when the system starts."""
    return _line("/proc/sys/kernel/random/boot_id") or str(int(psutil.boot_time()))


def _machine() -> str:
    return _line("/etc/machine-id")


def _line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
