"""Segment files: many short records one after the other, written once and never in place.

Whoever holds the store's write lock appends; everybody reads. A segment's number is never used again, so
what a reader holds open is either what it looked up or gone. This module moves bytes: which segments there
are, and where in them a record is, is the index's to know.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container
from pathlib import Path
from typing import Final

MAX_OPEN: Final = 256
"""Segments a process keeps open; the one opened first makes room."""

_MAX_WRITERS: Final = 4


class _File:
    """An open file, closed when the last who uses it has let go: another thread may be reading."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class Segments:
    """The files of a folder, by number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readers: dict[int, _File] = {}
        self._writers: dict[int, _File] = {}  # the open ends of the queues: two at a time

    def close(self) -> None:
        """Close all files."""
        self.forget(())

    def read(self, segment: int, offset: int, length: int) -> bytes:
        """What is there, shorter than `length` at the file's end.

        Raises:
            OSError: no such segment, or the disk failed.
        """
        file = self._readers.get(segment)
        if file is None:
            file = self._open(self._readers, segment, os.O_RDONLY, MAX_OPEN)
        return os.pread(file.fd, length, offset)

    def create(self, segment: int) -> None:
        """An empty segment; what a killed writer may have begun under its number is gone.

        Raises:
            OSError: the disk is full or read-only.
        """
        os.close(os.open(self._path(segment), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600))

    def write(self, segment: int, offset: int, data: bytes) -> None:
        """Put `data` at `offset`, all of it.

        Raises:
            OSError: no such segment, or the disk is full, read-only or failing.
        """
        file = self._writers.get(segment)
        if file is None:
            file = self._open(self._writers, segment, os.O_WRONLY, _MAX_WRITERS)
        done = os.pwrite(file.fd, data, offset)
        while done < len(data):
            done += os.pwrite(file.fd, memoryview(data)[done:], offset + done)

    def unlink(self, segment: int) -> None:
        """Remove a segment; a failure leaves a file that is found later."""
        with contextlib.suppress(OSError):
            self._path(segment).unlink()

    def forget(self, alive: Container[int]) -> None:
        """Close what is not alive, so that the disk gets the space back."""
        for table in (self._readers, self._writers):
            for segment in [each for each in list(table) if each not in alive]:
                table.pop(segment, None)

    def on_disk(self) -> list[int]:
        """The numbers of the files that are there."""
        return [int(name, 16) for name in os.listdir(self._folder)]

    def _open(self, table: dict[int, _File], segment: int, mode: int, limit: int) -> _File:
        file = _File(os.open(self._path(segment), mode | os.O_CLOEXEC))
        if len(table) >= limit:
            table.pop(next(iter(table)), None)
        table[segment] = file
        return file

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:08x}"
