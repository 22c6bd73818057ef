"""An origin that speaks HTTP/2, by an implementation of its own, and does what the test says."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import NamedTuple, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings

Fields = list[tuple[bytes, bytes]]


class Asked(NamedTuple):
    """A request whose head has come."""

    peer: Peer
    stream: int
    fields: dict[bytes, bytes]

    @property
    def path(self) -> bytes:
        """Path and query."""
        return self.fields[b":path"]

    def respond(
        self,
        body: bytes = b"",
        *fields: tuple[bytes, bytes],
        status: int = 200,
        trailers: Fields | None = None,
    ) -> None:
        """The whole response, its body as the windows allow."""
        self.head(*fields, status=status, end=not body and not trailers)
        if body or trailers:
            self.peer.queue(self.stream, body, trailers)

    def head(self, *fields: tuple[bytes, bytes], status: int = 200, end: bool = False) -> None:
        """The head, also of an interim response."""
        self.peer.h2.send_headers(self.stream, [(b":status", b"%d" % status), *fields], end_stream=end)
        self.peer.flush()

    def data(self, data: bytes, end: bool = False) -> None:
        """A piece of the body that fits the window."""
        self.peer.h2.send_data(self.stream, data, end_stream=end)
        self.peer.flush()

    def reset(self, code: int) -> None:
        """RST_STREAM."""
        self.peer.h2.reset_stream(self.stream, code)
        self.peer.flush()


class Peer(asyncio.Protocol):
    """One connection."""

    def __init__(self, origin: H2Origin) -> None:
        self.origin = origin
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.transport = cast(asyncio.Transport, None)
        self.lost = False
        self.reset: dict[int, int] = {}
        self._queues: dict[int, tuple[bytearray, Fields | None]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.origin.peers.append(self)
        if self.origin.settings:
            self.h2.local_settings = Settings(client=False, initial_values=self.origin.settings)
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True

    def flush(self) -> None:
        """Write what there is to write."""
        self.transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except ProtocolError as error:
            self.origin.faults.append(error)
            self.flush()
            self.transport.close()
            return
        for event in events:
            self._take(event)
        self.flush()

    def _take(self, event: object) -> None:
        origin = self.origin
        if isinstance(event, RequestReceived):
            asked = Asked(self, event.stream_id, dict(event.headers))
            origin.asked.append(asked)
            origin.bodies[asked.stream] = b""
            origin.on_head(asked)
        elif isinstance(event, DataReceived):
            origin.bodies[event.stream_id] += event.data
            if origin.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            origin.trailers = event.headers
        elif isinstance(event, StreamEnded):
            origin.on_end(next(a for a in origin.asked if (a.peer, a.stream) == (self, event.stream_id)))
        elif isinstance(event, StreamReset):
            self.reset[event.stream_id] = event.error_code
            self._queues.pop(event.stream_id, None)
        elif isinstance(event, WindowUpdated):
            self._pump()

    def queue(self, stream: int, body: bytes, trailers: Fields | None) -> None:
        """Send when there is room."""
        self._queues[stream] = (bytearray(body), trailers)
        self._pump()
        self.flush()

    def _pump(self) -> None:
        for stream, (rest, trailers) in [*self._queues.items()]:
            while rest and (room := min(self.h2.local_flow_control_window(stream), 16_384, len(rest))) > 0:
                piece = bytes(rest[:room])
                del rest[:room]
                self.h2.send_data(stream, piece, end_stream=not rest and trailers is None)
            if not rest:
                del self._queues[stream]
                if trailers is not None:
                    self.h2.send_headers(stream, trailers, end_stream=True)

    def left(self, stream: int) -> int:
        """Bytes of a response that still wait for room."""
        return len(self._queues[stream][0]) if stream in self._queues else 0


class H2Origin:
    """The origin. `on_end` is called when a request is complete, `on_head` before its body."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.bodies: dict[int, bytes] = {}  # by stream: for tests with one connection
        self.trailers: Fields = []
        self.peers: list[Peer] = []
        self.faults: list[ProtocolError] = []
        self.settings: dict[SettingCodes, int] = {}
        self.reads = True  # whether it gives room back for uploads
        self.on_head: Callable[[Asked], None] = lambda asked: None
        self.on_end: Callable[[Asked], None] = lambda asked: asked.respond(b"hello " + asked.path)
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        """Listen on loopback."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more, and close what is open."""
        assert self._server is not None
        self._server.close()
        for peer in self.peers:
            peer.transport.abort()
