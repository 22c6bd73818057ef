"""One HTTP/2 connection to an origin: many calls at once, each with a window of its own (RFC 9113).

A call that is paused gets no more than its window; the others go on. The connection's own window is given
back as data arrives, so nobody who reads slowly holds it up. What is uploaded waits here until the origin's
windows have room, and its client is made to wait. No pushes, no priorities, no dynamic header table: equal
header blocks mean equal heads, and those that were read before are looked up.

A malformed response costs its call, a broken frame or block the connection.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, Protocol, cast

from atoll.errors import RemoteError
from atoll.http import h2_wire as h2
from atoll.http.call import Call, Calls
from atoll.http.fields import Headers
from atoll.http.h2_messages import Head, read_head, request_fields, wrong_with
from atoll.http.hpack import HpackError, decode, encode
from atoll.http.trailers import allowed_trailers

_WINDOW: Final = 512 * 1024  # of a stream: what a paused call may still be sent
_CONNECTION_WINDOW: Final = 16 * 1024 * 1024
_UPLOAD: Final = 64 * 1024  # waits here for windows before its client has to wait
_MOST_STREAMS: Final = 100  # at once, whatever the origin would take
_MOST_REQUESTS: Final = 1_000_000
_MAX_BLOCK: Final = 64 * 1024
_MAX_FIELDS: Final = 200
_MAX_KNOWN: Final = 256
_MOST_IDLE_FRAMES: Final = 1000  # frames in a row that bring no response any further
_PING_S: Final = 5.0  # of silence while somebody waits, and then again for the answer
_SETTINGS: Final = {
    h2.HEADER_TABLE_SIZE: 0,
    h2.ENABLE_PUSH: 0,
    h2.INITIAL_WINDOW_SIZE: _WINDOW,
    h2.MAX_HEADER_LIST_SIZE: _MAX_BLOCK,
}


class H2Pool(Calls, Protocol):
    """What a connection needs of its pool."""

    def shared_room(self, connection: H2Upstream) -> None:
        """`connection` may have room for another call."""

    def shared_lost(self, connection: H2Upstream) -> None:
        """`connection` takes no more calls."""

    def retry(self, call: Call) -> None:
        """`call` has certainly not been acted on."""


class _Stream:
    """A call's way through the connection."""

    __slots__ = (
        "call", "ended", "finishing", "got", "held", "id", "length", "outgoing", "owed", "window",
    )  # fmt: skip

    def __init__(self, number: int, call: Call, window: int) -> None:
        self.id = number
        self.call = call
        self.window = window  # what it may send
        self.outgoing = bytearray()
        self.finishing = False  # the request's body is complete
        self.ended = False  # all of the request has been sent
        self.owed = 0  # bytes that were received and not given back
        self.held = False
        self.length: int | None = None  # of the response's body, if it was said
        self.got = 0


