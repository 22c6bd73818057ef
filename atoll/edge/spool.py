"""Content on its way from an origin, read by everybody who asked for it while it arrives.

Whoever fetches appends; readers take what is there from any offset and wait for more. What is in memory is
bounded in one of two ways. With a file, content goes there as it comes, and who lags behind reads it from
there. Without one, content that turns out too long to be kept is given up: only what somebody has still to
read stays, and the origin is read no faster than the slowest of them.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import Final

from atoll.cache.store import ContentWriter

MEMORY: Final = 1024 * 1024
"""Bytes kept in memory of content that goes to a file."""

WINDOW: Final = 2 * 1024 * 1024
"""Bytes that may wait for the slowest reader of content that is not kept."""


class Spool:
    """`length` is the whole content's when it is known; `size` what has come of it."""

    def __init__(self, length: int | None, file: ContentWriter | None = None) -> None:
        self.length = length
        self.size = 0
        self.ended = False
        self.failed = False
        self.file = file
        self._chunks: list[bytes] = []
        self._starts: list[int] = []
        self._first = 0  # offset of the first byte in memory
        self._waiting: list[asyncio.Future[None]] = []
        self._readers: dict[object, int] = {}  # who reads → the offset up to which it has
        self._room: asyncio.Future[None] | None = None
        self.kept = True
        # Of content that is not kept: the slowest reader's offset, and how many are there.
        self._slowest = 0
        self._slow = 0

    def append(self, data: bytes) -> None:
        """The next piece. When the file takes no more of it, it is given up."""
        if self.file is not None and self.kept:
            try:
                self.file.write(data)
            except OSError:
                self.give_up()
        self._starts.append(self.size)
        self._chunks.append(data)
        self.size += len(data)
        if self.file is not None and self.kept:
            self._shrink(self.size - MEMORY)
        self._wake()

    def spill(self, file: ContentWriter) -> None:
        """From now on it goes to a file, all that has come already first."""
        self.file = file
        try:
            for chunk in self._chunks:
                file.write(chunk)
        except OSError:
            self.give_up()

    def give_up(self) -> None:
        """It is not kept any longer: no new readers, and only what the present ones have still to read."""
        self.kept = False
        self._look()

    async def room(self) -> None:
        """Wait until the slowest reader of content that is not kept has caught up."""
        while not self.kept and self._readers and self.size - self._slowest > WINDOW:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    @property
    def wanted(self) -> bool:
        """Whether anybody reads."""
        return bool(self._readers)

    def join(self, reader: object, offset: int) -> None:
        """`reader` has what comes before `offset`, or does not want it."""
        before = self._readers.get(reader)
        self._readers[reader] = offset
        if not self.kept and before != offset:
            self._moved(before)

    def leave(self, reader: object) -> None:
        """`reader` wants no more."""
        before = self._readers.pop(reader, None)
        if not self.kept:
            self._moved(before)

    def end(self) -> None:
        """That was all."""
        self.ended = True
        self.length = self.size
        self._wake()

    def fail(self) -> None:
        """No more will come."""
        self.failed = True
        self._wake()

    def read(self, offset: int, limit: int) -> bytes:
        """Some bytes from `offset` on, `limit` at most; b"" when none are there yet."""
        if offset >= self.size:
            return b""
        if offset < self._first:
            if self.file is None:
                raise OSError("what comes before is gone")
            return self.file.read(offset, min(offset + limit, self._first))
        index = bisect_right(self._starts, offset) - 1
        chunk, skip = self._chunks[index], offset - self._starts[index]
        return chunk if skip == 0 and len(chunk) <= limit else chunk[skip : skip + limit]

    def whole(self) -> bytes:
        """All of it, when it is in memory."""
        assert self._first == 0, "long content is in its file"
        return self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)

    async def more(self, offset: int) -> None:
        """Wait until there are bytes beyond `offset`, or never will be."""
        if self.size > offset or self.ended or self.failed:
            return
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(ready)
        await ready

    def _moved(self, before: int | None) -> None:
        """A reader has left `before`, or is new. When nobody is where the slowest was, all are looked at."""
        self._slow -= before == self._slowest
        if before is None or self._slow <= 0:
            self._look()
            self._make_room()

    def _look(self) -> None:
        """See who is slowest, and keep no more than he needs."""
        self._slowest = min(self._readers.values(), default=self.size)
        self._slow = sum(offset == self._slowest for offset in self._readers.values())
        self._shrink(self._slowest)

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _shrink(self, keep_from: int) -> None:
        """Drop from memory what lies before `keep_from`, by whole pieces."""
        drop = 0
        while drop < len(self._chunks) - 1 and self._starts[drop + 1] <= keep_from:
            drop += 1
        if drop:
            del self._chunks[:drop], self._starts[:drop]
            self._first = self._starts[0]

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for ready in waiting:
            if not ready.done():
                ready.set_result(None)
