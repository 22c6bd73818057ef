"""Frames between roles: 4-byte big-endian length, then one msgpack envelope.

An envelope is `[version, id, kind, body]`: a request carries a fresh id, its reply the same id, an event id
0. Bodies are tagged msgspec structs from `atoll.wire.messages`. Unknown fields are ignored and missing ones
take their defaults, so a role reads one version back and one ahead. Frames above `MAX_FRAME` close the
connection: nothing is buffered for a peer that lies about sizes.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.wire.messages import Failed, Message

VERSION: Final = 1
MAX_FRAME: Final = 64 * 1024 * 1024
REQUEST: Final = 0
REPLY: Final = 1
EVENT: Final = 2


class Envelope(msgspec.Struct, array_like=True):
    """What travels in a frame."""

    v: int
    id: int
    kind: int
    body: Message


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)

Handler = Callable[["Peer", Message], Awaitable[Message | None]]
"""Answers a request (returns the reply) or takes an event (its return value is dropped)."""


def encode_frame(envelope: Envelope) -> bytes:
    """The bytes of one frame."""
    body = _encoder.encode(envelope)
    return len(body).to_bytes(4, "big") + body


async def read_frame(reader: asyncio.StreamReader) -> Envelope:
    """The next envelope.

    Raises:
        asyncio.IncompleteReadError: the peer is gone.
        AtollError: the frame is too large or is not one of ours.
    """
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > MAX_FRAME:
        raise AtollError(f"a frame of {size} bytes", hint=f"at most {MAX_FRAME} are read")
    try:
        envelope = _decoder.decode(await reader.readexactly(size))
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise AtollError(f"a frame that is no message: {error}") from error
    if abs(envelope.v - VERSION) > 1:
        raise AtollError(f"a frame of version {envelope.v}", hint=f"this side speaks {VERSION}")
    return envelope


class Peer:
    """One connection to another role: `call` for an answer, `send` for an event."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Handler) -> None:
        self._reader = reader
        self._writer = writer
        self._handler = handler
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.closed = asyncio.Event()

    def send(self, body: Message) -> None:
        """An event: no answer is expected."""
        self._write(Envelope(VERSION, 0, EVENT, body))

    async def call(self, body: Message, timeout_s: float = 10.0) -> Message:
        """The peer's reply.

        Raises:
            AtollError: the peer answered `Failed`, is gone, or took longer than `timeout_s`.
        """
        if self.closed.is_set():
            raise AtollError("the connection to the role is closed")
        call_id, self._next_id = self._next_id, self._next_id + 1
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        self._write(Envelope(VERSION, call_id, REQUEST, body))
        try:
            async with asyncio.timeout(timeout_s):  # `wait_for` can lose a cancellation before Python 3.12
                reply = await future
        except TimeoutError:
            raise AtollError(f"no answer to {type(body).__name__} within {timeout_s:g} s") from None
        finally:
            self._waiting.pop(call_id, None)
        if isinstance(reply, Failed):
            raise AtollError(reply.message, reply.hint, reply.where)
        return reply

    async def run(self) -> None:
        """Read until the peer is gone; requests are answered concurrently."""
        try:
            while True:
                self._take(await read_frame(self._reader))
        except (asyncio.IncompleteReadError, ConnectionError, OSError, AtollError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection and fail every call that waits on it."""
        self.closed.set()
        self._writer.close()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(AtollError("the role closed the connection"))

    def _take(self, envelope: Envelope) -> None:
        if envelope.kind == REPLY:
            future = self._waiting.get(envelope.id)
            if future is not None and not future.done():
                future.set_result(envelope.body)
            return
        task = asyncio.ensure_future(self._answer(envelope))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, envelope: Envelope) -> None:
        reply: Message | None
        try:
            reply = await self._handler(self, envelope.body)
        except AtollError as error:
            reply = Failed(message=error.message, hint=error.hint, where=error.where)
        if envelope.kind == REQUEST and not self.closed.is_set():
            if reply is None:
                reply = Failed(message=f"{type(envelope.body).__name__} is not answered here")
            self._write(Envelope(VERSION, envelope.id, REPLY, reply))

    def _write(self, envelope: Envelope) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            self._writer.write(encode_frame(envelope))


async def refuse(_peer: Peer, body: Message) -> Message | None:
    """The handler of a side that only asks."""
    raise AtollError(f"{type(body).__name__} is not answered here")


_readers: Final[set[asyncio.Task[None]]] = set()
"""Of connections made here. A peer and its reader refer to each other alone, which keeps neither alive."""


async def connect(path: Path | str, handler: Handler = refuse) -> Peer:
    """A connection to the role that listens on `path`, its reader already running.

    Raises:
        OSError: nobody listens there.
    """
    reader, writer = await asyncio.open_unix_connection(str(path))
    peer = Peer(reader, writer, handler)
    task = asyncio.ensure_future(peer.run())
    _readers.add(task)
    task.add_done_callback(_readers.discard)
    return peer


async def serve(listener: Path | str | socket.socket, handler: Handler) -> asyncio.AbstractServer:
    """Serve frames on a unix socket: a path (made here, private to the user) or a socket already bound."""

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A loop that ends cancels its connections; asyncio would report each of them as a failure.
        with contextlib.suppress(asyncio.CancelledError):
            await Peer(reader, writer, handler).run()

    if isinstance(listener, socket.socket):
        return await asyncio.start_unix_server(on_connect, sock=listener)
    path = Path(listener)
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(on_connect, path=str(path))
    path.chmod(0o600)
    return server


async def ask(path: Path | str, body: Message, timeout_s: float = 10.0) -> Message:
    """One question on a connection of its own.

    Raises:
        OSError: nobody listens on `path`.
        AtollError: see `Peer.call`.
    """
    peer = await connect(path)
    try:
        return await peer.call(body, timeout_s)
    finally:
        peer.close()
