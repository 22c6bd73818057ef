"""The two things a watchdog looks at: a host's CPU clock and its pulse.

The pulse is one kept connection to the host's ping socket and one `HEAD` at a time. Any byte that comes back
is an answer: it says that the event loop turned.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, cast

import psutil

_PING: Final = b"HEAD / HTTP/1.1\r\nHost: ping\r\n\r\n"
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


class Pulse(asyncio.Protocol):
    """A connection that pings; `on_answer` is called for every answer."""

    def __init__(self, path: Path) -> None:
        self.on_answer: Callable[[], None] = lambda: None
        self._path = path
        self._transport: asyncio.Transport | None = None

    async def first_answer(self) -> None:
        """Ask and wait, for as long as it takes: the socket's queue holds the question."""
        answered = asyncio.Event()
        self.on_answer = answered.set
        await self.ask()
        await answered.wait()

    async def ask(self) -> None:
        """Send a ping, on a new connection if the last one is gone. A host that is gone does not answer."""
        if self._transport is None or self._transport.is_closing():
            with contextlib.suppress(OSError):
                await asyncio.get_running_loop().create_unix_connection(lambda: self, str(self._path))
        if self._transport is not None:
            self._transport.write(_PING)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self.on_answer()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._transport = None


class CpuClock:
    """CPU time of a process, all threads, read cheaply again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._last_s = 0.0
        self._stat = -1

    def __enter__(self) -> Self:
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                self._stat = os.open(f"/proc/{self._pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stat >= 0:
            os.close(self._stat)

    def seconds(self) -> float:
        """So far; what was read last when the process is gone."""
        with contextlib.suppress(OSError, psutil.Error):
            self._last_s = self._from_stat() if self._stat >= 0 else self._from_psutil()
        return self._last_s

    def _from_stat(self) -> float:
        fields = os.pread(self._stat, 512, 0).rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def _from_psutil(self) -> float:
        times = psutil.Process(self._pid).cpu_times()
        return times.user + times.system
