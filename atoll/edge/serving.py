"""Writing a planned response: from memory at once, from a file or from what is still arriving as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

from atoll.cache.partial import Partial
from atoll.cache.ranges import Span
from atoll.cache.store import LargeContent
from atoll.edge.answer import Plan
from atoll.edge.relay import writable
from atoll.edge.spool import Spool
from atoll.http.exchange import Stream
from atoll.http.fields import Headers
from atoll.http.file_pipe import PIECE, FilePipe

BLOCK: Final = 256 * 1024
"""Bytes read at a time from a file, and written at a time to a client that may be slow."""


_LARGE: Final = 64 * 1024  # bytes of a block; smaller ones come as they arrive


class Content(Protocol):
    """Where spans come from."""

    def blocks(self, span: Span) -> AsyncGenerator[bytes, None]:
        """The bytes of a span, in pieces; raises `OSError` when they are not there."""


class InMemory:
    """Content that is there as bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def blocks(self, span: Span) -> AsyncGenerator[bytes, None]:
        """See `Content`."""
        for start in range(span.start, span.end, BLOCK):
            yield self._data[start : min(start + BLOCK, span.end)]


class InFile:
    """Content that is read as it is needed."""

    def __init__(self, data: LargeContent) -> None:
        self._data = data

    async def blocks(self, span: Span) -> AsyncGenerator[bytes, None]:
        """See `Content`."""
        for start in range(span.start, span.end, BLOCK):
            yield self._data.read(start, min(start + BLOCK, span.end))

    async def pipe(self, stream: Stream, pipe: FilePipe, span: Span) -> int:
        """Send a span past this; the bytes of it that have been sent. Raises what `blocks` raises."""
        before = pipe.sent
        for start in range(span.start, span.end, PIECE):
            end = min(start + PIECE, span.end)
            await pipe.send(self._data.file(start, end), start, end)
            if stream.gone:
                break
            await asyncio.sleep(0)
        return pipe.sent - before


class InParts:
    """Content of which some parts are there; spans outside them are not asked for."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial

    async def blocks(self, span: Span) -> AsyncGenerator[bytes, None]:
        """See `Content`."""
        for piece in self._partial.pieces(span.start, span.end):
            yield piece


class Arriving:
    """Content that an origin is sending, for one client; `leave` when it needs no more."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        spool.join(self, 0)

    def leave(self) -> None:
        """Nothing more of it is needed."""
        self._spool.leave(self)

    async def blocks(self, span: Span) -> AsyncGenerator[bytes, None]:
        """See `Content`."""
        spool, at = self._spool, span.start
        while at < span.end:
            spool.join(self, at)
            data = spool.read(at, min(BLOCK, span.end - at))
            if data:
                at += len(data)
                yield data
            elif spool.failed:
                raise OSError("the origin did not send all of it")
            elif spool.ended:
                return
            else:
                await spool.more(at)


def at_once(stream: Stream, plan: Plan, headers: Headers, body: bytes) -> None:
    """A response from bytes in memory."""
    if plan.status == 304:
        stream.start(304, headers, None)
        stream.finish()
    elif plan.length is not None and not plan.pieces:
        stream.start(plan.status, headers, plan.length)
        stream.finish()
    else:
        stream.respond(plan.status, headers, pieced(plan, body))


def pieced(plan: Plan, body: bytes) -> bytes:
    """The content of a planned response whose representation is in memory."""
    if plan.whole:
        return body
    return b"".join(
        body[piece.start : piece.end] if isinstance(piece, Span) else piece for piece in plan.pieces
    )


async def as_it_comes(stream: Stream, plan: Plan, headers: Headers, content: Content) -> int:
    """A response as fast as the client takes it. The bytes of content written."""
    stream.start(plan.status, headers, plan.length)
    size = 0
    try:
        for piece in plan.pieces:
            if isinstance(piece, bytes):
                stream.write(piece)
                size += len(piece)
                continue
            if isinstance(content, InFile) and (pipe := stream.file_pipe()) is not None:
                size += await content.pipe(stream, pipe, piece)
                if stream.gone:
                    return size
                continue
            async with aclosing(content.blocks(piece)) as blocks:
                async for block in blocks:
                    if stream.gone:
                        return size
                    stream.write(block)
                    size += len(block)
                    if not await _takes_more(stream, len(block)):
                        return size
    except OSError:
        stream.abort()
        return size
    stream.finish()
    return size


async def _takes_more(stream: Stream, written: int) -> bool:
    """Wait until a client takes more; False when it has left. The next block may take its time to come."""
    await writable(stream)
    if written >= _LARGE:  # a client may be as fast as memory is: others have their turn
        await asyncio.sleep(0)
    return not stream.gone