class H2Upstream(asyncio.Protocol):
    """One connection."""

    def __init__(self, pool: H2Pool, secure: bool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.born_s = self.idle_since_s = monotonic()
        self.worn = False  # no more calls; it closes when it has none
        self._scheme = b"https" if secure else b"http"
        self._streams: dict[int, _Stream] = {}
        self._by_call: dict[Call, _Stream] = {}
        self._next_id = 1
        self._reader = h2.FrameReader()
        self._window = h2.DEFAULT_WINDOW
        self._stream_window = h2.DEFAULT_WINDOW
        self._frame_size = h2.FRAME_SIZE
        self._most_streams = _MOST_STREAMS
        self._owed = 0
        self._clogged = False
        self.greeted = False  # the origin has said its settings: until then it gets one call
        self._answered = False  # it has answered something
        self._useless = 0
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags and what there is of a block
        self._known: dict[bytes, Head] = {}
        self._heard_s = self._pinged_s = 0.0

    # --- for the pool and the calls

    def room(self) -> bool:
        """Whether it takes another call now."""
        return not self.worn and len(self._streams) < (self._most_streams if self.greeted else 1)

    @property
    def busy(self) -> bool:
        """Whether it has calls."""
        return bool(self._streams)

    def begin(self, call: Call) -> None:
        """Send `call`'s request."""
        stream = _Stream(self._next_id, call, self._stream_window)
        self._next_id += 2
        self._streams[stream.id] = self._by_call[call] = stream
        call.connection = self
        if self._next_id > 2 * _MOST_REQUESTS:
            self._wear()
        head, _, rest = call.request.partition(b"\r\n\r\n")
        more = call.body is not None or bool(rest)
        block = encode(request_fields(head, self._scheme))
        self.transport.write(h2.header_frames(stream.id, block, end_stream=not more))
        stream.ended = not more
        if len(self._streams) == 1:
            self._heard_s = monotonic()  # nothing was expected before
        if rest:
            stream.outgoing += rest
            stream.finishing = True
            self._flush(stream)
        elif call.body is not None:
            call.body.attach(call)

    def drop(self, call: Call) -> None:
        """See `Carrier`."""
        stream = self._by_call.get(call)
        if stream is not None:
            self._reset(stream, h2.CANCEL)

    def hold(self, call: Call, held: bool) -> None:
        """See `Carrier`."""
        stream = self._by_call.get(call)
        if stream is not None:
            stream.held = held
            self._give_back(stream)

    def send(self, call: Call, data: bytes) -> None:
        """See `Carrier`."""
        stream = self._by_call.get(call)
        if stream is not None:
            stream.outgoing += data
            self._flush(stream)

    def send_end(self, call: Call) -> None:
        """See `Carrier`."""
        stream = self._by_call.get(call)
        if stream is not None:
            stream.finishing = True
            self._flush(stream)

    def look(self, now_s: float) -> None:
        """Called now and then: is there still somebody at the other end?"""
        if not self._streams or self.transport.is_closing():
            return
        if self._pinged_s > self._heard_s:
            if now_s - self._pinged_s > _PING_S:
                self._end(h2.NO_ERROR, "the connection has died")
        elif now_s - self._heard_s > _PING_S:
            self._pinged_s = now_s
            self.transport.write(h2.frame(h2.PING, 0, 0, b"alive?!\n"))

    def close(self) -> None:
        """Take no more calls, and close when there are none."""
        self._wear()

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        more = h2.window_update(0, _CONNECTION_WINDOW - h2.DEFAULT_WINDOW)
        self.transport.write(h2.PREFACE + h2.settings(_SETTINGS) + more)

    def data_received(self, data: bytes) -> None:
        self._heard_s = monotonic()
        try:
            for frame in self._reader.feed(data):
                self._take(frame)
                if self.transport.is_closing():
                    return
        except h2.H2Error as error:
            self._end(error.code, f"broken HTTP/2: {error}")
        except HpackError as error:
            self._end(h2.COMPRESSION_ERROR, f"broken HTTP/2: {error}")

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._clogged = True
        for stream in [*self._streams.values()]:
            self._press(stream)

    def resume_writing(self) -> None:
        self._clogged = False
        self._flush_all()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave_all("connection closed before the response was complete")

    # --- frames

    def _take(self, frame: h2.Frame) -> None:
        if not self.greeted:
            if frame.kind != h2.SETTINGS or frame.flags & h2.ACK:
                raise h2.H2Error(h2.PROTOCOL_ERROR, "no settings at first")
            self.greeted = True
        if self._block is not None:
            if frame.kind != h2.CONTINUATION or frame.stream != self._block[0]:
                raise h2.H2Error(h2.PROTOCOL_ERROR, "a header block with something in it")
            self._continue(frame)
        elif frame.kind == h2.DATA:
            self._take_data(frame)
        elif frame.kind == h2.HEADERS:
            self._block = (frame.stream, frame.flags, bytearray())
            self._continue(frame)
        else:
            self._useless += 1
            if self._useless > _MOST_IDLE_FRAMES:
                raise h2.H2Error(h2.ENHANCE_YOUR_CALM, "nothing but control frames")
            self._take_control(frame)

    def _take_control(self, frame: h2.Frame) -> None:
        kind, payload = frame.kind, frame.payload
        if kind == h2.SETTINGS:
            self._take_settings(frame)
        elif kind == h2.PING:
            if not frame.flags & h2.ACK:
                self.transport.write(h2.frame(h2.PING, h2.ACK, 0, payload))
        elif kind == h2.WINDOW_UPDATE:
            self._take_window(frame)
        elif kind == h2.RST_STREAM:
            self._take_reset(frame)
        elif kind == h2.GOAWAY:
            self._take_goaway(payload)
        elif kind in (h2.PUSH_PROMISE, h2.CONTINUATION):
            raise h2.H2Error(h2.PROTOCOL_ERROR, f"a frame of kind {kind} that was not asked for")

    def _take_settings(self, frame: h2.Frame) -> None:
        if frame.flags & h2.ACK:
            return
        for name, value in h2.read_settings(frame.payload):
            if name == h2.MAX_CONCURRENT_STREAMS:
                self._most_streams = min(value, _MOST_STREAMS)
            elif name == h2.MAX_FRAME_SIZE:
                self._frame_size = min(value, 4 * h2.FRAME_SIZE)
            elif name == h2.INITIAL_WINDOW_SIZE:
                change, self._stream_window = value - self._stream_window, value
                for stream in self._streams.values():
                    stream.window += change  # it may become negative (§6.9.2)
                    if stream.window > h2.MOST_WINDOW:
                        raise h2.H2Error(h2.FLOW_CONTROL_ERROR, "a window that is too large")
        self.transport.write(h2.frame(h2.SETTINGS, h2.ACK, 0))
        self._flush_all()
        self.pool.shared_room(self)

    def _take_window(self, frame: h2.Frame) -> None:
        increment = int.from_bytes(frame.payload, "big") & h2.MOST_WINDOW
        if not frame.stream:
            self._window += increment
            if not increment or self._window > h2.MOST_WINDOW:
                raise h2.H2Error(h2.FLOW_CONTROL_ERROR, "a window that is none")
            self._flush_all()
            return
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._must_have_been(frame.stream)
            return
        stream.window += increment
        if not increment or stream.window > h2.MOST_WINDOW:
            self._fail(stream, "broken HTTP/2: a window that is none", h2.FLOW_CONTROL_ERROR)
        else:
            self._flush(stream)

    def _take_reset(self, frame: h2.Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._must_have_been(frame.stream)
            return
        code = int.from_bytes(frame.payload, "big")
        stream.ended = True  # nothing has to be said any more
        if code == h2.REFUSED_STREAM and self._untouched(stream):
            self._again(stream)
        else:
            self._fail(stream, f"the origin reset the stream ({code})")

    def _take_goaway(self, payload: bytes) -> None:
        """It takes no more requests; those behind the last one it names it has not looked at (§6.8)."""
        if len(payload) < 8:
            raise h2.H2Error(h2.FRAME_SIZE_ERROR, "a GOAWAY that is cut short")
        last = int.from_bytes(payload[:4], "big") & h2.MOST_WINDOW
        self.worn = True
        self.pool.shared_lost(self)
        for stream in [stream for stream in self._streams.values() if stream.id > last]:
            if self._untouched(stream):
                self._again(stream)
            else:
                self._fail(stream, "the origin goes away")
        self._wear()

    def _take_data(self, frame: h2.Frame) -> None:
        self._owed += frame.size
        if self._owed >= _CONNECTION_WINDOW // 4:
            self.transport.write(h2.window_update(0, self._owed))
            self._owed = 0
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._must_have_been(frame.stream)
            return
        if not stream.call.started:
            self._fail(stream, "malformed response: content before its head", h2.PROTOCOL_ERROR)
            return
        if frame.payload:
            self._useless = 0
        else:
            self._useless += 1
        stream.owed += frame.size
        stream.got += len(frame.payload)
        if stream.owed > _WINDOW:
            self._fail(stream, "broken HTTP/2: more than the window", h2.FLOW_CONTROL_ERROR)
            return
        if stream.length is not None and stream.got > stream.length:
            self._fail(stream, "malformed response: longer than it says", h2.PROTOCOL_ERROR)
            return
        stream.call.wait()
        if frame.payload:
            stream.call.data(frame.payload)
        if stream.call.connection is not self:
            return
        if frame.flags & h2.END_STREAM:
            self._complete(stream, [])
        else:
            self._give_back(stream)

    def _continue(self, frame: h2.Frame) -> None:
        """A piece of a header block; nothing else may come in between (§4.3)."""
        assert self._block is not None
        number, flags, block = self._block
        self._useless += 1
        block += frame.payload
        if len(block) > _MAX_BLOCK or self._useless > _MOST_IDLE_FRAMES:
            raise h2.H2Error(h2.ENHANCE_YOUR_CALM, "response head too large")
        if frame.flags & h2.END_HEADERS:
            self._block = None
            self._useless = 0
            self._take_block(number, bool(flags & h2.END_STREAM), bytes(block))

    def _take_block(self, number: int, end: bool, block: bytes) -> None:
        stream = self._streams.get(number)
        if stream is None:
            self._must_have_been(number)
            decode(block, _MAX_FIELDS)  # nobody wants it, but it may be broken
            return
        if stream.call.started:
            trailers = decode(block, _MAX_FIELDS)
            why = wrong_with(trailers) if end else "trailers before the end"
            if why:
                self._fail(stream, f"malformed response: {why}", h2.PROTOCOL_ERROR)
            else:
                self._complete(stream, allowed_trailers(trailers))
            return
        head = self._known.get(block)
        if head is None:
            read = read_head(decode(block, _MAX_FIELDS))
            if isinstance(read, str):
                self._fail(stream, f"malformed response: {read}", h2.PROTOCOL_ERROR)
                return
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            head = self._known[block] = read
        self._take_head(stream, head, end)

    def _take_head(self, stream: _Stream, head: Head, end: bool) -> None:
        call, status = stream.call, head.status
        call.wait()
        if status < 200:
            if end or status == 101:
                self._fail(stream, f"malformed response: {status} at the end", h2.PROTOCOL_ERROR)
            elif status != 100:
                call.informational(status, head.headers)
            return
        self._answered = True
        call.begun()
        stream.length = 0 if call.head_only or status in (204, 304) else head.length
        call.head(status, head.headers)
        if end and call.connection is self:
            self._complete(stream, [])

    def _must_have_been(self, number: int) -> None:
        """Frames for streams that have ended are late, those for others an error (§5.1)."""
        if number >= self._next_id or number % 2 == 0:
            raise h2.H2Error(h2.PROTOCOL_ERROR, f"a frame on stream {number}, which nobody opened")

    # --- windows

    def _give_back(self, stream: _Stream) -> None:
        if not stream.held and stream.owed >= _WINDOW // 2 and not self.transport.is_closing():
            self.transport.write(h2.window_update(stream.id, stream.owed))
            stream.owed = 0

    def _flush(self, stream: _Stream) -> None:
        """Send what the windows have room for, and then the end."""
        if self.transport.is_closing():
            return
        outgoing = stream.outgoing
        while outgoing and not self._clogged:
            size = min(len(outgoing), stream.window, self._window, self._frame_size)
            if size <= 0:
                break
            piece = bytes(outgoing[:size])
            del outgoing[:size]
            stream.window -= size
            self._window -= size
            self.transport.write(h2.frame(h2.DATA, 0, stream.id, piece))
        if stream.finishing and not outgoing and not stream.ended:
            stream.ended = True
            body = stream.call.body
            if body is not None and body.trailers:
                self.transport.write(h2.header_frames(stream.id, encode(body.trailers), end_stream=True))
            else:
                self.transport.write(h2.frame(h2.DATA, h2.END_STREAM, stream.id))
        self._press(stream)

    def _flush_all(self) -> None:
        """The one that was served first comes last next time."""
        for stream in [*self._streams.values()]:
            if stream.outgoing or stream.finishing or stream.call.body is not None:
                self._flush(stream)
        if self._window > 0 or len(self._streams) < 2:
            return
        first = next(iter(self._streams))
        self._streams[first] = self._streams.pop(first)

    def _press(self, stream: _Stream) -> None:
        """Make the client wait, or go on."""
        body = stream.call.body
        if body is None or stream.ended:
            return
        full = self._clogged or len(stream.outgoing) > _UPLOAD
        if full != body.blocked:
            body.block(full)
            stream.call.wait()

    # --- ends

    def _complete(self, stream: _Stream, trailers: Headers) -> None:
        if stream.length is not None and stream.got != stream.length:
            self._fail(stream, "malformed response: shorter than it says", h2.PROTOCOL_ERROR)
            return
        call = stream.call
        if stream.ended:
            self._forget(stream)
        else:
            self._reset(stream, h2.NO_ERROR)  # the rest of the request is of no use (§8.1)
        self.pool.active.discard(call)
        call.connection = None
        if trailers:
            call.trailers = trailers
        call.end()

    def _fail(self, stream: _Stream, why: str, code: int = h2.CANCEL) -> None:
        self._reset(stream, code)
        call = stream.call
        call.connection = None
        self.pool.active.discard(call)
        call.failed(RemoteError(why, 502))

    def _again(self, stream: _Stream) -> None:
        self._forget(stream)
        stream.call.connection = None
        self.pool.retry(stream.call)

    def _untouched(self, stream: _Stream) -> bool:
        """Whether its request can be sent again just as it was."""
        call = stream.call
        return call.body is None and not (call.started or call.retried)

    def _reset(self, stream: _Stream, code: int) -> None:
        if not self.transport.is_closing() and not (stream.ended and code == h2.NO_ERROR):
            self.transport.write(h2.reset(stream.id, code))
        self._forget(stream)

    def _forget(self, stream: _Stream) -> None:
        self._streams.pop(stream.id, None)
        self._by_call.pop(stream.call, None)
        body = stream.call.body
        if body is not None and body.blocked:
            body.block(False)
        if not self._streams:
            self.idle_since_s = monotonic()
        if self.worn:
            self._wear()
        else:
            self.pool.shared_room(self)

    def _wear(self) -> None:
        if not self.worn:
            self.worn = True
            self.pool.shared_lost(self)
        if not self._streams and not self.transport.is_closing():
            self.transport.write(h2.goaway(0, h2.NO_ERROR))
            self.transport.close()

    def _end(self, code: int, why: str) -> None:
        if not self.transport.is_closing():
            self.transport.write(h2.goaway(0, code))
            self.transport.close()
        self._leave_all(why)

    def _leave_all(self, why: str) -> None:
        """The connection is gone: its calls go elsewhere, if they may."""
        if not self.worn:
            self.worn = True
            self.pool.shared_lost(self)
        streams = [*self._streams.values()]
        self._streams.clear()
        self._by_call.clear()
        for stream in streams:
            call = stream.call
            call.connection = None
            if self._answered and call.repeatable and self._untouched(stream):
                self.pool.retry(call)
            else:
                self.pool.active.discard(call)
                call.failed(RemoteError(why, 502))
