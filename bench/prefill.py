"""Asks for objects once each and looks at every byte that comes back: fills a cache and proves it right."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Final, cast

import httptools
import uvloop

from atoll.errors import AtollError
from bench import objects

CONNECTIONS: Final = 16
_TIMEOUT_S: Final = 120.0
_TIMEOUT_EACH_S: Final = 0.01  # on a machine that is busy with other things, too


class Reader(asyncio.Protocol):
    """One connection: asks for the next object when the last one has come."""

    def __init__(self, numbers: Iterator[int], size: int, done: asyncio.Future[int]) -> None:
        self._numbers = numbers
        self._size = size
        self._done = done
        self._parser = httptools.HttpResponseParser(self)
        self._number = -1
        self._pieces: list[bytes] = []
        self._checked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the connection was closed")

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status != 200:
            self._fail(f"status {status}")
        elif (got := b"".join(self._pieces)) != objects.body(self._number, self._size):
            self._fail(f"a wrong body of {len(got)} bytes")
        else:
            self._checked += 1
            self._ask()

    def _ask(self) -> None:
        number = next(self._numbers, None)
        if number is None:
            if not self._done.done():
                self._done.set_result(self._checked)
            self._transport.close()
            return
        self._number, self._pieces = number, []
        self._transport.write(request(number, self._size))

    def _fail(self, why: str) -> None:
        if not self._done.done():
            self._done.set_exception(AtollError(f"object {self._number}: {why}"))
            self._transport.close()


def request(number: int, size: int = objects.SIZE) -> bytes:
    """The bytes that ask for an object, the same that wrk sends."""
    return f"GET {objects.path(number, size)} HTTP/1.1\r\nHost: {objects.HOST}\r\n\r\n".encode()


async def _fetch(port: int, numbers: Iterable[int], size: int, tls: ssl.SSLContext | None) -> int:
    loop = asyncio.get_running_loop()
    wanted = list(numbers)
    shared = iter(wanted)
    waits: list[asyncio.Future[int]] = []
    for _ in range(CONNECTIONS):
        done: asyncio.Future[int] = loop.create_future()
        await loop.create_connection(_factory(shared, size, done), "127.0.0.1", port, ssl=tls)
        waits.append(done)
    return sum(await asyncio.wait_for(asyncio.gather(*waits), _TIMEOUT_S + _TIMEOUT_EACH_S * len(wanted)))


def _factory(numbers: Iterator[int], size: int, done: asyncio.Future[int]) -> Callable[[], Reader]:
    return lambda: Reader(numbers, size, done)


def fetch_all(
    port: int, numbers: Iterable[int], tls: ssl.SSLContext | None = None, size: int = objects.SIZE
) -> int:
    """Fetch every object of `numbers` from a server on loopback; how many came, all of them right.

    Raises:
        AtollError: one was not 200 or had other bytes than `objects.body` says.
    """
    return uvloop.run(_fetch(port, numbers, size, tls))


def unchecked_tls() -> ssl.SSLContext:
    """The certificate is of a local authority that nobody knows; the bodies are what is checked."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
