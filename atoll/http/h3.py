"""HTTP/3 server connections (RFC 9114): one transport, many streams, datagrams written once a turn.

The transport (`quic`) and the framing (`h3_engine`) decide nothing; this shell maps their events to exchanges
and bounds what they do not. A request that comes before the handshake is complete may be a replay: when it
is safe and has no body it is answered at once, otherwise it waits for the handshake (RFC 8470 §3). A client
may be told to open a new connection (GOAWAY); what it asked before is finished. An error costs its connection
and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from time import time
from typing import Final, Protocol

from aioquic.h3.connection import FrameUnexpected
from aioquic.h3.events import DataReceived, H3Event
from aioquic.quic.events import (
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    ProtocolNegotiated,
    QuicEvent,
    StopSendingReceived,
    StreamReset,
)

from atoll.http.exchange import App, ConnectionInfo, Exchange, HotEntry, RequestBody
from atoll.http.fields import Headers
from atoll.http.h3_engine import (
    EXCESSIVE_LOAD,
    INTERNAL_ERROR,
    MESSAGE_ERROR,
    NO_ERROR,
    QPACK_DECOMPRESSION_FAILED,
    REQUEST_CANCELLED,
    REQUEST_REJECTED,
    Engine,
    Head,
    HeadTooLarge,
    Undecodable,
)
from atoll.http.h3_prepared import PreparedResponses
from atoll.http.h3_request import H3Request, Refusal, read_request
from atoll.http.h3_stream import H3Stream
from atoll.http.pace import Outflow
from atoll.http.quic import ServerConnection
from atoll.http.trailers import allowed_trailers

_log = logging.getLogger("atoll.http")

_SAFE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_PLAIN: Final[Headers] = [(b"content-type", b"text/plain")]
_SERVER_INITIATED: Final = 1  # bit of a stream's number
_UNIDIRECTIONAL: Final = 2
_NO_LIMIT: Final = 2**62 - 4  # the largest number that a request's stream may have
NOTICE_S: Final = 1.0  # longer than a round trip to anywhere


class Carrier(Protocol):
    """Who moves a connection's datagrams."""

    def want_flush(self, connection: H3Connection) -> None:
        """There may be something to send."""

    def retire(self, cid: bytes) -> None:
        """A connection id leads nowhere any more."""

    def established(self, connection: H3Connection, resumed: bool) -> None:
        """The handshake is complete."""

    def ended(self, connection: H3Connection) -> None:
        """There is no connection any more."""


