"""One HTTP/1.1 connection to an origin or a function host, on httptools (llhttp).

Framing follows RFC 9112 §6.3. What is more than was asked for, or cannot be told where it ends, ends the
connection: whose answer would the next one be? After 101 the connection is a tunnel and what passes is not
looked at.

A response whose head is, byte for byte, one that the parser has read before from the same address means
the same: it is looked up instead of parsed, if the whole response came in one piece.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol, cast

import httptools

from atoll.errors import RemoteError
from atoll.http.call import Call, Calls, ResponseHead
from atoll.http.fields import Headers, get, get_all, strip_hop_by_hop
from atoll.http.render import field_lines
from atoll.http.trailers import allowed_trailers

_MAX_HEAD: Final = 64 * 1024
_MAX_FIELDS: Final = 200
_HEAD_END: Final = b"\r\n\r\n"


class H1Pool(Calls, Protocol):
    """What a connection needs of its pool."""

    heads: dict[bytes, ResponseHead]

    def release(self, connection: H1Upstream) -> None:
        """`connection` is free for the next call."""

    def forget(self, connection: H1Upstream) -> None:
        """`connection` is closed."""

    def retry(self, call: Call) -> None:
        """A reused connection died before it answered."""

    def remember(self, raw: bytes, head: ResponseHead) -> None:
        """The parser made `head` of `raw`."""


class H1Upstream(asyncio.Protocol):
    """One connection; `call` is what it is answering."""

    def __init__(self, pool: H1Pool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.call: Call | None = None
        self.idle_since_s = 0.0
        self.born_s = monotonic()
        self.worn = False  # it takes no more calls
        self._used = False
        self._parser = httptools.HttpResponseParser(self)
        self._inside = False  # the parser is inside a response, or the connection is a tunnel
        self._tunnel = False
        self._headers: Headers = []
        self._size = 0
        self._sent = 0
        self._head: ResponseHead | None = None
        self._until_close = False
        self._reusable = False
        self._surplus = False

    # --- for the pool and the call

    def begin(self, call: Call) -> None:
        """Send `call`'s request."""
        self.call = call
        call.connection = self
        self.transport.write(call.request)
        if call.body is not None and not call.terms.upgrade:
            self._sent = 0
            call.body.attach(call)

    def drop(self, call: Call) -> None:
        """See `Carrier`: nothing else can be made of a connection with half an answer."""
        self.call = None
        self.transport.abort()

    def hold(self, call: Call, held: bool) -> None:
        """See `Carrier`."""
        if held:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def send(self, call: Call, data: bytes) -> None:
        """See `Carrier`."""
        if self._tunnel:
            call.wait()
            self.transport.write(data)
        elif call.terms.length is None:
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._sent += len(data)
            if self._sent > call.terms.length:
                self._broken("the request's body is longer than was said", 400)
            else:
                self.transport.write(data)

    def send_end(self, call: Call) -> None:
        """See `Carrier`."""
        if self._tunnel:
            if self.transport.can_write_eof():
                self.transport.write_eof()
        elif call.terms.length is None:
            trailers = call.body.trailers if call.body is not None else []
            self.transport.write(b"0\r\n%b\r\n" % field_lines(trailers) if trailers else b"0\r\n\r\n")
        elif self._sent != call.terms.length:
            self._broken("the request's body is shorter than was said", 400)

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        call = self.call
        if call is None:
            self.transport.abort()  # an answer to nothing
            return
        if self._inside:
            call.wait()
            if self._tunnel:
                call.data(data)
            else:
                self._feed(data)
            return
        end = data.find(_HEAD_END) + 4
        raw = data[:end] if end > 3 else b""
        known = self.pool.heads.get(raw)
        if known is not None and known.length == len(data) - end and not call.head_only:
            self._take_leave(call)
            self._settle(reusable=call.body is None or call.body.complete)
            call.whole(known, data[end:])
            return
        call.wait()
        self._inside = True
        self._headers, self._size, self._until_close = [], 0, False
        self._head, self._reusable = None, False
        self._surplus = False
        head = self._feed(data)
        if head is not None and raw and self._reusable and head.length == len(data) - end:
            self.pool.remember(raw, head)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        if self.call is not None and self.call.body is not None:
            self.call.body.block(True)
            self.call.wait()

    def resume_writing(self) -> None:
        if self.call is not None and self.call.body is not None:
            self.call.body.block(False)
            self.call.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pool.forget(self)
        call = self.call
        if call is None:
            return
        self.call = None
        call.connection = None
        if self._inside and self._until_close and exc is None:
            self.pool.active.discard(call)
            call.end()
        elif self._used and not call.started and not call.retried and call.repeatable:
            self.pool.retry(call)
        else:
            self.pool.active.discard(call)
            call.failed(RemoteError("connection closed before the response was complete", 502))

    # --- parsing

    def _feed(self, data: bytes) -> ResponseHead | None:
        """Parse; the response's head if it has been read."""
        self._size += len(data)
        if self._size > _MAX_HEAD + len(data):
            # Of fields, trailers and chunks' extensions: the parser keeps one until it is complete.
            self._broken("response head too large" if self._head is None else "too much around the content")
            return None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._become_tunnel(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._broken(f"malformed response: {error.__context__ or error}")
        if self._inside and self.call is None:
            self._inside = False
            self._settle(self._reusable and not self._surplus)
        return self._head

    def _become_tunnel(self, data: bytes) -> None:
        """The origin goes on with the protocol that was asked for; `data` is the first it says in it."""
        call, head = self.call, self._head
        if call is None or head is None or head.status != 101 or call.body is None:
            self._broken("unexpected upgrade")
            return
        self._tunnel = self._until_close = True
        call.begun()
        call.head(101, head.headers)
        if data and self.call is call:
            call.data(data)
        if self.call is call:
            call.wait()
            call.body.attach(call)

    def _broken(self, reason: str, status: int = 502) -> None:
        call, self.call = self.call, None
        self.transport.abort()
        if call is not None:
            call.connection = None
            self.pool.active.discard(call)
            call.failed(RemoteError(reason, status))

    def on_message_begin(self) -> None:
        if self.call is None:
            self._surplus = True  # more than was asked for: whose answer would the next one be?

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.strip(b" \t")))
        if len(self._headers) > _MAX_FIELDS:
            raise ValueError("too many fields in a response")

    def on_headers_complete(self) -> None:
        call, headers = self.call, self._headers
        status = self._parser.get_status_code()
        if call is None:
            return
        self._headers = []  # what follows is another head, or trailers
        if status < 200:
            self._interim(call, status, headers)
            return
        if status > 599:
            raise ValueError(f"status {status}")
        call.begun()
        length, chunked = _framing(call, status, headers)
        self._until_close = length is None and not chunked
        self._head = ResponseHead(status, strip_hop_by_hop(headers), length)
        call.head(status, self._head.headers)
        if call.head_only and self.call is call:
            self._take_leave(call)
            call.end()

    def _interim(self, call: Call, status: int, headers: Headers) -> None:
        if status < 100:
            raise ValueError(f"status {status}")
        if status == 101:
            named = [value.strip(b" \t").lower() for value in get_all(headers, b"upgrade")]
            if not call.terms.upgrade or named != [call.terms.upgrade]:
                raise ValueError("101 for a protocol that nobody asked for")
            self._head = ResponseHead(101, strip_hop_by_hop(headers), None)
        elif status != 100:  # our own question, if it is one at all: the client has had its answer
            call.informational(status, strip_hop_by_hop(headers))

    def on_body(self, body: bytes) -> None:
        self._size = 0
        if self.call is not None:
            self.call.data(body)

    def on_message_complete(self) -> None:
        call = self.call
        if call is not None and call.started:
            whole = call.body is None or call.body.complete or bool(call.terms.upgrade)
            self._reusable = whole and self._parser.should_keep_alive() and not self._until_close
            if self._headers:
                call.trailers = allowed_trailers(self._headers)
            self._take_leave(call)
            call.end()

    def _take_leave(self, call: Call) -> None:
        """`call` has its response."""
        self.call = None
        call.connection = None
        self._used = True
        self.pool.active.discard(call)

    def _settle(self, reusable: bool) -> None:
        """Between two calls: take another one, or close."""
        if reusable:
            self.pool.release(self)
        else:
            self.transport.close()


def _framing(call: Call, status: int, headers: Headers) -> tuple[int | None, bool]:
    """The length of the body if it is known before its end, and whether it is chunked (RFC 9112 §6.3)."""
    if call.head_only or status in (204, 304):
        return 0, False
    if get(headers, b"transfer-encoding") is not None:
        return None, True
    length = get(headers, b"content-length")
    return (int(length) if length is not None else None), False
