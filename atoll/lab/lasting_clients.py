"""Users who keep something open for long: downloads, event streams, WebSockets; and whether it was whole.

Each counts what it has got and says what broke it, if anything. Nothing is asked a second time.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Awaitable
from time import monotonic
from typing import Final, TypeVar

import msgspec

from atoll.errors import RemoteError
from atoll.lab import websocket
from atoll.lab.lasting import PREFIX, event, piece

SILENCE_S: Final = 10.0  # nothing for so long: it is broken
_HEAD: Final = 64 * 1024
_ECHO_S: Final = 0.05
_Piece = TypeVar("_Piece", bytes, websocket.Frame)


class Lasted(msgspec.Struct):
    """One of them: what it was, how much came, the longest time without any of it, what broke it."""

    kind: str  # download | events | websocket
    got: int = 0
    longest_s: float = 0.0
    error: str = ""
    times: int = 1  # one that was whole is followed by another, as long as things are held


class Holder:
    """Holds things open at one address, from `start` to `stop`."""

    def __init__(self, address: tuple[str, int], host: str) -> None:
        self._address = address
        self._host = host
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self.lasted: list[Lasted] = []

    async def start(self, downloads: int, events: int, sockets: int, pieces: int, pause_ms: int) -> None:
        """Open so many of each; returns when all of them have got something."""
        for kind, count in (("download", downloads), ("events", events), ("websocket", sockets)):
            for _ in range(count):
                lasted = Lasted(kind)
                self.lasted.append(lasted)
                work = self._socket(lasted) if kind == "websocket" else self._read(lasted, pieces, pause_ms)
                self._tasks.append(asyncio.ensure_future(self._guarded(lasted, work)))
        while any(not (lasted.got or lasted.error) for lasted in self.lasted):
            self._news.clear()
            await self._news.wait()

    async def stop(self) -> None:
        """Hang up the WebSockets, and wait until the others have come to their ends."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _guarded(self, lasted: Lasted, work: Awaitable[None]) -> None:
        try:
            await work
        except TimeoutError:
            lasted.error = f"nothing for {SILENCE_S:g} s"
        except asyncio.IncompleteReadError as error:
            lasted.error = f"ended in the middle, {len(error.partial)} bytes into what comes next"
        except RemoteError as error:
            lasted.error = error.message
        except OSError as error:
            lasted.error = error.strerror or type(error).__name__
        finally:
            self._news.set()

    async def _ask(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, bytes]:
        async with asyncio.timeout(SILENCE_S):
            reader, writer = await asyncio.open_connection(*self._address, limit=_HEAD)
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
        return reader, writer, head.lower()

    async def _read(self, lasted: Lasted, pieces: int, pause_ms: int) -> None:
        """Responses, one after the other."""
        await self._read_once(lasted, pieces, pause_ms)
        while not self._stop.is_set():
            lasted.times += 1
            await self._read_once(lasted, pieces, pause_ms)

    async def _read_once(self, lasted: Lasted, pieces: int, pause_ms: int) -> None:
        """A response of pieces that are known beforehand."""
        expected = piece if lasted.kind == "download" else event
        path = f"{PREFIX}{lasted.kind}/{pieces}/{pause_ms}"
        request = f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\nAccept-Encoding: identity\r\n\r\n"
        reader, writer, head = await self._ask(request.encode())
        try:
            _require(head, b"200")
            body = _Body(reader, chunked=b"transfer-encoding: chunked" in head)
            for number in range(pieces):
                await self._take(lasted, body.exactly(len(expected(number))), expected(number))
            await body.end()
        finally:
            writer.close()

    async def _socket(self, lasted: Lasted) -> None:
        key = base64.b64encode(os.urandom(16))
        reader, writer, head = await self._ask(websocket.question(self._host, f"{PREFIX}echo", key))
        try:
            _require(head, b"101")
            while not self._stop.is_set():
                said = websocket.Frame(websocket.TEXT, b"%d" % lasted.got)
                writer.write(websocket.encode(said, mask=True))
                await self._take(lasted, websocket.read(reader), said)
                await asyncio.sleep(_ECHO_S)
            goodbye = websocket.Frame(websocket.CLOSE, b"\x03\xe8")
            writer.write(websocket.encode(goodbye, mask=True))
            await self._take(lasted, websocket.read(reader), goodbye)
        finally:
            writer.close()

    async def _take(self, lasted: Lasted, coming: Awaitable[_Piece], expected: _Piece) -> None:
        began_s = monotonic()
        async with asyncio.timeout(SILENCE_S):
            got = await coming
        lasted.longest_s = max(lasted.longest_s, monotonic() - began_s)
        if got != expected:
            raise RemoteError("not what was sent", 502)
        lasted.got += 1
        self._news.set()


class _Body:
    """A response's body, whatever its framing."""

    def __init__(self, reader: asyncio.StreamReader, *, chunked: bool) -> None:
        self._reader = reader
        self._chunked = chunked
        self._held = b""

    async def exactly(self, size: int) -> bytes:
        """The next bytes of it."""
        if not self._chunked:
            return await self._reader.readexactly(size)
        while len(self._held) < size:
            chunk = await self._chunk()
            if not chunk:
                raise asyncio.IncompleteReadError(self._held, size)
            self._held += chunk
        data, self._held = self._held[:size], self._held[size:]
        return data

    async def end(self) -> None:
        """That was all, and it says so."""
        if self._chunked and (self._held or await self._chunk()):
            raise RemoteError("more than was sent", 502)

    async def _chunk(self) -> bytes:
        size = int(await self._reader.readuntil(b"\r\n"), 16)
        return (await self._reader.readexactly(size + 2))[:-2]


def _require(head: bytes, status: bytes) -> None:
    line = head.partition(b"\r\n")[0]
    if line.split(b" ")[1] != status:
        raise RemoteError(f"answered {line.decode('latin-1')}", 502)
