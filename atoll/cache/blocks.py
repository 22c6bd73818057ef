"""Long bodies: a file each, in blocks that have a checksum each.

    block 0 │ block 1 │ … │ last block, shorter │ index: one 64-bit checksum a block

The record of the response knows the body's length and the checksum of the index, so a file that is short,
too long or somebody else's is found when it is opened, and a damaged block when it is read: what is wrong is
never handed out. A file is written once, by one process, which holds a lock on it for as long as no record
points there; whoever finds a file without record and without lock may remove it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Final

from xxhash import xxh3_64_intdigest

BLOCK: Final = 256 * 1024
FOLDERS: Final = 256
TRUST_S: Final = 60.0
"""How long a block that was whole is taken to be, where its bytes go to the network without a look."""

_RUN: Final = 16  # blocks read at once
_MAX_CHECKED: Final = 16_384  # files


class TornBody(OSError):
    """A body is not what was stored."""


def path_of(folder: Path, name: bytes) -> Path:
    """Where the file `name` (16 bytes) is."""
    text = name.hex()
    return folder / text[:2] / text[2:]


def cost_of(length: int) -> int:
    """Bytes of disk that a body of `length` takes, with its index and its place in the file system."""
    blocks = -(-length // BLOCK)
    return -(-(length + 8 * blocks) // 4096) * 4096 + 4096


class Checked:
    """Which blocks of which files were found whole a moment ago. A file is written once, and by one name."""

    def __init__(self) -> None:
        self._marks: dict[Path, tuple[int, float]] = {}  # blocks, a bit each, and until when (monotonic)

    def blocks(self, path: Path, now_s: float) -> int:
        """Those of a file that need no look, a bit each."""
        blocks, until_s = self._marks.get(path, (0, 0.0))
        return blocks if until_s > now_s else 0

    def add(self, path: Path, blocks: int, now_s: float) -> None:
        """These have been looked at; trust ends for all of a file at once."""
        known, until_s = self._marks.pop(path, (0, 0.0))
        if until_s <= now_s:
            known, until_s = 0, now_s + TRUST_S
        self._marks[path] = (known | blocks, until_s)
        if len(self._marks) > _MAX_CHECKED:
            del self._marks[next(iter(self._marks))]


class StoredBody:
    """One long body, open: it can be read for as long as this exists, even when it is evicted meanwhile."""

    def __init__(
        self,
        fd: int,
        length: int,
        sums: tuple[int, ...],
        on_torn: Callable[[], None],
        path: Path,
        checked: Checked,
    ) -> None:
        self.length = length
        self._fd = fd
        self._sums = sums
        self._on_torn = on_torn
        self._path = path
        self._checked = checked
        self._last: tuple[int, bytes] | None = None  # the block read last: small reads in a row are usual

    def __len__(self) -> int:
        return self.length

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Nothing can be read any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`, as far as there are any.

        Raises:
            TornBody: they are not what was stored; the record is dropped.
            OSError: the disk failed.
        """
        end = min(end, self.length)
        if start >= end:
            return b""
        first, last = start // BLOCK, (end - 1) // BLOCK
        if first == last:
            return self._block(first)[start - first * BLOCK : end - first * BLOCK]
        pieces = list(self._run(first, last + 1))
        pieces[0] = pieces[0][start - first * BLOCK :]
        pieces[-1] = pieces[-1][: end - last * BLOCK]
        return b"".join(pieces)

    def file(self, start: int, end: int) -> int:
        """A descriptor from which whoever needs no look at them may have the bytes `start` to before `end`.

        Their blocks are checked unless they were within `TRUST_S`: what is damaged on the disk in between,
        and read again from there, is found out later.

        Raises:
            TornBody: they are not what was stored; the record is dropped.
            OSError: the disk failed.
        """
        first, stop = start // BLOCK, -(-min(end, self.length) // BLOCK)
        now_s = monotonic()
        known = self._checked.blocks(self._path, now_s)
        missing = [number for number in range(first, stop) if not known >> number & 1]
        for number in missing:
            self._check(number, os.pread(self._fd, min(BLOCK, self.length - number * BLOCK), number * BLOCK))
        if missing:
            self._checked.add(self._path, sum(1 << number for number in missing), now_s)
        return self._fd

    def blocks(self, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The body from `start` to before `end` in pieces of up to one block; raises what `read` does."""
        end = self.length if end is None else min(end, self.length)
        while start < end:
            stop = min(end, (start // BLOCK + 1) * BLOCK)
            yield self.read(start, stop)
            start = stop

    def _block(self, number: int) -> bytes:
        last = self._last
        if last is not None and last[0] == number:
            return last[1]
        data = os.pread(self._fd, min(BLOCK, self.length - number * BLOCK), number * BLOCK)
        self._check(number, data)
        self._last = (number, data)
        return data

    def _run(self, first: int, stop: int) -> Iterator[bytes]:
        for start in range(first, stop, _RUN):
            count = min(_RUN, stop - start)
            data = os.pread(self._fd, min(count * BLOCK, self.length - start * BLOCK), start * BLOCK)
            for number in range(start, start + count):
                block = data[(number - start) * BLOCK : (number - start + 1) * BLOCK]
                self._check(number, block)
                yield block

    def _check(self, number: int, data: bytes) -> None:
        if (
            len(data) != min(BLOCK, self.length - number * BLOCK)
            or xxh3_64_intdigest(data) != self._sums[number]
        ):
            self._on_torn()
            raise TornBody(f"block {number} of a stored body is damaged")


def open_body(
    path: Path, length: int, index_check: int, on_torn: Callable[[], None], checked: Checked
) -> StoredBody | None:
    """The body in the file `path`; None when that is not what was written.

    Raises:
        OSError: it is not there, or can not be opened.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    sums = _sums(fd, length, index_check)
    if sums is None:
        os.close(fd)
        return None
    return StoredBody(fd, length, sums, on_torn, path, checked)


def _sums(fd: int, length: int, index_check: int) -> tuple[int, ...] | None:
    count = -(-length // BLOCK)
    try:
        index = os.pread(fd, 8 * count + 1, length)  # a byte more, to see that nothing follows
    except OSError:
        return None
    if len(index) != 8 * count or xxh3_64_intdigest(index) != index_check:
        return None
    return struct.unpack(f">{count}Q", index)


class BodyFile:
    """A body that is being written. Whatever raises `OSError` here has not harmed what is stored."""

    def __init__(self, folder: Path, name: bytes) -> None:
        """A new file, ours until `close`."""
        self.name = name
        self.length = 0
        self.reserved = 0  # bytes that it may take
        self._fd = -1
        self._closed = False
        self._path = path_of(folder, name)
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        if os.fstat(self._fd).st_nlink == 0:  # taken for a leftover before we had the lock
            raise FileNotFoundError(self._path)
        self._sums: list[int] = []

    def write_block(self, data: bytes) -> None:
        """The next block; all but the last have `BLOCK` bytes."""
        self._sums.append(xxh3_64_intdigest(data))
        self._write(data, self.length)
        self.length += len(data)

    def read(self, start: int, end: int) -> bytes:
        """What was written by this process, not checked."""
        return os.pread(self._fd, max(0, min(end, self.length) - start), start)

    def finish(self) -> int:
        """Write the index; its checksum."""
        index = struct.pack(f">{len(self._sums)}Q", *self._sums)
        self._write(index, self.length)
        return xxh3_64_intdigest(index)

    def close(self, keep: bool) -> None:
        """Let go of the file; without `keep` it is removed. What is in it can be read while this exists."""
        if self._closed:
            return
        self._closed = True
        if not keep:
            with contextlib.suppress(OSError):
                self._path.unlink()
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes, offset: int) -> None:
        done = os.pwrite(self._fd, data, offset)
        while done < len(data):
            done += os.pwrite(self._fd, memoryview(data)[done:], offset + done)


def remove_leftover(path: Path, is_known: Callable[[], bool]) -> bool:
    """Remove a file that no record points to, unless somebody writes it. Whether it was removed.

    A writer keeps its lock until its record is there, so `is_known` is asked when nobody has it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if is_known():
            return False
        path.unlink()
    except OSError:  # being written
        return False
    finally:
        os.close(fd)
    return True


def is_abandoned(path: Path) -> bool:
    """Whether nobody writes the file, or it is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
