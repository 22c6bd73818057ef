"""The response to one HTTP/1.1 request: head and framing on the wire (RFC 9112).

Which stream may write is the connection's business (`atoll.http.h1`). What is written here is framed so that
the client always knows where it ends: by length, by chunks, or by the end of the connection. After a 101
nothing is framed any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Final

from atoll.http.exchange import Exchange, PreparedHead
from atoll.http.fields import Headers
from atoll.http.file_pipe import FilePipe
from atoll.http.render import body_allowed, field_lines, field_prefix, status_line
from atoll.http.trailers import allowed_trailers

if TYPE_CHECKING:
    from atoll.http.h1 import H1Connection

CLOSE: Final = b"Connection: close\r\n"


class H1Stream:
    """A response on an HTTP/1.1 connection."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_drained",
        "_gone",
        "_pending",
        "_remaining",
        "awaited",
        "exchange",
        "gone",
        "keep_alive",
        "method",
        "offers",
        "started",
        "takes_trailers",
        "tunnel",
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
        self.awaited = False  # the client waits for leave to send its body
        self.offers = False  # the client would go on with another protocol
        self.tunnel = False  # and it does
        self.takes_trailers = False
        self.exchange: Exchange | None = None
        self._chunked = False
        self._pending: list[bytes] = []
        self._remaining: int | None = None
        self._drained: Callable[[], None] | None = None
        self._gone: Callable[[], None] | None = None

    def inform(self, status: int, headers: Headers) -> None:
        """See `Stream.inform`. HTTP/1.0 knows no interim responses (RFC 9110 §15.2)."""
        if not (self.gone or self.started or self.version10):
            wire = b"%b%b\r\n" % (status_line(status), field_lines(headers))
            self._connection.transport.write(wire)

    def go_ahead(self) -> None:
        """Somebody begins to take the body: the client may send it (RFC 9110 §10.1.1), if it has not yet."""
        body = self.exchange.body if self.exchange is not None else None
        if body is not None and not body.received:
            self.inform(100, [])

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """See `Stream.start`."""
        if self.gone:
            return
        if status == 101:
            self._switch(headers)
        else:
            self._put(self._head(status, headers, length))

    def _switch(self, headers: Headers) -> None:
        if not self.offers or self.exchange is None:
            self.abort()  # to what nobody has asked for
            return
        self.started, self.tunnel, self.offers, self.keep_alive = True, True, False, False
        fields = [*headers, (b"connection", b"Upgrade"), (b"upgrade", self.exchange.upgrade)]
        self._put(b"%b%b\r\n" % (status_line(101), field_lines(fields)))

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

    def _stay_http(self) -> None:
        self.offers = False
        if self.exchange is not None:
            self.exchange.decline_upgrade()
        if not self._connection.stay_http():
            self.keep_alive = False

    def _head(self, status: int, headers: Headers, length: int | None) -> bytes:
        self.started = True
        if self.offers:
            self._stay_http()
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
            parts.append(CLOSE)
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

    def file_pipe(self) -> FilePipe | None:
        """See `Stream.file_pipe`. Not where bytes are encrypted, or not counted."""
        if self.gone or self._chunked or not self._remaining:
            return None
        pipe = self._connection.file_pipe(self)
        if pipe is not None:
            self._flush()
        return pipe

    def piped(self, count: int) -> None:
        """So many bytes of the body have gone past this."""
        self._connection.last_activity_s = time()
        if self._remaining is not None:
            self._remaining -= count

    def finish(self, trailers: Headers | None = None) -> None:
        """See `Stream.finish`. A body shorter than announced closes the connection."""
        if self.gone:
            return
        if self.tunnel:
            self._leave()
            self._connection.tunnel_done()
            return
        if self._chunked:
            if trailers and self.takes_trailers:
                self._put(b"0\r\n%b\r\n" % field_lines(allowed_trailers(trailers)))
            else:
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
        if not self.keep_alive or self.version10 or self.offers or self._connection.app.draining:
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

    def cut(self) -> None:
        """The client has broken off its request in a way that cannot be answered any more."""
        self._flush()
        self.lost()

    def lost(self) -> None:
        """The connection is gone."""
        if self.gone:
            return
        self.gone = True
        self._pending = []
        callback, self._gone, self._drained = self._gone, None, None
        if callback is not None:
            callback()

    def _leave(self) -> None:
        self._flush()
        self.gone = True
        self._gone = self._drained = None

    def _end(self, keep_alive: bool) -> None:
        self._leave()
        self._connection.response_done(self, keep_alive)
