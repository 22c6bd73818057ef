"""Passing a response on to a stream as it arrives, with back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

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


async def relay(reader: ResponseReader, stream: Stream, headers: Headers) -> None:
    """The whole response from `reader` to `stream`, its head being `headers`.

    After a 101 that is whatever the origin says in the protocol that was asked for, until it has no more to
    say; what the client says goes to the origin by itself.
    """
    stream.start(reader.status, without_length(headers), body_length(reader.headers))
    await pass_on(stream, (), reader)


async def pass_on(stream: Stream, pieces: Iterable[bytes], reader: ResponseReader | None) -> None:
    """The rest of a body: `pieces`, then what `reader` has, as fast as `stream` takes it.

    A client that leaves ends it, also while nothing comes.
    """
    if reader is not None:
        stream.on_gone(reader.abandon)
    try:
        for data in pieces:
            stream.write(data)
            await _writable_again(stream, reader)
        while reader is not None and (data := await reader.read()):
            if stream.gone:
                reader.cancel()
                return
            stream.write(data)
            await _writable_again(stream, reader)
    except RemoteError:
        stream.abort()
        return
    except asyncio.CancelledError:
        if reader is not None:
            reader.cancel()
        raise
    stream.finish((reader.trailers if reader is not None else None) or None)


async def _writable_again(stream: Stream, reader: ResponseReader | None) -> None:
    if stream.congested() and not stream.gone:
        await writable(stream)
        if reader is not None:
            stream.on_gone(reader.abandon)
