"""A body on its way to the disk, of a length that may be unknown until it ends.

A short one stays in memory and is stored within its record. A longer one goes to a file in blocks, for which
room is made as it grows, and which counts against the store's bound from the beginning. Nobody sees anything
of it until `commit`, and after a kill it is a leftover.
"""

from __future__ import annotations

from typing import Final, Protocol

from atoll.cache.blocks import BLOCK, BodyFile, cost_of

_STEP: Final = 8 * 1024 * 1024
"""Bytes that are reserved at once. Room for more would be made at the cost of everybody else's turn."""


class Shelf(Protocol):
    """Where the body goes: one response of a `DiskStore`."""

    max_inline: int
    max_object: int
    step: int

    def new_file(self) -> BodyFile:
        """An empty file; raises `OSError`."""

    def reserve(self, file: BodyFile, size: int) -> None:
        """`file` may take `size` bytes; raises `OSError` when there is no room."""

    def release(self, file: BodyFile) -> None:
        """Nothing will come of it."""

    def keep_short(self, body: bytes) -> bool:
        """The whole body, to be kept within the record. Whether it is stored."""

    def keep_file(self, file: BodyFile, index_check: int) -> bool:
        """The whole body is in `file`. Whether it is stored."""


class BodyWriter:
    """`write` what comes, then `commit` or `abandon`; may be used in any one thread at a time."""

    def __init__(self, shelf: Shelf, length: int | None) -> None:
        self.length = length
        self.size = 0
        self._shelf = shelf
        self._buffer = bytearray()
        self._file: BodyFile | None = None
        self._ended = False

    def __del__(self) -> None:
        self.abandon()

    def write(self, data: bytes) -> None:
        """The next bytes.

        Raises:
            OSError: they can not be kept. Nothing will be stored.
        """
        if self._ended:
            raise OSError("nothing of this body is stored any more")
        try:
            self._write(data)
        except OSError:
            self.abandon()
            raise

    def read(self, start: int, end: int) -> bytes:
        """What was written from `start` to before `end`, whatever became of it; raises `OSError`.

        What was written last may be gone once nothing is to be kept: at most what `write` was given last, and
        a block.
        """
        end = min(end, self.size)
        in_file = self._file.length if self._file is not None else 0
        head = (
            self._file.read(start, min(end, in_file)) if self._file is not None and start < in_file else b""
        )
        return head + bytes(self._buffer[max(0, start - in_file) : max(0, end - in_file)])

    def commit(self) -> bool:
        """That was all: from now on it is served. False when it is not stored."""
        if self._ended or (self.length is not None and self.size != self.length):
            self.abandon()
            return False
        if self._file is None:
            self._ended = True
            return self._shelf.keep_short(bytes(self._buffer))
        try:
            if self._buffer:
                self._flush(self._file, bytes(self._buffer))
            stored = self._shelf.keep_file(self._file, self._file.finish())
        except OSError:
            stored = False
        if not stored:
            self.abandon()
            return False
        self._ended = True
        self._file.close(keep=True)
        return True

    def abandon(self) -> None:
        """Nothing of it is kept."""
        if self._ended:
            return
        self._ended = True
        self._buffer.clear()
        if self._file is not None:
            self._file.close(keep=False)
            self._shelf.release(self._file)

    def _write(self, data: bytes) -> None:
        self.size += len(data)
        largest = self._shelf.max_object
        if self.size > (largest if self.length is None else min(self.length, largest)):
            raise OSError("the body is longer than it may be")
        self._buffer += data
        if self._file is None:
            if self.size <= self._shelf.max_inline:
                return
            self._file = self._shelf.new_file()
        while len(self._buffer) >= BLOCK:
            block = bytes(self._buffer[:BLOCK])
            del self._buffer[:BLOCK]
            self._flush(self._file, block)

    def _flush(self, file: BodyFile, block: bytes) -> None:
        needed = cost_of(file.length + len(block))
        if needed > file.reserved:
            whole = needed if self.length is None else cost_of(self.length)
            size = max(needed, min(whole, needed + self._shelf.step))
            self._shelf.reserve(file, size)
            file.reserved = size
        file.write_block(block)


def step_of(capacity: int) -> int:
    """Bytes to reserve at once in a store of that capacity."""
    return min(_STEP, capacity // 64)
