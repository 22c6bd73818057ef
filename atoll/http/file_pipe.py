"""From a file to a socket without passing through here: `sendfile` beside a transport with nothing to send.

The transport stays the socket's owner. While its buffer is empty nobody else writes to the socket, so bytes
may go there directly. They do by a second descriptor of it: the transport's own may be closed any time, its
number given to another connection, and event loops do not let anybody else watch it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol, cast

PIECE: Final = 4 * 1024 * 1024
"""Bytes that are asked for at a time."""

_TURN: Final = 1024 * 1024  # bytes that are sent at a time: others have their turn in between


class Drain(Protocol):
    """Whose connection it is."""

    gone: bool

    def congested(self) -> bool:
        """Whether something that was written waits."""

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """Call it when nothing does."""

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call it when the client leaves."""

    def piped(self, count: int) -> None:
        """So many bytes have been sent."""


class FilePipe:
    """To one connection, for one response at a time."""

    def __init__(self, transport: asyncio.Transport, stream: Drain) -> None:
        self._stream = stream
        self._loop = asyncio.get_running_loop()
        self._socket = os.dup(cast(socket.socket, transport.get_extra_info("socket")).fileno())
        self._file = -1
        self._at = self._end = 0  # of it
        self._failure: OSError | None = None
        self.waits = False  # the client takes no more for now
        self.sent = 0

    def close(self) -> None:
        """It is not needed any more."""
        if self._socket >= 0:
            if self.waits:
                self._loop.remove_writer(self._socket)
            os.close(self._socket)
            self._socket = -1

    async def send(self, fd: int, start: int, end: int) -> None:
        """The bytes from `start` to before `end` of the file `fd`; returns early when the client leaves.

        Raises:
            OSError: the file is shorter, or cannot be read.
        """
        while self._stream.congested() and not self._stream.gone:
            await self._until(self._stream.on_drained)
        self._file, self._at, self._end = fd, start, end
        if self._stream.gone or self._move():
            return
        self.waits = True
        try:
            await self._until(self._when_there_is_room)
        finally:
            self.waits = False
            if self._socket >= 0:
                self._loop.remove_writer(self._socket)
        if self._failure is not None:
            raise self._failure

    def _when_there_is_room(self, wake: Callable[[], None]) -> None:
        """Send on as the client takes it; a coroutine that woke up each time would cost more than sending."""

        def move() -> None:
            try:
                done = self._move()
            except OSError as failure:
                self._failure = failure
                done = True
            if done:
                wake()

        self._loop.add_writer(self._socket, move)

    def _move(self) -> bool:
        """Send what the socket takes. Whether that was all, or all that can be."""
        if self._socket < 0:
            return True
        try:
            count = os.sendfile(self._socket, self._file, self._at, min(_TURN, self._end - self._at))
        except (BlockingIOError, InterruptedError):
            return False
        except (BrokenPipeError, ConnectionError):
            return True  # the transport finds out by itself
        if not count:
            raise OSError("a file ends before what it should hold")
        self._at += count
        self.sent += count
        self._stream.piped(count)
        return self._at >= self._end

    async def _until(self, tell: Callable[[Callable[[], None]], object]) -> None:
        """Wait until what `tell` is given is called, or the client leaves."""
        told: asyncio.Future[None] = self._loop.create_future()

        def wake() -> None:
            if not told.done():
                told.set_result(None)

        tell(wake)
        self._stream.on_gone(wake)
        await told
