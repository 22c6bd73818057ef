"""Passing a response on to a stream as it arrives, with back-pressure."""

from __future__ import annotations

import asyncio

from atoll.errors import RemoteError
from atoll.http.exchange import Stream
from atoll.http.fields import Headers, get
from atoll.http.upstream import ResponseReader


def body_length(headers: Headers) -> int | None:
    """The announced length of a body."""
    value = get(headers, b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def without_length(headers: Headers) -> Headers:
    """`headers` without `Content-Length`: the stream frames the body itself."""
    return [field for field in headers if field[0] != b"content-length"]


async def writable(stream: Stream) -> None:
    """Wait until `stream` takes more."""
    if stream.congested() and not stream.gone:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        stream.on_drained(wake)
        stream.on_gone(wake)
        await ready


async def relay(reader: ResponseReader, stream: Stream, headers: Headers) -> int:
    """The whole response from `reader` to `stream`, its head being `headers`, as fast as `stream` takes it.

    A client that leaves ends it, also while nothing comes. Returns the bytes of content that were passed on.
    """
    stream.start(reader.status, without_length(headers), body_length(reader.headers))
    stream.on_gone(reader.abandon)
    sent = 0
    try:
        while data := await reader.read():
            if stream.gone:
                reader.cancel()
                return sent
            stream.write(data)
            sent += len(data)
            await _writable_again(stream, reader)
    except RemoteError:
        stream.abort()
        return sent
    except asyncio.CancelledError:
        reader.cancel()
        raise
    stream.finish(reader.trailers or None)
    return sent


async def _writable_again(stream: Stream, reader: ResponseReader) -> None:
    if stream.congested() and not stream.gone:
        await writable(stream)
        stream.on_gone(reader.abandon)
