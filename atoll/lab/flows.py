"""Flows: a client's connection, peeked at, joined to a PoP and carried both ways without being understood.

A flow moves through `peeking` (which name?), `joining` (connecting to the PoP) and `open`. From then on it
is two `Half`s, each carrying bytes and the end of the stream one way with back-pressure: when the far side
does not take them, the near side is not read. With a round trip given, each half holds what it carries for
half of it, in order, and the client's first bytes one round trip more, which is what the handshake of a real
connection would have cost.

When a route change sends a flow's packets to another PoP, that PoP knows nothing of the connection and
answers with a reset; so `reset` is what the client sees here too (an RST, not an orderly end).
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from socket import SO_LINGER, SOL_SOCKET
from typing import Final, Protocol, cast

import msgspec

from atoll.http import proxy_protocol

SET_UP_S: Final = 10.0
"""From accept until a flow is open: the name must have come and the PoP must have answered."""

HALF_CLOSED_S: Final = 30.0
"""How long a client may go on after its PoP has ended the stream."""

MAX_DELAYED: Final = 1 << 20
"""Bytes a half holds back at a time: the window of a long path."""

_ABORT: Final = struct.pack("ii", 1, 0)

_JOINING, _FULL, _DELAYED = 1, 2, 4
"""Reasons why a half does not read; it reads when there is none."""


class Path(msgspec.Struct, frozen=True):
    """Where a new flow goes, and how it introduces itself."""

    city: str
    pop: str
    host: str
    port: int
    source: str  # the eyeball's address, as the PoP shall see it
    destination: str  # the anycast address
    service: int  # 80 or 443
    rtt_s: float = 0.0


class Switch(Protocol):
    """What a flow needs from its gateway."""

    def accepted(self, flow: Flow) -> bool:
        """Whether there is room for `flow`; `ended` is told either way."""

    def name(self, data: bytes, service: int) -> str | None:
        """The name in a client's first bytes: None when more are needed, "" when there is none."""

    def path(self, name: str, v6: bool, service: int) -> Path | None:
        """Where packets for `name` go now; None when there is no route."""

    def ended(self, flow: Flow) -> None:
        """`flow` is over."""

    def unreachable(self, flow: Flow, error: OSError) -> None:
        """`flow`'s PoP did not take the connection."""


class Half:
    """One direction of a flow."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_end: Callable[[], None]) -> None:
        self._loop = loop
        self._on_end = on_end
        self._source: asyncio.Transport | None = None
        self._sink: asyncio.Transport | None = None
        self._blocked = 0
        self._delay_s = 0.0
        self._floor_s = 0.0
        self._held: deque[tuple[float, bytes]] = deque()  # b"" is the end of the stream
        self._held_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self.ended = False  # the end of the stream has been passed on

    def read_from(self, source: asyncio.Transport) -> None:
        """Bytes come from `source`, whose reading this half controls."""
        self._source = source

    def delay(self, delay_s: float, floor_s: float = 0.0) -> None:
        """Hold everything for `delay_s`, counted from `floor_s` (loop time) at the earliest."""
        self._delay_s, self._floor_s = delay_s, floor_s

    def write_to(self, sink: asyncio.Transport, first: bytes) -> None:
        """Bytes go to `sink`; `first` are those that were waiting for it."""
        self._sink = sink
        if first:
            self.feed(first)
        self.unblock(_JOINING)

    def feed(self, data: bytes) -> None:
        """Carry `data`; b"" ends the stream."""
        if not self._delay_s:
            self._write(data)
            return
        due_s = max(self._loop.time(), self._floor_s) + self._delay_s
        self._held.append((due_s, data))
        self._held_bytes += len(data)
        if self._held_bytes > MAX_DELAYED:
            self.block(_DELAYED)
        if self._timer is None:
            self._timer = self._loop.call_at(due_s, self._release)

    def block(self, reason: int) -> None:
        """Stop reading, for `reason`."""
        if not self._blocked and self._source is not None and not self._source.is_closing():
            self._source.pause_reading()
        self._blocked |= reason

    def unblock(self, reason: int) -> None:
        """`reason` is gone; read when it was the last."""
        was, self._blocked = self._blocked, self._blocked & ~reason
        if was and not self._blocked and self._source is not None and not self._source.is_closing():
            self._source.resume_reading()

    def stop(self) -> None:
        """Carry nothing any more, what is held included."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._held.clear()

    def _release(self) -> None:
        self._timer = None
        now_s = self._loop.time() + 0.0005  # timers fire on whole milliseconds
        while self._held and self._held[0][0] <= now_s:
            data = self._held.popleft()[1]
            self._held_bytes -= len(data)
            self._write(data)
        if self._held_bytes <= MAX_DELAYED // 2:
            self.unblock(_DELAYED)
        if self._held and self._timer is None:
            self._timer = self._loop.call_at(self._held[0][0], self._release)

    def _write(self, data: bytes) -> None:
        assert self._sink is not None
        if data:
            if not self._sink.is_closing():
                self._sink.write(data)
            return
        self.ended = True
        if not self._sink.is_closing():
            self._sink.write_eof()
        self._on_end()