class H3Connection:
    """One client connection with up to `limits.h3_streams` open requests."""

    def __init__(
        self,
        app: App,
        info: ConnectionInfo,
        quic: ServerConnection,
        carrier: Carrier,
        prepared: PreparedResponses,
    ) -> None:
        self.app = app
        self.info = info
        self.quic = quic
        self.last_activity_s = self.began_s = time()
        self.lost = False
        self._carrier = carrier
        self._prepared = prepared
        self._engine: Engine | None = None
        self._streams: dict[int, H3Stream] = {}
        self._early: list[Exchange] = []  # wait for the end of the handshake
        self._outflow = Outflow()
        self._backlog = 0  # bytes that had not left after the last flush
        self._fresh = 0  # bytes written since
        self._next_stream = 0
        self._requests = 0
        self._resets = 0
        self._goaway = False
        self._turned: Refusal | None = None
        self._due: asyncio.TimerHandle | None = None  # of the last word, when the first has been said

    # --- transport

    def process(self) -> None:
        """Act on what the transport has understood."""
        now_s = time()
        try:
            while (event := self.quic.next_event()) is not None:
                self._on_event(event, now_s)
        except Exception:  # noqa: BLE001 - one connection's end: its streams are ended with it
            _log.exception("a connection of %s failed", self.info.client_ip)
            self.close(INTERNAL_ERROR)
            self._lose_streams()

    def flushed(self) -> None:
        """What could leave has left."""
        self._fresh = 0
        before, self._backlog = self._backlog, self.quic.backlog()
        if self._backlog < before:
            self._outflow.moved()
        if self._streams:
            self._wake()
        if self._goaway and self.idle():
            self.close(NO_ERROR)

    def close(self, code: int, reason: str = "") -> None:
        """End the connection."""
        if self.quic.ended:
            return
        self.quic.close(error_code=code, reason_phrase=reason)
        self._carrier.want_flush(self)

    @property
    def served(self) -> int:
        """See `Guarded`."""
        return self._requests

    def held(self) -> int:
        """See `Guarded`."""
        return self._backlog + self._fresh + self._buffered()

    def turn_away(self, status: int, reason: str) -> None:
        """See `Guarded`."""
        self._turned = Refusal(status, reason)

    def give_up(self, status: int, reason: str) -> None:
        """See `Guarded`. What is held is mostly what the client does not read: no word would arrive."""
        self.app.refused(self.info, status, reason)
        self.close(EXCESSIVE_LOAD, reason)
        self._lose_streams()

    def idle(self) -> bool:
        """No request is open, and all has left."""
        return not self._streams and not self._backlog and not self._fresh

    def check_timeouts(self, now_s: float) -> None:
        """Called every few seconds: end a connection that idles or stalls."""
        limits, quiet_s = self.app.limits, now_s - self.last_activity_s
        if not self.quic.established:
            if now_s - self.began_s > limits.tls_handshake_s:
                self.close(NO_ERROR, "handshake takes too long")
            return
        if self.app.draining:
            self.part()
        if self._outflow.stuck(self._backlog, now_s, limits.body_timeout_s):
            self.close(REQUEST_CANCELLED, "nothing is taken")
        elif self.idle():
            if quiet_s > limits.idle_timeout_s:
                self.close(NO_ERROR)
        elif quiet_s > limits.body_timeout_s and any(s.receiving() for s in self._streams.values()):
            self.close(REQUEST_CANCELLED, "a body stalls")

    def part(self) -> None:
        """Say that it ends, then GOAWAY (RFC 9114 §5.2): what is on its way meanwhile is still answered."""
        if not self._goaway and self._due is None and self._engine is not None:
            self._engine.goaway(_NO_LIMIT)
            self._carrier.want_flush(self)
            self._due = asyncio.get_running_loop().call_later(NOTICE_S, self.goaway)

    def goaway(self) -> None:
        """No new requests, please; open ones are finished."""
        if not self._goaway and self._engine is not None and not self.quic.ended:
            self._goaway = True
            self._engine.goaway(self._next_stream)
            self._carrier.want_flush(self)

    # --- events

    def _on_event(self, event: QuicEvent, now_s: float) -> None:
        if isinstance(event, ConnectionTerminated):
            self.lost = True
            self._lose_streams()
            self._carrier.ended(self)
        elif isinstance(event, ProtocolNegotiated):
            self.info.tls_version = "TLSv1.3"
            self.app.opened(self.info)
            self._engine = Engine(self.quic, self.app.limits.head)
        elif isinstance(event, HandshakeCompleted):
            self._carrier.established(self, event.session_resumed)
            early, self._early = self._early, []
            for exchange in early:
                self.app.handle(exchange)
        elif isinstance(event, ConnectionIdRetired):
            self._carrier.retire(event.connection_id)
        elif self._engine is not None and not self.quic.ended:
            self._on_stream_event(self._engine, event, now_s)

    def _on_stream_event(self, engine: Engine, event: QuicEvent, now_s: float) -> None:
        for found in engine.handle_event(event):
            self._on_http(found, now_s)
        for refused in engine.take_refused():
            self._on_http(refused, now_s)
        if isinstance(event, StreamReset | StopSendingReceived):
            self._on_reset(event.stream_id)

    def _on_http(self, event: H3Event, now_s: float) -> None:
        self.last_activity_s = now_s
        if type(event) is Head:
            if event.stream_id in self._streams:
                self._on_trailers(self._streams[event.stream_id], event)
            else:
                self._on_request(event, now_s)
        elif type(event) is DataReceived:
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                self._on_data(stream, event.data, event.stream_ended)
        elif type(event) is HeadTooLarge:
            self._refuse(event.stream_id, Refusal(431, "request head too large"))

    def _on_request(self, event: Head, now_s: float) -> None:
        stream_id = event.stream_id
        if self._overfull() or (self._goaway and stream_id >= self._next_stream):
            # GOAWAY told the client to repeat it elsewhere; one that does not read gets no more to read.
            self.reset(stream_id, REQUEST_REJECTED)
            return
        if self._turned is not None:
            self._refuse(stream_id, self._turned, (b"retry-after", b"%d" % self.app.limits.retry_after_s))
            self.part()
            return
        self._next_stream = max(self._next_stream, stream_id + 4)
        self._requests += 1
        entry = self.app.hot(event.section)
        if entry is None or not self._answer_again(stream_id, entry, now_s):
            self._answer(event, now_s)
        elif not event.ended:
            self.quic.stop_receiving(stream_id, NO_ERROR)
        if self._requests >= self.app.limits.h1_requests:
            self.part()

    def _overfull(self) -> bool:
        """Too much waits for a client that does not read. Open streams are bounded by the transport."""
        return self._backlog + self._fresh > self.app.limits.h2_parked

    def _answer(self, event: Head, now_s: float) -> None:
        assert self._engine is not None
        headers = self._engine.read(event.section, event.stream_id)
        if isinstance(headers, Undecodable):
            self.app.refused(self.info, 400, headers.reason)
            self.close(QPACK_DECOMPRESSION_FAILED, headers.reason)
            return
        request = read_request(headers, self.app.limits)
        if isinstance(request, Refusal):
            self._refuse(event.stream_id, request)
            return
        stream = self._streams[event.stream_id] = H3Stream(self, event.stream_id, request.method)
        exchange = Exchange(
            self.info, stream, request.method, request.authority, request.target, request.fields, now_s
        )
        stream.exchange = exchange
        self._expect_body(stream, exchange, request, event)
        if self.quic.established:
            self.app.handle(exchange)
        elif exchange.body is None and request.method in _SAFE:
            exchange.raw = None  # what is remembered by bytes must not say that it came early
            exchange.headers = [*exchange.headers, (b"early-data", b"1")]
            self.app.handle(exchange)
        else:
            self._early.append(exchange)

    def _expect_body(self, stream: H3Stream, exchange: Exchange, request: H3Request, event: Head) -> None:
        if request.protocol:
            # RFC 9220: what a GET with `Upgrade` is in HTTP/1.1.
            exchange.method, exchange.upgrade, stream.offers = b"GET", request.protocol, True
        elif event.ended or request.method in (b"GET", b"HEAD"):
            if request.method == b"GET":
                exchange.raw = event.section
            if not event.ended:
                self.quic.stop_receiving(stream.id, NO_ERROR)
            return
        exchange.body = body = RequestBody()
        body.on_flow = lambda: self._manage(stream)
        stream.expected = request.length
        if event.ended:
            self._end_body(stream, body)
        elif request.waits:
            body.on_wanted = stream.go_ahead

    def _answer_again(self, stream_id: int, entry: HotEntry, now_s: float) -> bool:
        """Answer a request that is known; False when that cannot be."""
        wire = self._prepared.wire(entry, now_s)
        if wire is not None:
            self.send(stream_id, wire, True)
            self._sent_all(stream_id)
            self.app.count_hot(self.info, entry, now_s)
            return True
        if entry.replays and self.quic.established:
            stream = self._streams[stream_id] = H3Stream(self, stream_id, b"GET")
            entry.replay(self.info, stream, now_s)
            return True
        return False

    def _refuse(self, stream_id: int, refusal: Refusal, *fields: tuple[bytes, bytes]) -> None:
        self._next_stream = max(self._next_stream, stream_id + 4)
        self.app.refused(self.info, refusal.status, refusal.reason)
        stream = H3Stream(self, stream_id, b"GET")
        stream.respond(refusal.status, [*_PLAIN, *fields], refusal.reason.encode() + b"\n")
        self.quic.stop_receiving(stream_id, NO_ERROR)

    def _on_data(self, stream: H3Stream, data: bytes, ended: bool) -> None:
        body = stream.exchange.body if stream.exchange is not None else None
        if body is None or body.complete or body.failed:
            return
        if body.received + len(data) > self.app.limits.body and not stream.raw:
            body.fail()
            if not stream.started:
                stream.respond(413, _PLAIN, b"body too large\n")
                self.quic.stop_receiving(stream.id, NO_ERROR)
            else:
                stream.abort()
            return
        if data:
            body.feed(data)
            self._manage(stream)
        if ended:
            self._end_body(stream, body)

    def _end_body(self, stream: H3Stream, body: RequestBody) -> None:
        if stream.expected not in (-1, body.received) and not stream.raw:
            body.fail()
            self.reset(stream.id, MESSAGE_ERROR)  # RFC 9114 §4.1.2
            stream.lost()
            self.stream_done(stream)
            return
        body.end()

    def _on_trailers(self, stream: H3Stream, event: Head) -> None:
        assert self._engine is not None
        headers = self._engine.read(event.section, event.stream_id)
        if isinstance(headers, Undecodable):
            self.close(QPACK_DECOMPRESSION_FAILED, headers.reason)
            return
        body = stream.exchange.body if stream.exchange is not None else None
        if body is not None and not body.complete and not body.failed:
            body.trailers = allowed_trailers(headers)
        if event.ended:
            self._on_data(stream, b"", True)

    def _manage(self, stream: H3Stream) -> None:
        """Make room for more of a body only as it is taken."""
        body = stream.exchange.body if stream.exchange is not None else None
        held, full = self.quic.held, body is not None and body.full(self.app.limits.buffered)
        if full:
            held.add(stream.id)
        elif stream.id in held:
            held.discard(stream.id)
            self._carrier.want_flush(self)
        if self.quic.full or (body is not None and body.buffered):
            self.quic.full = self._buffered() > self.app.limits.h2_parked

    def _buffered(self) -> int:
        """Bytes of bodies that nobody has taken."""
        bodies = [s.exchange.body for s in self._streams.values() if s.exchange is not None]
        return sum(body.buffered for body in bodies if body is not None)

    def _on_reset(self, stream_id: int) -> None:
        """The client cancels a request, or gives up sending it."""
        if stream_id & (_SERVER_INITIATED | _UNIDIRECTIONAL):
            return
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self._resets += 1
            stream.lost()
            self._early = [e for e in self._early if e.stream is not stream]
            self.quic.held.discard(stream_id)
            self.reset(stream_id, REQUEST_CANCELLED)
        if self._resets > self.app.limits.h2_resets:
            self.app.refused(self.info, 429, "rapid reset")
            self.close(EXCESSIVE_LOAD, "rapid reset")

    # --- writing

    def send(self, stream_id: int, data: bytes, end: bool = False) -> bool:
        """Write to a stream; False when the client does not take any more of it."""
        if self.lost:
            return False
        try:
            self.quic.send_stream_data(stream_id, data, end)
        except (RuntimeError, ValueError, FrameUnexpected):
            return False
        self._fresh += len(data)
        self._carrier.want_flush(self)
        return True

    def reset(self, stream_id: int, code: int) -> None:
        """End both directions of a stream short."""
        try:
            self.quic.reset_stream(stream_id, code)
        except ValueError:
            return  # it is not there any more
        self.quic.stop_receiving(stream_id, code)
        self._sent_all(stream_id)
        self._carrier.want_flush(self)

    def stream_done(self, stream: H3Stream) -> None:
        """A response is complete; its last bytes may still have to leave."""
        self._streams.pop(stream.id, None)
        self.quic.held.discard(stream.id)
        self._sent_all(stream.id)
        body = stream.exchange.body if stream.exchange is not None else None
        if body is not None and not body.complete and not body.failed:
            body.on_flow = None
            self.quic.stop_receiving(stream.id, NO_ERROR)  # RFC 9114 §4.1: answered without all of it
            body.fail()

    def _sent_all(self, stream_id: int) -> None:
        if self._engine is not None:
            self._engine.sent_all(stream_id)

    def _wake(self) -> None:
        for stream in list(self._streams.values()):
            if stream.waits and not stream.congested():
                stream.drained()

    def _lose_streams(self) -> None:
        streams, self._streams = self._streams, {}
        self._early = []
        for stream in streams.values():
            stream.lost()
