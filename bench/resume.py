"""New TLS connections with session resumption: one request on each, the next with the ticket of the last.

wrk never resumes and h2load keeps its connections, so this is a small client of its own: TLS over memory
buffers, as many connections at a time as asked for. It is slower than the servers it asks: look at their CPU
per connection, not at the rate.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial
from time import monotonic
from typing import Final, cast

import uvloop

from atoll.errors import AtollError
from bench import objects, prefill
from bench.load import Load

CONNECTIONS: Final = 16
_REQUEST: Final = (
    f"GET {objects.path(1)} HTTP/1.1\r\nHost: {objects.HOST}\r\nConnection: close\r\n\r\n".encode()
)
_PIECE: Final = 64 * 1024
_TICKET_S: Final = 0.05  # for connections that only fetch a ticket


class Counts:
    """What has been seen."""

    def __init__(self) -> None:
        self.connections = 0
        self.resumed = 0
        self.bad = 0
        self.session: ssl.SSLSession | None = None


class Client(asyncio.Protocol):
    """One connection from its handshake to its end."""

    def __init__(self, context: ssl.SSLContext, counts: Counts, done: asyncio.Future[None]) -> None:
        self._into, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._into, self._out, server_hostname=objects.HOST, session=counts.session
        )
        self._counts = counts
        self._done = done
        self._asked = False
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._go_on()

    def data_received(self, data: bytes) -> None:
        self._into.write(data)
        self._go_on()

    def _go_on(self) -> None:
        try:
            if not self._asked:
                self._tls.do_handshake()
                self._asked = True
                self._tls.write(_REQUEST)
            while piece := self._tls.read(_PIECE):
                self._seen += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._transport.abort()
            return
        self._transport.write(self._out.read())
        if self._complete():
            self._counts.session = self._tls.session or self._counts.session
            self._transport.close()

    def _complete(self) -> bool:
        return self._seen.endswith(objects.body(1))

    def connection_lost(self, exc: Exception | None) -> None:
        counts = self._counts
        counts.connections += 1
        counts.resumed += bool(self._asked and self._tls.session_reused)
        counts.bad += not self._complete()
        if not self._done.done():
            self._done.set_result(None)


async def _walk(port: int, until_s: float, context: ssl.SSLContext, counts: Counts) -> None:
    loop = asyncio.get_running_loop()
    while monotonic() < until_s:
        done: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(partial(Client, context, counts, done), "127.0.0.1", port)
        await done


async def _run(port: int, seconds: float) -> tuple[Counts, float]:
    context, first, counts = prefill.unchecked_tls(), Counts(), Counts()
    await _walk(port, monotonic() + _TICKET_S, context, first)
    counts.session = first.session
    began_s = monotonic()
    walks = (_walk(port, began_s + seconds, context, counts) for _ in range(CONNECTIONS))
    await asyncio.gather(*walks)
    return counts, monotonic() - began_s


def connect(port: int, seconds: float) -> Load:
    """Connect again and again for `seconds`; every connection resumes.

    Raises:
        AtollError: an answer was wrong, or the server does not resume sessions.
    """
    counts, took_s = uvloop.run(_run(port, seconds))
    if counts.bad or not counts.connections:
        raise AtollError(f"{counts.bad} of {counts.connections} connections had no good answer")
    if counts.resumed < counts.connections:
        raise AtollError(
            f"{counts.connections - counts.resumed} of {counts.connections} connections did not resume"
        )
    return Load(counts.connections, took_s)
