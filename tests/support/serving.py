"""`atoll serve` as a process of its own, as an operator would start it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx

START_S: Final = 60.0
_URL: Final = re.compile(r"(https?)://(?:127\.0\.0\.1|\*|\[::1\]):(\d+)")


class Serving:
    """A running `atoll serve`: what it has said, and where it listens."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[str] = []
        self._told = False
        self._news = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    @property
    def pid(self) -> int:
        """Of the process that was started."""
        return self.process.pid

    @property
    def ports(self) -> list[int]:
        """In the order in which they were asked for."""
        line = next(line for line in self.said if "listening on" in line)
        return [int(found[2]) for found in _URL.finditer(line)]

    @property
    def url(self) -> str:
        """Of the first place."""
        line = next(line for line in self.said if "listening on" in line)
        found = _URL.search(line)
        assert found is not None
        return f"{found[1]}://127.0.0.1:{found[2]}"

    async def until_said(self, text: str, after: int = 0) -> str:
        """The first line with `text` in it, from line `after` on."""
        async with asyncio.timeout(START_S), self._news:
            while True:
                for line in self.said[after:]:
                    if text in line:
                        return line
                if self._reading.done():
                    raise AssertionError("\n".join(self.said))
                await self._news.wait()

    async def signalled(self, number: signal.Signals, text: str) -> str:
        """What it says about a signal."""
        before = len(self.said)
        self._told = self._told or number in (signal.SIGTERM, signal.SIGINT)
        self.process.send_signal(number)
        return await self.until_said(text, before)

    def client(self, **more: Any) -> httpx.AsyncClient:
        """A client that speaks to the first place."""
        return httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=20, verify=False, **more)

    async def end(self) -> int:
        """SIGTERM, unless it has been told already, and its exit code."""
        if self.process.returncode is None and not self._told:
            self.process.terminate()
            self._told = True
        async with asyncio.timeout(START_S):
            code = await self.process.wait()
            await self._reading
        return code

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                self.said.append(line.decode().rstrip())
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()


async def start(arguments: Sequence[str], **env: str) -> Serving:
    """Start it; it may not have come far yet."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "atoll.cli.main", "serve", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )
    return Serving(process)


@asynccontextmanager
async def serving(*arguments: str, **env: str) -> AsyncIterator[Serving]:
    """`atoll serve` on a free port, until the end of the block."""
    listen = () if "--listen" in arguments else ("--listen", "127.0.0.1:0")
    server = await start([*listen, *arguments], **env)
    try:
        await server.until_said("ready after")
        yield server
    finally:
        assert await server.end() == 0, server.said


async def failure(*arguments: str) -> tuple[int, str]:
    """The exit code of a start that cannot work, and all it said."""
    server = await start(arguments)
    async with asyncio.timeout(START_S):
        code = await server.process.wait()
        await server._reading
    return code, "\n".join(server.said)
