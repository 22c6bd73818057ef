"""HTTP/1.1 server connections on httptools (llhttp): bytes in, exchanges out, responses back in order.

Framing follows RFC 9112; llhttp refuses what smuggles (CL with TE, bare line ends, obs-fold). What it lets
through and we refuse: `Transfer-Encoding` on HTTP/1.0, a missing, repeated or invalid Host, 8-bit bytes and
fragments in the target. A request that repeats a known one byte for byte is answered from the hot table
before any parser runs. A malformed request gets its status and the connection closes; nothing else does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import time
from typing import cast

import httptools

from atoll.http.exchange import App, ConnectionInfo, Exchange, PreparedHead, RequestBody
from atoll.http.fields import GOOD_TARGET, Headers, get, valid_host
from atoll.http.pace import Inflow, Outflow
from atoll.http.render import body_allowed, field_lines, field_prefix, status_line

_CLOSE = b"Connection: close\r\n"
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
        self._unparsed = 0  # bytes of a body that follow all the same
        self._refused_s = 0.0  # since then what comes is only read, so that the refusal arrives
        self._heard = 0
        self._held = b""  # read, but not parsed while enough requests wait
        self._starting = False
        self._outflow = Outflow()
        self._began_s = 0.0
        self._field_bytes = 0
        self._silent = 0  # bytes of a body's framing since its last content
        self._half_closed = False
        self._last_word = b""

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
        if self._held or ((self._current is not None or self._queue) and not self._in_message):
            self._half_closed = True
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        if self._exchange is not None and self._exchange.body is not None:
            self._exchange.body.fail()
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
        elif reading_head and now_s - self._began_s > limits.head_timeout_s:
            self._refuse(408, "head timeout")
        elif self._in_message and self._exchange is not None and quiet_s > limits.body_timeout_s:
            self.transport.abort()

    # --- reading

    def _feed(self, data: bytes) -> None:
        """Parse, a piece at a time: no more requests are taken in than may wait."""
        if self._refused_s:
            self._heard += len(data)
            if self._heard > self.app.limits.buffered:
                self.transport.abort()
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
        if self._unparsed and self._deaf and start < len(data):
            self._take_unparsed(data[start:])
        self._manage_reading()

    def _parse(self, data: bytes) -> None:
        if self._in_message and self._exchange is None:
            self._head_size += len(data)  # of a head that has begun before; see `on_message_begin`
        else:
            # Only a request that came in one piece, on a quiet connection, can be recognised later.
            self._raw = data if self._current is None and len(data) <= _HOT_MAX_HEAD else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # RFC 9110 §7.8: ignored; the request has been dispatched and its response says `close`. Its body
            # is what follows, as the parser sees it.
            self._deaf = True
            self._take_unparsed(data[upgrade.args[0] :])
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
        body = self._exchange.body if self._exchange is not None else None
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

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self.app.limits.target:
            self._fail(414, "target too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes > self.app.limits.head:
            self._fail(431, "request head too large")
        if self._exchange is not None:
            return  # a trailer field: never merged into the head (RFC 9110 §6.5.1)
        name = name.lower()
        value = value.strip(b" \t")
        if name == b"host":
            if self._host is not None:
                self._fail(400, "more than one Host")
            self._host = value
            return
        self._headers.append((name, value))
        if len(self._headers) > self.app.limits.fields:
            self._fail(431, "too many fields")

    def on_headers_complete(self) -> None:
        if self._parser.get_http_version() not in ("1.0", "1.1"):
            self._fail(505, "HTTP/1.1 is spoken here")
        authority, target = self._authority_and_target()
        stream = H1Stream(self, self._parser.get_method())
        stream.keep_alive = (
            self._parser.should_keep_alive()
            and not self._parser.should_upgrade()
            and self._served < self._most
        )
        stream.version10 = self._parser.get_http_version() == "1.0"
        exchange = Exchange(self.info, stream, stream.method, authority, target, self._headers, time())
        length, chunked = self._framing(stream.version10)
        if length or chunked:
            exchange.body = RequestBody()
            exchange.body.on_flow = self._manage_reading
            self._raw = None
        self._exchange = exchange
        if self._parser.should_upgrade():
            if chunked:
                self._fail(501, "no upgrade with a chunked body")
            self._unparsed = length
        if length or chunked:
            self._dispatch(exchange)

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
        if self._unparsed:
            return  # only the head was parsed
        self._in_message = False
        if exchange is None:
            return
        if exchange.body is not None:
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

    def _authority_and_target(self) -> tuple[bytes, bytes]:
        target, host = self._target, self._host
        if target.translate(None, GOOD_TARGET):
            self._fail(400, "invalid byte in the target")
        if not target.startswith(b"/") and target != b"*":
            url = httptools.parse_url(target) if b"://" in target else None
            if url is None or not url.host:
                self._fail(400, "target is neither a path nor an absolute URI")
                raise AssertionError
            host = url.host if url.port is None else b"%s:%d" % (url.host, url.port)
            if self.trusted and url.schema:
                self._headers.append((b"atoll-scheme", url.schema))
            target = (url.path or b"/") + (b"?" + url.query if url.query is not None else b"")
        if host is None:
            if self._parser.get_http_version() != "1.0":
                self._fail(400, "Host is missing")
            host = b""
        elif not valid_host(host):
            self._fail(400, "Host is invalid")
        return host.lower(), target

    def _framing(self, version10: bool) -> tuple[int, bool]:
        length, chunked = 0, False
        for name, value in self._headers:
            if name == b"content-length":
                length = int(value)
                if length > self.app.limits.body:
                    self._fail(413, "body too large")
            elif name == b"transfer-encoding":
                if version10:
                    self._fail(400, "Transfer-Encoding on HTTP/1.0")
                if value.strip().lower() != b"chunked":
                    self._fail(501, "only the chunked transfer coding is understood")
                chunked = True
        return length, chunked

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
                if _expects(stream.exchange) and not stream.version10:
                    self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
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
        wire = b"".join((status_line(status), head, _CLOSE, b"\r\n", text))
        own = self._exchange.stream if self._exchange is not None else None
        if self._current is not None and self._current is not own:
            self._deaf, self._last_word = True, wire  # the requests before it are answered first
            self._manage_reading()
            return
        self.closing = True
        if self._current is None or not self._current.started:
            self.transport.write(wire)
        if self.transport.can_write_eof():
            # What is unread when a socket closes makes a reset of it, and the answer is lost (RFC 9112 §9.6).
            self._refused_s = time()
            self.transport.write_eof()
        else:
            self.transport.close()


def _expects(exchange: Exchange) -> bool:
    """Whether the client waits for leave to send its body (RFC 9110 §10.1.1)."""
    body = exchange.body
    if body is None or body.received or body.complete:
        return False
    return (get(exchange.headers, b"expect") or b"").lower() == b"100-continue"


class H1Stream:
    """A response on an HTTP/1.1 connection."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_drained",
        "_gone",
        "_pending",
        "_remaining",
        "exchange",
        "gone",
        "keep_alive",
        "method",
        "started",
        "version10",
    )
    protocol = "HTTP/1.1"

    def __init__(self, connection: H1Connection, method: bytes) -> None:
        self._connection = connection
        self.method = method
        self.keep_alive = True
        self.version10 = False
        self.started = False
        self.gone = False
        self.exchange: Exchange | None = None
        self._chunked = False
        self._pending: list[bytes] = []
        self._remaining: int | None = None
        self._drained: Callable[[], None] | None = None
        self._gone: Callable[[], None] | None = None

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """See `Stream.start`."""
        if self.gone:
            return
        self._put(self._head(status, headers, length))

    def _put(self, data: bytes) -> None:
        """Write at the end of this turn of the loop: a head and a short body leave in one piece."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        self._pending.append(data)

    def _flush(self) -> None:
        pending = self._pending
        if pending:
            self._pending = []
            self._connection.transport.write(pending[0] if len(pending) == 1 else b"".join(pending))

    def _head(self, status: int, headers: Headers, length: int | None) -> bytes:
        self.started = True
        parts = [status_line(status), field_lines(headers)]
        if status >= 200 and status not in (204, 304):
            if self.method == b"HEAD" and length is None:
                pass  # what a GET's framing would be is not known (RFC 9110 §8.6)
            elif length is not None:
                parts.append(b"Content-Length: %d\r\n" % length)
            elif self.version10:
                self.keep_alive = False
            else:
                parts.append(b"Transfer-Encoding: chunked\r\n")
        if body_allowed(self.method, status):
            self._chunked = length is None and not self.version10
            self._remaining = length
        else:
            self._remaining = 0
        if not self.keep_alive or self._connection.app.draining or self._connection.closing:
            self.keep_alive = False
            parts.append(_CLOSE)
        elif self.version10:
            parts.append(b"Connection: keep-alive\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        """See `Stream.write`. Bytes beyond the announced length are dropped."""
        if self.gone or not data:
            return
        self._connection.last_activity_s = time()
        if self._chunked:
            self._put(b"%x\r\n%b\r\n" % (len(data), data))
        elif self._remaining is None:
            self._put(data)
        elif self._remaining:
            data = data[: self._remaining]
            self._remaining -= len(data)
            self._put(data)

    def finish(self) -> None:
        """See `Stream.finish`. A body shorter than announced closes the connection."""
        if self.gone:
            return
        if self._chunked:
            self._put(b"0\r\n\r\n")
        self._end(self.keep_alive and not self._remaining)

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See `Stream.respond`."""
        if self.gone:
            return
        head = self._head(status, headers, len(body))
        if self._remaining and len(body) <= 65_536:
            self._connection.transport.write(head + body)
        else:
            self._connection.transport.write(head)
            if self._remaining:
                self._connection.transport.write(body)
        self._end(self.keep_alive)

    def respond_prepared(self, head: PreparedHead, more: Headers, body: bytes) -> None:
        """See `Stream.respond_prepared`."""
        if self.gone:
            return
        if not self.keep_alive or self.version10 or self._connection.app.draining:
            self.respond(head.status, [*head.fields, *more], body)
            return
        lines = head.lines
        for name, value in more:
            lines += b"%b%b\r\n" % (field_prefix(name), value)
        if body_allowed(self.method, head.status):
            lines = b"%bContent-Length: %d\r\n\r\n%b" % (lines, len(body), body)
        else:
            lines += b"\r\n"
        self._connection.transport.write(lines)
        self._end(not self._connection.closing)

    def abort(self) -> None:
        """See `Stream.abort`."""
        if not self.gone:
            self._flush()
            self._connection.transport.abort()

    def congested(self) -> bool:
        """See `Stream.congested`."""
        return self._connection.write_paused

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """See `Stream.on_drained`."""
        self._drained = callback

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """See `Stream.on_gone`."""
        self._gone = callback

    def drained(self) -> None:
        """The transport's buffer has room again."""
        callback, self._drained = self._drained, None
        if callback is not None:
            callback()

    def lost(self) -> None:
        """The connection is gone."""
        if self.gone:
            return
        self.gone = True
        callback, self._gone, self._drained = self._gone, None, None
        if callback is not None:
            callback()

    def _end(self, keep_alive: bool) -> None:
        self._flush()
        self.gone = True
        self._gone = self._drained = None
        self._connection.response_done(self, keep_alive)
