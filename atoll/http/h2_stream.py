"""The response on one HTTP/2 stream (RFC 9113 §8): its fields, its data behind flow control, its end.

The engine frames and parks what the client makes no room for. What is decided here: which fields may be sent,
when a head leaves, and that an answer to an extended CONNECT (RFC 8441) is never mistaken for a tunnel.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING, Final

import zttp

from atoll.http.exchange import Exchange, PreparedHead
from atoll.http.fields import Headers, h2_fields
from atoll.http.pace import Outflow
from atoll.http.render import body_allowed
from atoll.http.trailers import allowed_trailers

if TYPE_CHECKING:
    from atoll.http.h2 import H2Connection

_NO_ERROR: Final = 0x0
_PROTOCOL_ERROR: Final = 0x1
_INTERNAL_ERROR: Final = 0x2
_CANCEL: Final = 0x8


class H2Stream:
    """A response on an HTTP/2 connection."""

    __slots__ = (
        "_connection",
        "_drained",
        "_gone",
        "_head",
        "_held",
        "_stream",
        "_upload",
        "exchange",
        "gone",
        "id",
        "length",
        "offers",
        "started",
        "tunnel",
    )
    protocol = "HTTP/2"

    def __init__(self, connection: H2Connection, stream_id: int, method: bytes) -> None:
        self._connection = connection
        self.id = stream_id
        self.gone = False
        self.started = False
        self.length: int | None = None  # of the request's body, as announced
        self.exchange: Exchange | None = None
        self.offers = False  # the client would go on with another protocol
        self.tunnel = False  # and it does
        self._head = method == b"HEAD"
        self._held: tuple[int, Headers] | None = None  # a head that may still turn out to be all there is
        self._stream = connection.engine.stream(stream_id)
        self._upload: Outflow | None = None
        self._drained: Callable[[], None] | None = None
        self._gone: Callable[[], None] | None = None

    @property
    def raw(self) -> bool:
        """Whether its body is another protocol's, or would be."""
        return self.offers or self.tunnel

    def inform(self, status: int, headers: Headers) -> None:
        """See `Stream.inform`."""
        if not (self.gone or self.started):
            self._guard(self._stream.send_informational, status, h2_fields(headers))
            self._connection.flush()

    def go_ahead(self) -> None:
        """Somebody begins to take the body: the client may send it (RFC 9110 §10.1.1), if it has not yet."""
        body = self.exchange.body if self.exchange is not None else None
        if body is not None and not body.received:
            self.inform(100, [])

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """See `Stream.start`. 101 is a 200 here, with the stream left open (RFC 8441 §5)."""
        if self.gone:
            return
        fields = h2_fields(headers)
        if status == 101:
            if not self.offers:
                self.abort()  # to what nobody has asked for
                return
            status, length, self.tunnel, self.offers = 200, None, True, False
        else:
            status = self._judged(status)
        self.started = True
        if length is not None and status >= 200 and status not in (204, 304):
            fields.append((b"content-length", b"%d" % length))
        end = length == 0 or not body_allowed(b"HEAD" if self._head else b"GET", status)
        if length is None and not end and not self.tunnel:
            self._held = status, fields
            asyncio.get_running_loop().call_soon(self._release)
            return
        self._guard(self._stream.send_response, status, fields, end)
        if end:
            self._head = True  # nothing more is written
        self._connection.flush()

    def _judged(self, status: int) -> int:
        """To an extended CONNECT any 2xx says that its protocol is spoken from here on (RFC 9110 §9.3.6)."""
        if self.offers:
            self.offers = False
            if self.exchange is not None:
                self.exchange.decline_upgrade()
            if 200 <= status < 300:
                return 502
        return status

    def _release(self) -> None:
        """The head waits no longer: more follows, or nobody knows yet."""
        held, self._held = self._held, None
        if held is not None and not self.gone:
            self._guard(self._stream.send_response, *held, False)
            self._connection.flush()

    def write(self, data: bytes) -> None:
        """See `Stream.write`."""
        if self.gone or self._head or not data:
            return
        if self._held is not None:
            self._release()
        self._connection.last_activity_s = time()
        self._connection.sent += len(data)
        self._connection.pieces += 1
        self._guard(self._stream.send_data, data)
        self._connection.flush()

    def file_pipe(self) -> None:
        """See `Stream.file_pipe`. Every byte goes into a frame."""

    def finish(self, trailers: Headers | None = None) -> None:
        """See `Stream.finish`. A head with nothing behind it ends its stream, as gRPC wants it."""
        if self.gone:
            return
        kept = h2_fields(allowed_trailers(trailers)) if trailers else []
        if self._held is not None:
            held, self._held = self._held, None
            self._guard(self._stream.send_response, *held, not kept)
            self._head = not kept
        if not self._head and not self.gone:
            self._guard(self._stream.end_message, kept)
        if not self.gone:
            self._end()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See `Stream.respond`. Prepared fields may carry their content-length already."""
        headers = h2_fields(headers)
        if self.gone:
            return
        self.started = True
        if self.offers:
            status = self._judged(status)
        send = self._stream
        try:
            if self._head or not body or status in (204, 304):
                send.send_response(status, headers, True)
            else:
                send.send_response(status, headers)
                self._connection.sent += len(body)
                send.send_data(body)
                send.end_message()
        except zttp.ProtocolError:
            self._reset()
        self._end()

    def respond_prepared(self, head: PreparedHead, more: Headers, body: bytes) -> None:
        """See `Stream.respond_prepared`."""
        length = [(b"content-length", b"%d" % len(body))] if head.status not in (204, 304) else []
        self.respond(head.status, [*head.fields, *more, *length], body)

    def abort(self) -> None:
        """See `Stream.abort`."""
        if not self.gone:
            self._held = None
            self._guard(self._stream.reset, _CANCEL)
            if not self.gone:
                self._end()

    def congested(self) -> bool:
        """See `Stream.congested`."""
        return self._connection.write_paused or self.pending() > self._connection.app.limits.buffered

    def pending(self) -> int:
        """Bytes that the client has made no room for."""
        return self._stream.pending_bytes or 0

    def reject(self) -> None:
        """The request turns out to be malformed."""
        with contextlib.suppress(zttp.ProtocolError):
            self._stream.reset(_PROTOCOL_ERROR)
        self.lost()
        self._connection.stream_done(self)

    def waiting(self) -> int:
        """Bytes of the request's body that nobody has taken."""
        body = self.exchange.body if self.exchange is not None else None
        return body.buffered if body is not None else 0

    def make_room(self) -> None:
        """The body has been looked at: see `RequestBody.on_flow`."""
        self._connection.make_room(self)

    def over(self) -> None:
        """The client has all of the response: it may stop sending what nobody reads (RFC 9113 §8.1)."""
        body = self.exchange.body if self.exchange is not None else None
        if body is not None and not body.complete and not body.failed:
            with contextlib.suppress(zttp.ProtocolError):
                self._stream.reset(_NO_ERROR)
            self._connection.flush()

    def check_upload(self, now_s: float) -> None:
        """End a request whose body drips in; once it is answered, both sides may take their time."""
        body = self.exchange.body if self.exchange is not None else None
        limits = self._connection.app.limits
        if body is None or body.complete or self.started or self.raw or body.full(limits.buffered):
            return
        if self._upload is None:
            self._upload = Outflow()
        if self._upload.stuck(1, now_s, limits.body_timeout_s, body.received):
            self._connection.app.refused(self._connection.info, 408, "body timeout")
            body.fail()
            self.respond(408, [(b"content-type", b"text/plain")], b"408 body timeout\n")

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

    def _guard(self, call: Callable[..., None], *args: object) -> None:
        try:
            call(*args)
        except zttp.ProtocolError:
            self._reset()
            self.lost()
            self._connection.stream_done(self)

    def _reset(self) -> None:
        """The engine refuses what we send: the client must not wait for the rest."""
        with contextlib.suppress(zttp.ProtocolError):
            self._stream.reset(_INTERNAL_ERROR)
        self._connection.flush()

    def _end(self) -> None:
        self.gone = True
        self._gone = self._drained = None
        self._connection.flush()
        self._connection.stream_done(self)