class Flow:
    """One client connection and its way to a PoP."""

    def __init__(self, switch: Switch, loop: asyncio.AbstractEventLoop, service: int) -> None:
        self._switch = switch
        self._loop = loop
        self.service = service
        self.out = Half(loop, self._half_ended)
        self.back = Half(loop, self._half_ended)
        self.path: Path | None = None
        self.v6 = False
        self.closed = False
        self._peeked = bytearray()
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._joining: asyncio.Task[None] | None = None
        self._source_port = 0
        self._accepted_s = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    def accepted(self, client: asyncio.Transport) -> None:
        """A client is there."""
        self._client = client
        self.out.read_from(client)
        peer = client.get_extra_info("peername")
        if peer is None or not self._switch.accepted(self):  # gone already, or too many
            self.reset()
            return
        self.v6 = ":" in peer[0] and not peer[0].startswith("::ffff:")
        self._source_port = peer[1]
        self._accepted_s = self._loop.time()
        self._deadline = self._loop.call_later(SET_UP_S, self.reset)

    def from_client(self, data: bytes) -> None:
        """Bytes of the client: first for the name in them, then for the PoP."""
        if self._server is not None:
            self.out.feed(data)
            return
        self._peeked += data
        if self.path is None:
            name = self._switch.name(bytes(self._peeked), self.service)
            if name is not None:
                self._join(name)

    def client_ended(self) -> bool:
        """The client sends no more. Whether its transport stays open for the answer."""
        if self._server is None:
            self.reset()
            return False
        self.out.feed(b"")
        return True

    def server_ended(self) -> bool:
        """The PoP sends no more; the client gets some time to end too."""
        self.back.feed(b"")
        if not self.closed:
            self._deadline = self._loop.call_later(HALF_CLOSED_S, self.reset)
        return True

    def lost(self, error: Exception | None) -> None:
        """One side is gone. An orderly end has passed through `client_ended` or `server_ended` before."""
        if error is not None or not (self.out.ended and self.back.ended):
            self.reset()
        else:
            self._end()

    def reset(self) -> None:
        """End both sides with an RST."""
        if self.closed:
            return
        self._end()
        for transport in (self._client, self._server):
            if transport is not None:
                reset(transport)

    def _end(self) -> None:
        if self.closed:
            return
        self.closed = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._joining is not None:
            self._joining.cancel()
        self.out.stop()
        self.back.stop()
        self._switch.ended(self)

    def _half_ended(self) -> None:
        if not (self.out.ended and self.back.ended):
            return
        self._end()
        for transport in (self._client, self._server):
            if transport is not None:
                transport.close()

    def _join(self, name: str) -> None:
        self.path = self._switch.path(name, self.v6, self.service)
        if self.path is None:
            self.reset()
            return
        self.out.block(_JOINING)
        self._joining = self._loop.create_task(self._connect(self.path))

    async def _connect(self, path: Path) -> None:
        try:
            await self._loop.create_connection(lambda: ServerSide(self), path.host, path.port)
        except OSError as error:
            self._switch.unreachable(self, error)
            self.reset()

    def connected(self, server: asyncio.Transport) -> None:
        """The PoP has taken the connection: introduce the client, pass on what it has sent."""
        assert self.path is not None
        assert self._client is not None
        if self.closed:
            reset(server)
            return
        self._server = server
        if self._deadline is not None:
            self._deadline.cancel()
        path = self.path
        if path.rtt_s:
            self.out.delay(path.rtt_s / 2, self._accepted_s + path.rtt_s)
            self.back.delay(path.rtt_s / 2)
        server.write(proxy_protocol.build(path.source, self._source_port, path.destination, path.service))
        self.back.read_from(server)
        self.back.write_to(self._client, b"")
        self.out.write_to(server, bytes(self._peeked))
        self._peeked.clear()


class ClientSide(asyncio.Protocol):
    """The client's end of a flow."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client has connected."""
        self._flow.accepted(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        """Bytes towards the PoP."""
        self._flow.from_client(data)

    def eof_received(self) -> bool:
        """The client sends no more."""
        return self._flow.client_ended()

    def pause_writing(self) -> None:
        """The client takes no more: let the PoP wait."""
        self._flow.back.block(_FULL)

    def resume_writing(self) -> None:
        """The client takes bytes again."""
        self._flow.back.unblock(_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._flow.lost(exc)


class ServerSide(asyncio.Protocol):
    """The PoP's end of a flow."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The PoP has taken the connection."""
        self._flow.connected(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        """Bytes towards the client."""
        self._flow.back.feed(data)

    def eof_received(self) -> bool:
        """The PoP sends no more."""
        return self._flow.server_ended()

    def pause_writing(self) -> None:
        """The PoP takes no more: let the client wait."""
        self._flow.out.block(_FULL)

    def resume_writing(self) -> None:
        """The PoP takes bytes again."""
        self._flow.out.unblock(_FULL)

    def connection_lost(self, exc: Exception | None) -> None:
        """The PoP is gone."""
        self._flow.lost(exc)


def reset(transport: asyncio.Transport) -> None:
    """Close with an RST: whatever is queued is lost, and the other side knows."""
    if not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, _ABORT)
        transport.abort()
