"""HTTP/1.1 server connections on httptools (llhttp): bytes in, exchanges out, responses back in order.

A request that repeats a known one byte for byte is answered from the hot table before any parser runs.
Others are read (`atoll.http.h1_reader`) and answered one after the other (`atoll.http.h1_stream`), unless one
goes on with another protocol: then what follows is raw. A malformed request gets its status and the
connection closes; nothing else does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import time
from typing import cast

import httptools

from atoll.http.exchange import App, ConnectionInfo, Exchange, RequestBody
from atoll.http.file_pipe import FilePipe
from atoll.http.h1_reader import RequestReader
from atoll.http.h1_request import Refused
from atoll.http.h1_stream import CLOSE, H1Stream
from atoll.http.pace import Inflow, Outflow
from atoll.http.render import status_line

_LINGER_S = 2.0


class H1Connection(RequestReader, asyncio.Protocol):
    """One client connection. The reader makes requests of bytes, `_queue` orders their responses."""

    def __init__(self, app: App, info: ConnectionInfo, trusted: bool = False) -> None:
        super().__init__(app, info, trusted)
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.last_activity_s = 0.0
        self.closing = False
        self._queue: deque[H1Stream] = deque()  # parsed, waiting for their turn
        self._write_paused = False
        self._inflow = Inflow()
        self._raw_body: RequestBody | None = None  # of an upgrade: what follows is for it, unparsed
        self._refused_s = 0.0  # since then what comes is only read, so that the last answer arrives
        self._heard = 0
        self._most_heard = app.limits.buffered
        self._linger_s = _LINGER_S
        self._held = b""  # read, but not parsed while enough requests wait
        self._starting = False
        self._outflow = Outflow()
        self._pipe: FilePipe | None = None
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
                    if entry.rest:
                        self.transport.write(entry.rest)
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
        self._close_pipe()
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

    def file_pipe(self, stream: H1Stream) -> FilePipe | None:
        """One for the rest of a response whose head has been written; None where bytes are encrypted.

        From here to its end the transport says at once when it has something to send, and when no more.
        """
        if self.transport.get_extra_info("ssl_object") is not None:
            return None
        if self._pipe is None:
            self.transport.set_write_buffer_limits(0)
            self._pipe = FilePipe(self.transport, stream)
        return self._pipe

    def _close_pipe(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None

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
        if self._stuck(now_s):
            self.transport.abort()  # the client does not read; `close` would wait for it for ever
        elif self._refused_s:
            if now_s - self._refused_s > self._linger_s or quiet_s > _LINGER_S:
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

    def _stuck(self, now_s: float) -> bool:
        """Whether what is written waits for a client that takes nothing."""
        patience_s, pipe = self.app.limits.body_timeout_s, self._pipe
        if pipe is not None and pipe.waits:
            return self._outflow.stuck(1, now_s, patience_s, pipe.sent)
        return self._outflow.stuck(self.transport.get_write_buffer_size(), now_s, patience_s)

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
        """Parse, a part at a time: no more requests are taken in than may wait."""
        if self._refused_s:
            self._heard += len(data)
            if self._heard > self._most_heard:
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
            end = self._part_end(data, start)
            part = data if not start and end >= len(data) else data[start:end]
            start += len(part)
            self._parse(part)
            if self._exchange is not None and self._exchange.upgrade and self._raw_body is None:
                self._offer_upgrade(self._exchange, self._early + data[start:])
                return
        if self._unparsed and self._deaf and start < len(data):
            self._take_unparsed(data[start:])
        self._manage_reading()

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

    def _go_on(self) -> None:
        """There may be room again: parse what is held, then read."""
        if self._held and len(self._queue) < self.app.limits.pipeline and not self._write_paused:
            held, self._held = self._held, b""
            self._feed(held)
        else:
            self._manage_reading()

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

    # --- ordering

    def _new_stream(self, method: bytes) -> H1Stream:
        return H1Stream(self, method)

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
        if self._pipe is not None:
            self._close_pipe()
            self.transport.set_write_buffer_limits()
        body = stream.exchange.body if stream.exchange is not None else None
        if self._last_word and keep_alive and not self._queue:
            self.transport.write(self._last_word)
            keep_alive = False
        ended = self._half_closed and not (self._queue or self._held)
        if body is not None and not body.complete and not (self.closing or stream.version10):
            self._hear_out(body)
            return
        if not keep_alive or ended or self.closing or (body is not None and not body.complete):
            # A body that was not read to its end would be taken for the next request.
            self.closing = True
            self.transport.close()
            return
        self._start_next()
        if self._inflow.paused:
            self._go_on()

    def _hear_out(self, body: RequestBody) -> None:
        """Answered before all of an upload has come: what still does is read and forgotten.

        A client may send all of it before it looks for an answer, and what is unread when a socket closes
        makes a reset of it, which loses what has not arrived (RFC 9112 §9.6).
        """
        limits = self.app.limits
        self.closing, self._in_message, self._exchange = True, False, None
        body.on_flow = None
        body.fail()
        self._held = b""
        self._refused_s, self._linger_s, self._most_heard = time(), limits.body_timeout_s, limits.body
        self._inflow.hold(self.transport, False)
        if self.transport.can_write_eof():
            self.transport.write_eof()

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
