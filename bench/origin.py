"""The origin behind every target: `python -m bench.origin` serves `bench.objects` on an inherited socket.

It counts what it is asked for, so that a run can prove that its answers came from the cache. It shares its
core with the load generator, so it does next to nothing for a request: whoever asks it is a proxy under test,
whose requests are well-formed and have no body.
"""

from __future__ import annotations

import asyncio
import os
from typing import Final, cast

import uvloop

from atoll.node.role import inherited_sockets, notify_ready
from bench import objects

_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: public, max-age=86400\r\n"
    b'Accept-Ranges: bytes\r\nETag: "%d"\r\nContent-Length: %d\r\n\r\n'
)
_PLAIN: Final = b"HTTP/1.1 %d X\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n%b"
_END: Final = b"\r\n\r\n"
_LONGEST: Final = 64 * 1024  # bytes of a request's head


class Origin(asyncio.Protocol):
    """One connection."""

    served = 0

    def __init__(self) -> None:
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *heads, self._held = (self._held + data).split(_END)
        for head in heads:
            self._transport.write(answer(head.split(b" ", 2)[1]))
        if len(self._held) > _LONGEST:
            self._transport.abort()


def answer(target: bytes) -> bytes:
    """The response to a GET of `target`."""
    number, _, size = target.removeprefix(b"/o/").partition(b"/")
    if number.isdigit() and (size.isdigit() or not size):
        Origin.served += 1
        content = objects.body(int(number), int(size or objects.SIZE))
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
