"""The bare loop, an upper bound for servers in Python: `python -m bench.bare` on inherited sockets.

uvloop, httptools, one look-up in a dictionary, bytes prepared once: no routing, no freshness, no fields
looked at, no log, no counters, no timeouts. What is measured beside it shows what all of these cost. An
object is prepared when it is first asked for; there is no origin.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import Final, cast

import httptools
import uvloop

from atoll.http.tls import server_context
from atoll.node.role import inherited_sockets, notify_ready
from bench.origin import answer

PEM_VARIABLE: Final = "ATOLL_BENCH_PEM"


class Prepared(dict[bytes, bytes]):
    """Target → the whole response."""

    def __missing__(self, target: bytes) -> bytes:
        self[target] = made = answer(target)
        return made


TABLE: Final = Prepared()


class Bare(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._target = url

    def on_message_complete(self) -> None:
        if self._parser.should_keep_alive():
            self._transport.write(TABLE[self._target])
        else:
            self._transport.write(TABLE[self._target].replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
            self._transport.close()


async def serve() -> None:
    """Serve until killed."""
    sockets = inherited_sockets(os.environ)
    loop = asyncio.get_running_loop()
    clear = await loop.create_server(Bare, sock=sockets["http"])
    await loop.create_server(Bare, sock=sockets["https"], ssl=_tls())
    notify_ready()
    await clear.serve_forever()


def _tls() -> ssl.SSLContext:
    """The edge's own settings, without HTTP/2."""
    context = server_context(Path(os.environ[PEM_VARIABLE]))
    context.set_alpn_protocols(["http/1.1"])
    return context


if __name__ == "__main__":
    uvloop.run(serve())
