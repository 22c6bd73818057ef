"""The response on one HTTP/3 stream (RFC 9114 §4.1): its fields, its data behind flow control, its end.

The transport keeps what has not been acknowledged; what is decided here is which fields may be sent, when a
head leaves, and that an answer to an extended CONNECT (RFC 9220) is never mistaken for a tunnel.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Final

from atoll.http.exchange import Exchange, PreparedHead
from atoll.http.fields import Headers, get, h2_fields
from atoll.http.h3_engine import REQUEST_CANCELLED, data_frame_head, head_frame
from atoll.http.render import body_allowed
from atoll.http.trailers import allowed_trailers

if TYPE_CHECKING:
    from atoll.http.h3 import H3Connection

_SMALL: Final = 4096  # bytes that are copied rather than written in two pieces


class H3Stream:
    """A response on an HTTP/3 connection."""

    __slots__ = (
        "_connection",
        "_drained",
        "_gone",
        "_head",
        "exchange",
        "expected",
        "gone",
        "id",
        "offers",
        "started",
        "tunnel",
    )
    protocol = "HTTP/3"

    def __init__(self, connection: H3Connection, stream_id: int, method: bytes) -> None:
        self._connection = connection
        self.id = stream_id
        self.gone = False
        self.started = False
        self.exchange: Exchange | None = None
        self.expected = -1  # bytes of the request's body, when it says so
        self.offers = False  # the client would go on with another protocol
        self.tunnel = False  # and it does
        self._head = method == b"HEAD"
        self._drained: Callable[[], None] | None = None
        self._gone: Callable[[], None] | None = None

    @property
    def raw(self) -> bool:
        """Whether its body is another protocol's, or would be."""
        return self.offers or self.tunnel

    def inform(self, status: int, headers: Headers) -> None:
        """See `Stream.inform`."""
        if not (self.gone or self.started):
            self._send(head_frame([(b":status", b"%d" % status), *h2_fields(headers)]))

    def go_ahead(self) -> None:
        """Somebody begins to take the body: the client may send it (RFC 9110 §10.1.1), if it has not yet."""
        body = self.exchange.body if self.exchange is not None else None
        if body is not None and not body.received:
            self.inform(100, [])

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """See `Stream.start`. 101 is a 200 here, with the stream left open (RFC 9220 §3)."""
        if self.gone:
            return
        if status == 101:
            if not self.offers:
                self.abort()  # to what nobody has asked for
                return
            status, length, self.tunnel, self.offers = 200, None, True, False
        else:
            status = self._judged(status)
        self.started = True
        fields = [(b":status", b"%d" % status), *h2_fields(headers)]
        if length is not None and status >= 200 and status not in (204, 304):
            fields.append((b"content-length", b"%d" % length))
        end = length == 0 or not body_allowed(b"HEAD" if self._head else b"GET", status)
        if end:
            self._head = True  # nothing more is written
        self._send(head_frame(fields))

    def _judged(self, status: int) -> int:
        """To an extended CONNECT any 2xx says that its protocol is spoken from here on (RFC 9110 §9.3.6)."""
        if self.offers:
            self.offers = False
            if self.exchange is not None:
                self.exchange.decline_upgrade()
            if 200 <= status < 300:
                return 502
        return status

    def write(self, data: bytes) -> None:
        """See `Stream.write`."""
        if self.gone or self._head or not data:
            return
        self._connection.last_activity_s = time()
        if len(data) < _SMALL:
            self._send(data_frame_head(len(data)) + data)
        else:
            self._send(data_frame_head(len(data)))
            self._send(data)

    def file_pipe(self) -> None:
        """See `Stream.file_pipe`. Every byte goes into a frame."""

    def finish(self, trailers: Headers | None = None) -> None:
        """See `Stream.finish`."""
        if self.gone:
            return
        kept = h2_fields(allowed_trailers(trailers)) if trailers else []
        self._send(head_frame(kept) if kept and not self._head else b"", end=True)
        if not self.gone:
            self._end()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See `Stream.respond`. Prepared fields may carry their content-length already."""
        if self.gone:
            return
        self.started = True
        status = self._judged(status)
        fields = [(b":status", b"%d" % status), *h2_fields(headers)]
        bodiless = status in (204, 304)
        if not bodiless and (body or not self._head) and get(headers, b"content-length") is None:
            fields.append((b"content-length", b"%d" % len(body)))
        wire = head_frame(fields)
        if body and not self._head and not bodiless:
            wire += data_frame_head(len(body)) + body
        self._send(wire, end=True)
        if not self.gone:
            self._end()

    def respond_prepared(self, head: PreparedHead, more: Headers, body: bytes) -> None:
        """See `Stream.respond_prepared`."""
        self.respond(head.status, [*head.fields, *more], body)

    def abort(self) -> None:
        """See `Stream.abort`."""
        if not self.gone:
            self._connection.reset(self.id, REQUEST_CANCELLED)
            self._end()

    def congested(self) -> bool:
        """See `Stream.congested`."""
        return self._connection.quic.unsent(self.id) > self._connection.app.limits.buffered

    def receiving(self) -> bool:
        """Half way through a request's body."""
        if self.raw:
            return False  # whoever answers it looks at the clock
        body = self.exchange.body if self.exchange is not None else None
        return body is not None and not body.complete

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """See `Stream.on_drained`."""
        self._drained = callback

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """See `Stream.on_gone`."""
        self._gone = callback

    def drained(self) -> None:
        """There is room again."""
        callback, self._drained = self._drained, None
        if callback is not None:
            callback()

    @property
    def waits(self) -> bool:
        """Whether somebody waits for room."""
        return self._drained is not None

    def lost(self) -> None:
        """The client cancelled the stream or left."""
        if self.gone:
            return
        self.gone = True
        if self.exchange is not None and self.exchange.body is not None:
            self.exchange.body.fail()
        callback, self._gone, self._drained = self._gone, None, None
        if callback is not None:
            callback()

    def _send(self, data: bytes, end: bool = False) -> None:
        if not self._connection.send(self.id, data, end):  # the client has stopped the stream meanwhile
            self.lost()
            self._connection.stream_done(self)

    def _end(self) -> None:
        self.gone = True
        self._gone = self._drained = None
        self._connection.stream_done(self)
