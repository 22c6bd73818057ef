"""A user who keeps what he gets: one HTTP/1.1 request at a time on each connection, bodies and all.

Connections are kept alive and opened as they are needed. A request whose connection ends before its answer is
there has failed, and says how; nothing is asked twice unless the caller does, so no failure is hidden.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Final, cast

import httptools
import msgspec

TIMEOUT_S: Final = 10.0
MAX_BODY: Final = 64 * 1024 * 1024

Fields = Iterable[tuple[bytes, bytes]]


class Got(msgspec.Struct):
    """An answer, or why there is none. Times are monotonic seconds: uvloop counts whole milliseconds."""

    began_s: float
    done_s: float = 0.0
    status: int = 0  # 0: no answer
    fields: Mapping[bytes, bytes] = {}  # names in lowercase
    body: bytes = b""
    error: str = ""

    @property
    def took_ms(self) -> float:
        """From the question to its end."""
        return (self.done_s - self.began_s) * 1000

    def text(self, name: bytes) -> str:
        """A field's value, "" without one."""
        return self.fields.get(name, b"").decode("latin-1")


class Reader:
    """Asks one host at one address."""

    def __init__(
        self,
        address: tuple[str, int],
        host: bytes,
        *,
        timeout_s: float = TIMEOUT_S,
        tls: ssl.SSLContext | None = None,
        name: str | None = None,
    ) -> None:
        self._address = address
        self._host = host
        self._timeout_s = timeout_s
        self._tls = tls
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._idle: deque[_Connection] = deque()
        self._connections: set[_Connection] = set()

    async def connect(self, count: int) -> None:
        """Have so many connections open.

        Raises:
            OSError: one could not be made.
        """
        self._idle.extend(await asyncio.gather(*(self._open() for _ in range(count))))

    async def get(self, path: str, fields: Fields = (), *, fresh: bool = False) -> Got:
        """Ask once. With `fresh` on a new connection."""
        got = Got(monotonic())
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = None if fresh else self._free()
                if connection is None:
                    connection = await self._open()
                await self._ask(connection, path, fields, got)
        except TimeoutError:
            got.error = "no answer in time"
        except OSError as error:
            got.error = error.strerror or type(error).__name__
        got.done_s = monotonic()
        return got

    async def get_again(self, path: str, fields: Fields = (), *, tries: int = 2) -> list[Got]:
        """Ask until there is an answer, so often at most; each time after the first on a new connection.

        Browsers do (RFC 9110 §9.2.2). The last one is what the user has.
        """
        found = [await self.get(path, fields)]
        while found[-1].error and len(found) < tries:
            found.append(await self.get(path, fields, fresh=True))
        return found

    def close(self) -> None:
        """End every connection."""
        for connection in tuple(self._connections):
            connection.abort()

    def _free(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _open(self) -> _Connection:
        name = self._name if self._tls is not None else None
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self._connections), *self._address, ssl=self._tls, server_hostname=name
        )
        return connection

    async def _ask(self, connection: _Connection, path: str, fields: Fields, got: Got) -> None:
        lines = b"".join(b"%b: %b\r\n" % field for field in fields)
        request = b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (path.encode(), self._host, lines)
        try:
            await connection.ask(request, got)
        except asyncio.CancelledError:
            connection.abort()
            raise
        if connection.usable:
            self._idle.append(connection)


class _Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request on it."""

    def __init__(self, everybody: set[_Connection]) -> None:
        self._everybody = everybody
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[None] | None = None
        self._got: Got | None = None
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._keep = True

    @property
    def usable(self) -> bool:
        """Whether it takes another request."""
        return self._keep and self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, got: Got) -> None:
        """Send `request`; returns when `got` is filled."""
        assert self._transport is not None, "it is connected"
        self._got, self._waiting = got, asyncio.get_running_loop().create_future()
        self._fields, self._body, self._size = {}, [], 0
        self._transport.write(request)
        await self._waiting

    def abort(self) -> None:
        """End it; whoever waits knows."""
        self._keep = False
        self._got = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._everybody.add(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"not HTTP: {error}")
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > MAX_BODY:
            self._fail("too long")
            self.abort()
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # an interim response
            self._fields, self._body = {}, []
            return
        self._keep = self._parser.should_keep_alive()
        if not self._keep and self._transport is not None:
            self._transport.close()
        if self._got is not None:
            self._got.status, self._got.fields = status, self._fields
            self._got.body = b"".join(self._body)
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._everybody.discard(self)
        self._keep = False
        self._fail("reset" if isinstance(exc, ConnectionResetError) else "closed")

    def _fail(self, error: str) -> None:
        if self._got is not None:
            self._got.error = error
        self._end()

    def _end(self) -> None:
        self._got, waiting, self._waiting = None, self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)
