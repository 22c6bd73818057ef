"""What the lab's origin answers that takes long: downloads in small pieces, event streams, an echo.

| path | answer |
|---|---|
| `/lasting/download/<pieces>/<ms>` | so many pieces of 4 KiB, one every so many milliseconds |
| `/lasting/events/<count>/<ms>` | so many server-sent events, numbered from 0 |
| `/lasting/echo` | a WebSocket that says what it hears |

Whoever reads a download knows each of its bytes beforehand (`piece`). Nothing of it may be kept.
"""

from __future__ import annotations

import asyncio
from typing import Final

from atoll.errors import RemoteError
from atoll.http.fields import Headers, get
from atoll.lab import websocket

PREFIX: Final = "/lasting/"
PIECE_BYTES: Final = 4096
MAX_PIECES: Final = 100_000
MAX_PAUSE_MS: Final = 10_000
_LINE: Final = 16


def piece(number: int) -> bytes:
    """One piece of a download: its number, again and again."""
    return b"%015d\n" % number * (PIECE_BYTES // _LINE)


def event(number: int) -> bytes:
    """One event of a stream."""
    return b"data: %d\n\n" % number


async def converse(
    path: str, headers: Headers, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer a request for `path`, which begins with `PREFIX`; the connection ends with it.

    Raises:
        RemoteError: it is not understood.
        ConnectionError: the peer has left.
    """
    match path.removeprefix(PREFIX).split("/"):
        case ["download", pieces, pause]:
            count, pause_s = _numbers(pieces, pause)
            fields = b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % (count * PIECE_BYTES)
            await _tell(writer, fields, [piece(number) for number in range(count)], pause_s)
        case ["events", events, pause]:
            count, pause_s = _numbers(events, pause)
            fields = b"Content-Type: text/event-stream\r\n"
            await _tell(writer, fields, [event(number) for number in range(count)], pause_s)
        case ["echo"] if key := get(headers, b"sec-websocket-key"):
            writer.write(websocket.answer(key))
            await _echo(reader, writer)
        case _:
            raise RemoteError(f"nothing lasting is at {path}", 404)


def _numbers(count: str, pause_ms: str) -> tuple[int, float]:
    if not (count.isdigit() and pause_ms.isdigit()):
        raise RemoteError("how many, and how slowly?", 404)
    if int(count) > MAX_PIECES or int(pause_ms) > MAX_PAUSE_MS:
        raise RemoteError("too many, or too slowly", 404)
    return int(count), int(pause_ms) / 1000


async def _tell(writer: asyncio.StreamWriter, fields: bytes, pieces: list[bytes], pause_s: float) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nConnection: close\r\n%b\r\n" % fields)
    for data in pieces:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(pause_s)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        heard = await websocket.read(reader)
        if heard.opcode == websocket.PING:
            heard = websocket.Frame(websocket.PONG, heard.payload)
        writer.write(websocket.encode(heard))
        await writer.drain()
        if heard.opcode == websocket.CLOSE:
            return
