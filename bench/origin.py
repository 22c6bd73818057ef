"""The origin behind every target: `python -m bench.origin` serves `bench.objects` on an inherited socket.

It counts what it is asked for, so that a run can prove that its answers came from the cache.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final, cast

import httptools
import uvloop

from atoll.node.role import inherited_sockets, notify_ready
from bench import objects

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: public, max-age=86400\r\n"
    b'ETag: "%d"\r\nContent-Length: %d\r\n\r\n'
)
_PLAIN: Final = b"HTTP/1.1 %d X\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%b"


class Origin(asyncio.Protocol):
    """One connection."""

    served = 0

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target = b""

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_message_complete(self) -> None:
        self._transport.write(self._answer(self._target))

    def _answer(self, target: bytes) -> bytes:
        number = target.removeprefix(b"/o/")
        if number.isdigit():
            Origin.served += 1
            content = objects.body(int(number))
            return _HEAD % (int(number), len(content)) + content
        status, text = (404, b"?") if target not in (b"/count", b"/health") else (200, b"%d" % Origin.served)
        return _PLAIN % (status, len(text), text)


async def serve() -> None:
    """Serve until killed."""
    sock = inherited_sockets(os.environ)["http"]
    server = await asyncio.get_running_loop().create_server(Origin, sock=sock)
    notify_ready()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
