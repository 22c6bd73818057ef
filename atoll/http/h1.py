"""HTTP/1.1 server connections on httptools (llhttp): bytes in, exchanges out, responses back in order.

Framing follows RFC 9112; llhttp refuses what smuggles (CL with TE, bare line ends, obs-fold). What it lets
through and we refuse: `Transfer-Encoding` on HTTP/1.0, a missing, repeated or invalid Host, 8-bit bytes and
fragments in the target. A request that repeats a known one byte for byte is answered from the hot table
before any parser runs. A malformed request gets its status and the connection closes; nothing else does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import time
from typing import cast

import httptools

from atoll.http.exchange import App, ConnectionInfo, Exchange, RequestBody
from atoll.http.fields import Headers
from atoll.http.h1_request import NO_BODY, Framing, Refused, framing, upgrade_token, where
from atoll.http.h1_stream import CLOSE, H1Stream
from atoll.http.pace import Inflow, Outflow
from atoll.http.render import status_line
from atoll.http.trailers import allowed_trailers

_HOT_MAX_HEAD = 2048
_LINGER_S = 2.0
_PIECE = 4096  # bytes parsed before it is asked whether more requests may wait


class H1Connection(asyncio.Protocol):
    """One client connection. The parser's callbacks (`on_*`) build a request, `_queue` orders responses."""

    def __init__(self, app: App, info: ConnectionInfo, trusted: bool = False) -> None:
        self.app = app
        self.info = info
        self.trusted = trusted  # the bindings socket: absolute-form targets and no Host checks
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.last_activity_s = 0.0
        self.closing = False
        self._parser = httptools.HttpRequestParser(self)
        self._current: H1Stream | None = None  # whose response is being written
        self._queue: deque[H1Stream] = deque()  # parsed, waiting for their turn
        self._served = 0
        self._most = app.limits.h1_requests
        self._head_size = 0
        self._seen = b""  # the bytes that the request's line is in
        self._line = app.limits.target + 256
        self._in_message = False
        self._target = b""
        self._headers: Headers = []
        self._host: bytes | None = None
        self._refusal: tuple[int, str] | None = None
        self._exchange: Exchange | None = None
        self._raw: bytes | None = None
        self._write_paused = False
        self._inflow = Inflow()
        self._deaf = False  # whatever follows an ignored Upgrade is no HTTP/1.1
        self._raw_body: RequestBody | None = None  # of an upgrade: what follows is for it, unparsed
        self._trailers: Headers = []
        self._unparsed = 0  # bytes of a body that follow all the same
        self._refused_s = 0.0  # since then what comes is only read, so that the refusal arrives
        self._heard = 0
        self._held = b""  # read, but not parsed while enough requests wait
        self._starting = False
        self._outflow = Outflow()
        self._upload = Outflow()  # the other way: what the client sends of a body
        self._turned: Refused | None = None
        self._began_s = 0.0
        self._field_bytes = 0
        self._silent = 0  # bytes of a body's framing since its last content
        self._half_closed = False
        self._last_word = b""
        self._early = b""  # of an upgraded protocol, in the piece that ended its request

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.last_activity_s = time()

    def data_received(self, data: bytes) -> None:
        self.last_activity_s = now_s = time()
        app = self.app
        if self._current is None and not (self._in_message or self.closing or self._write_paused):
            entry = app.hot(data)
            if entry is not None and self._served < self._most and not app.draining:
                wire = entry.h1(now_s)
                if wire is not None:
                    self.transport.write(wire)
                    self._served += 1
                    app.count_hot(self.info, entry, now_s)
                    return
                if entry.replays:
                    self._served += 1
                    self._current = H1Stream(self, b"GET")
                    entry.replay(self.info, self._current, now_s)
                    return
        self._feed(data)

    def eof_received(self) -> bool:
        # A client may shut its sending side and still wait for the answer (RFC 9112 §9.6).
        if self._raw_body is not None:
            current = self._current
            if current is not None and current.offers:
                return False  # it will never say a word in the protocol that it asks for: it has left
            self._raw_body.end()
            return self.transport.can_write_eof()
        if self._held or ((self._current is not None or self._queue) and not self._in_message):
            self._half_closed = True
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self._exchange is not None and self._exchange.body is not None:
            self._exchange.body.fail()
        if self._raw_body is not None:
            self._raw_body.fail()
        for stream in (*([self._current] if self._current else []), *self._queue):
            stream.lost()
        self._current = None
        self._queue.clear()

    def pause_writing(self) -> None:
        self._write_paused = True
        self._manage_reading()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._outflow.moved()
        if self._current is not None:
            self._current.drained()
        else:
            self._start_next()
        self._go_on()

    @property
    def write_paused(self) -> bool:
        """Whether the transport's buffer is above its high-water mark."""
        return self._write_paused

    @property
    def served(self) -> int:
        """See `Guarded`."""
        return self._served

    def held(self) -> int:
        """See `Guarded`."""
        body = self._body()
        waiting = body.buffered if body is not None else 0
        return self.transport.get_write_buffer_size() + len(self._held) + waiting

    def turn_away(self, status: int, reason: str) -> None:
        """See `Guarded`. Known requests are parsed from now on like all others, which tells them."""
        self._turned, self._most = Refused(status, reason), 0

    def give_up(self, status: int, reason: str) -> None:
        """See `Guarded`."""
        if self._current is not None and not (self._current.started or self.closing):
            self._refuse(status, reason)
        else:
            self.transport.abort()

    def _body(self) -> RequestBody | None:
        """What is being received."""
        if self._raw_body is not None or self._exchange is None:
            return self._raw_body
        return self._exchange.body

    def idle(self) -> bool:
        """Nothing is being received or answered."""
        return self._current is None and not self._in_message

    def check_timeouts(self, now_s: float) -> None:
        """Called every few seconds: end a connection that idles or sends too slowly."""
        quiet_s = now_s - self.last_activity_s
        limits = self.app.limits
        reading_head = self._in_message and self._exchange is None and not self._inflow.paused
        if self._outflow.stuck(self.transport.get_write_buffer_size(), now_s, limits.body_timeout_s):
            self.transport.abort()  # the client does not read; `close` would wait for it for ever
        elif self._refused_s:
            if now_s - self._refused_s > _LINGER_S:
                self.transport.close()
        elif self.idle():
            if quiet_s > limits.idle_timeout_s:
                self.transport.close()
        elif self._raw_body is not None:
            return  # whoever answers it looks at the clock
        elif reading_head and now_s - self._began_s > limits.head_timeout_s:
            self._refuse(408, "head timeout")
        elif self._in_message and self._exchange is not None:
            self._check_upload(self._exchange, quiet_s, now_s)

    def _check_upload(self, exchange: Exchange, quiet_s: float, now_s: float) -> None:
        """End a request whose body drips in; once it is answered, both sides may take their time."""
        body, patience_s = exchange.body, self.app.limits.body_timeout_s
        if body is None or exchange.stream.started:
            if quiet_s > patience_s:
                self.transport.abort()
        elif self._inflow.paused:
            self._upload.moved()
        elif self._upload.stuck(1, now_s, patience_s, body.received):
            self._refuse(408, "body timeout")

    # --- reading

    def _feed(self, data: bytes) -> None:
        """Parse, a piece at a time: no more requests are taken in than may wait."""
        if self._refused_s:
            self._heard += len(data)
            if self._heard > self.app.limits.buffered:
                self.transport.abort()
            return
        if self._raw_body is not None:
            self._take_raw(data)
            return
        if self._held:
            self._held += data
            return
        start = 0
        while start < len(data) and not (self.closing or self._deaf):
            if len(self._queue) >= self.app.limits.pipeline:
                self._held = data[start:]
                break
            piece = data if len(data) <= _PIECE else data[start : start + _PIECE]
            start += len(piece)
            self._parse(piece)
            if self._exchange is not None and self._exchange.upgrade and self._raw_body is None:
                self._offer_upgrade(self._exchange, self._early + data[start:])
                return
        if self._unparsed and self._deaf and start < len(data):
            self._take_unparsed(data[start:])
        self._manage_reading()

    def _parse(self, data: bytes) -> None:
        if self._in_message and self._exchange is None:
            self._head_size += len(data)  # of a head that has begun before; see `on_message_begin`
            if len(self._seen) < self._line:
                self._seen += data
        else:
            self._seen = data
            # Only a request that came in one piece, on a quiet connection, can be recognised later.
            self._raw = data if self._current is None and len(data) <= _HOT_MAX_HEAD else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # RFC 9110 §7.8: ignored; the request has been dispatched and its response says `close`. Its body
            # is what follows, as the parser sees it.
            rest = data[upgrade.args[0] :]
            if self._exchange is not None and self._exchange.upgrade:
                self._early = rest
            else:
                self._deaf = True
                self._take_unparsed(rest)
            return
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refusal = (400, str(error) or "malformed request")
        if self._refusal is not None:
            self._refuse(*self._refusal)
        elif self._in_message and self._silent_too_long(len(data)):
            self._refuse(431, "too much framing around too little content")
        elif self._in_message and self._exchange is None and self._head_size > self.app.limits.head:
            self._refuse(431, "request head too large")

    def _offer_upgrade(self, exchange: Exchange, early: bytes) -> None:
        """All that follows is raw until the answer says whether it will be; `early` is there already."""
        self._early = b""
        self._raw_body = exchange.body
        if early:
            self._take_raw(early)
        self._dispatch(exchange)

    def _take_raw(self, data: bytes) -> None:
        body = self._raw_body
        if body is not None and not body.complete:
            body.feed(data)
            if body.full(self.app.limits.buffered):
                self._manage_reading()

    def stay_http(self) -> bool:
        """The upgrade offered last has another answer than 101; False if the connection cannot go on.

        What a client has sent ahead of that answer was meant for another protocol: read as requests, it would
        let whoever chose those bytes speak in the client's name.
        """
        body, self._raw_body = self._raw_body, None
        self._in_message, self._exchange = False, None
        if body is not None and (body.received or body.complete):
            self._deaf = True
            return False
        self._parser = httptools.HttpRequestParser(self)
        return True

    def tunnel_done(self) -> None:
        """The last byte of a tunnel has been written; what the client still sends is for nobody."""
        body, self._raw_body = self._raw_body, None
        self._current, self.closing = None, True
        if body is None or body.complete or not self.transport.can_write_eof():
            self.transport.close()
            return
        body.on_flow = None
        self._inflow.hold(self.transport, False)
        self._refused_s = time()
        self.transport.write_eof()

    def _take_unparsed(self, data: bytes) -> None:
        """The body of a request whose upgrade is ignored: as many bytes as it has announced."""
        piece = data[: self._unparsed]
        self._unparsed -= len(piece)
        body = self._exchange.body if self._exchange is not None else None
        if body is not None and piece:
            body.feed(piece)
            if not self._unparsed:
                self._in_message = False
                body.end()

    def _go_on(self) -> None:
        """There may be room again: parse what is held, then read."""
        if self._held and len(self._queue) < self.app.limits.pipeline and not self._write_paused:
            held, self._held = self._held, b""
            self._feed(held)
        else:
            self._manage_reading()

    def _silent_too_long(self, received: int) -> bool:
        """Trailers and chunk extensions: the parser keeps a field until it is complete, however long."""
        self._silent = 0 if self._silent < 0 or self._exchange is None else self._silent + received
        return self._silent > self.app.limits.head

    def _manage_reading(self) -> None:
        body = self._body()
        limits = self.app.limits
        full = (
            (self._deaf and not self._unparsed)
            or bool(self._held)
            or self._write_paused
            or len(self._queue) >= limits.pipeline
            or (body is not None and body.full(limits.buffered))
        )
        self._inflow.hold(self.transport, full)

    # --- parser callbacks

    def on_message_begin(self) -> None:
        self._began_s = time()
        self._field_bytes = self._silent = self._head_size = 0
        if self._in_message or self._current is not None:
            self._raw = None  # several requests in one piece
        self._in_message = True
        self._target = b""
        self._headers = []
        self._host = None
        self._exchange = None
        if self._trailers:
            self._trailers = []

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self.app.limits.target:
            self._fail(414, "target too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes > self.app.limits.head:
            self._fail(431, "request head too large")
        name = name.lower()
        value = value.strip(b" \t")
        if self._exchange is not None:
            self._trailers.append((name, value))  # never merged into the head (RFC 9110 §6.5.1)
            if len(self._trailers) > self.app.limits.fields:
                self._fail(431, "too many trailer fields")
            return
        if name == b"host":
            if self._host is not None:
                self._fail(400, "more than one Host")
            self._host = value
            return
        self._headers.append((name, value))
        if len(self._headers) > self.app.limits.fields:
            self._fail(431, "too many fields")

    def on_headers_complete(self) -> None:
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._fail(505, "HTTP/1.1 is spoken here")
        try:
            self._take_head(version)
        except Refused as refused:
            self._fail(refused.status, refused.reason)

    def _take_head(self, version: str) -> None:
        if self._turned is not None:
            raise self._turned
        parser, version10 = self._parser, version == "1.0"
        stream = H1Stream(self, parser.get_method())
        # One space each, and no protocol but HTTP: the parser knows others, and would not say.
        line = b"%b %b HTTP/1.%b\r\n" % (stream.method, self._target, b"0" if version10 else b"1")
        if line not in self._seen:
            raise Refused(400, "malformed request line")
        authority, target, scheme = where(stream.method, self._target, self._host, version10)
        if scheme and self.trusted:
            self._headers.append((b"atoll-scheme", scheme))
        body = framing(self._headers, version10, self.app.limits.body)
        leaves = parser.should_upgrade()
        stream.keep_alive = parser.should_keep_alive() and not leaves and self._served < self._most
        stream.version10 = version10
        if body is not NO_BODY:
            stream.awaited, stream.takes_trailers = body.awaited, body.takes_trailers
        exchange = Exchange(self.info, stream, stream.method, authority, target, self._headers, time())
        if body.length or body.chunked:
            self._expect_body(exchange, stream)
        if leaves:
            self._read_upgrade(exchange, stream, body)
        self._exchange = exchange
        if body.length or body.chunked:
            self._dispatch(exchange)

    def _expect_body(self, exchange: Exchange, stream: H1Stream) -> None:
        exchange.body = body = RequestBody()
        body.on_flow = self._manage_reading
        self._upload.moved()
        if stream.awaited:
            body.on_wanted = stream.go_ahead
        self._raw = None

    def _read_upgrade(self, exchange: Exchange, stream: H1Stream, body: Framing) -> None:
        """Which protocol the client would go on with; with a body, or to HTTP itself, it is ignored."""
        if stream.method == b"CONNECT":
            raise Refused(501, "no tunnels are made here")
        if body.chunked:
            raise Refused(501, "no upgrade with a chunked body")
        self._unparsed = body.length
        token = upgrade_token(self._headers)
        if not token or body.length or stream.version10 or self.trusted or stream.method != b"GET":
            return
        exchange.upgrade = token
        exchange.body = RequestBody()
        exchange.body.on_flow = self._manage_reading
        stream.offers = True
        stream.keep_alive = self._parser.should_keep_alive() and self._served < self._most
        self._raw = None

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        self._silent = -1
        if exchange is None or exchange.body is None:
            return
        if exchange.body.received + len(body) > self.app.limits.body:
            exchange.body.fail()
            self._fail(413, "body too large")
        exchange.body.feed(body)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if self._unparsed or (exchange is not None and exchange.upgrade):
            return  # only the head was parsed
        self._in_message = False
        if exchange is None:
            return
        if exchange.body is not None:
            if self._trailers:
                exchange.body.trailers = allowed_trailers(self._trailers)
            exchange.body.end()
            return
        stream = cast(H1Stream, exchange.stream)
        if stream.keep_alive and not stream.version10 and stream.method == b"GET":
            raw = self._raw
            if raw is not None and raw.find(b"\r\n\r\n") == len(raw) - 4:  # one request and nothing else
                exchange.raw = raw  # it may be recognised: what follows is the same every time
        self._raw = None
        self._dispatch(exchange)

    def _fail(self, status: int, reason: str) -> None:
        """End parsing with a refusal: the exception leaves the parser, `_feed` answers."""
        self._refusal = (status, reason)
        raise ValueError(reason)

    # --- ordering

    def _dispatch(self, exchange: Exchange) -> None:
        stream = cast(H1Stream, exchange.stream)
        self._served += 1
        stream.exchange = exchange
        self._queue.append(stream)
        self._start_next()

    def _start_next(self) -> None:
        """One after the other, never one inside another, and none while the client does not read."""
        if self._starting:
            return
        self._starting = True
        try:
            while self._queue and self._current is None and not (self._write_paused or self.closing):
                self._current = stream = self._queue.popleft()
                assert stream.exchange is not None
                self.app.handle(stream.exchange)
        finally:
            self._starting = False

    def response_done(self, stream: H1Stream, keep_alive: bool) -> None:
        """`stream` has written its last byte: close, or go on with the next one."""
        self._current = None
        self.last_activity_s = time()
        body = stream.exchange.body if stream.exchange is not None else None
        if self._last_word and keep_alive and not self._queue:
            self.transport.write(self._last_word)
            keep_alive = False
        ended = self._half_closed and not (self._queue or self._held)
        if not keep_alive or ended or self.closing or (body is not None and not body.complete):
            # A body that was not read to its end would be taken for the next request.
            self.closing = True
            self.transport.close()
            return
        self._start_next()
        if self._inflow.paused:
            self._go_on()

    def _refuse(self, status: int, reason: str) -> None:
        if self.closing:
            return
        self.app.refused(self.info, status, reason)
        text = f"{status} {reason}\n".encode()
        head = b"Content-Type: text/plain\r\nContent-Length: %d\r\n" % len(text)
        if status in (429, 503):
            head += b"Retry-After: %d\r\n" % self.app.limits.retry_after_s
        wire = b"".join((status_line(status), head, CLOSE, b"\r\n", text))
        own = self._exchange.stream if self._exchange is not None else None
        if self._current is not None and self._current is not own:
            self._deaf, self._last_word = True, wire  # the requests before it are answered first
            self._manage_reading()
            return
        self.closing = True
        current, exchange = self._current, self._exchange
        if current is None or not current.started:
            self.transport.write(wire)
        if current is not None:
            current.cut()  # whoever answers it is told that it has gone
        if exchange is not None and exchange.body is not None:
            exchange.body.fail()
        if self.transport.can_write_eof():
            # What is unread when a socket closes makes a reset of it, and the answer is lost (RFC 9112 §9.6).
            self._refused_s = time()
            self.transport.write_eof()
        else:
            self.transport.close()
