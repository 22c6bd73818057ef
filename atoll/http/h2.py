"""HTTP/2 server connections on zttp (RFC 9113): one engine object, many streams, one write per batch.

The engine parses, keeps HPACK state and parks body bytes behind flow control. This shell maps its events to
exchanges, bounds what it does not bound (cancelled streams, control frames) and asks clients to open a new
connection (GOAWAY) before the engine's own limit of 4,096 requests is reached. An error of the engine costs
its connection and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from time import time
from typing import Final, cast

import zttp

from atoll.http.exchange import App, ConnectionInfo, Exchange, RequestBody
from atoll.http.fields import GOOD_TARGET, Headers, get, is_token, valid_host
from atoll.http.h2_credit import Credit
from atoll.http.h2_stream import H2Stream
from atoll.http.h2_watch import FrameWatch
from atoll.http.pace import Outflow
from atoll.http.trailers import allowed_trailers

_log = logging.getLogger("atoll.http")

_NO_ERROR: Final = 0x0
_PROTOCOL_ERROR: Final = 0x1
_FLOW_CONTROL_ERROR: Final = 0x3
_REFUSED_STREAM: Final = 0x7
_ENHANCE_YOUR_CALM: Final = 0xB
_LINGER_S: Final = 1.0

_Request = zttp.Request
_NEED_DATA = zttp.NEED_DATA


class H2Connection(asyncio.Protocol):
    """One client connection with up to `limits.h2_streams` open streams."""

    def __init__(self, app: App, info: ConnectionInfo) -> None:
        self.app = app
        self.info = info
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.last_activity_s = 0.0
        self.closing = False
        self.engine = zttp.Connection(zttp.SERVER, zttp.HTTP2)
        self._streams: dict[int, H2Stream] = {}
        self._parked: dict[int, H2Stream] = {}  # answered, but the client has not made room for all of it
        self._outflow = Outflow()
        self._watch = FrameWatch()
        self._look = self._watch.look
        self._credit = Credit()
        self._no_room = self._credit.closed
        self._heard = 0  # after the end
        self._last_stream = 0
        self._requests = 0
        self._most = app.limits.h2_requests
        self._room = app.limits.h2_streams
        self._turned: tuple[int, str] | None = None
        self._resets = 0
        self.sent = 0  # bytes of bodies
        self.pieces = 0  # that they were sent in
        self._goaway = False
        self._batch = False
        self._write_paused = False

    # --- transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.last_activity_s = time()
        self.engine.initiate_connection()
        self.flush()

    def data_received(self, data: bytes) -> None:
        if self.closing:
            self._hear(data)
            return
        now_s = time()
        self.last_activity_s = now_s
        self._batch = True
        try:
            if self._look(data):
                self._judge_frames()
            if not self.closing:
                self.engine.receive_data(data)
                self._read_events(now_s)
        except zttp.ProtocolError as error:
            self.app.refused(self.info, 400, str(error))
            self.closing = True
        except Exception:  # noqa: BLE001 - one connection's end: its streams are ended with it
            _log.exception("a connection of %s failed", self.info.client_ip)
            self.closing = True
        finally:
            self._batch = False
        self.flush()
        if self.closing:
            self._part()

    def _part(self) -> None:
        """Nothing more is said. A socket closed with something unread loses what is on its way."""
        self._batch = True  # for good: there is nothing to flush
        self._lose_streams()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        asyncio.get_running_loop().call_later(_LINGER_S, self.transport.close)

    def _hear(self, data: bytes) -> None:
        self._heard += len(data)
        if self._heard > self.app.limits.buffered:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self._lose_streams()

    def _lose_streams(self) -> None:
        streams, self._streams = self._streams, {}
        self._parked.clear()
        for stream in streams.values():
            stream.lost()

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._outflow.moved()
        self._wake()

    @property
    def write_paused(self) -> bool:
        """Whether the transport's buffer is above its high-water mark."""
        return self._write_paused

    @property
    def served(self) -> int:
        """See `Guarded`."""
        return self._requests

    def held(self) -> int:
        """See `Guarded`."""
        waiting = sum(s.waiting() for s in self._streams.values())
        return self.transport.get_write_buffer_size() + self._pending() + waiting

    def turn_away(self, status: int, reason: str) -> None:
        """See `Guarded`."""
        self._turned, self._room = (status, reason), 0

    def give_up(self, status: int, reason: str) -> None:
        """See `Guarded`. What is held is mostly what the client does not read: no word would arrive."""
        self.app.refused(self.info, status, reason)
        self.transport.abort()

    def idle(self) -> bool:
        """No stream is open."""
        return not self._streams and not self._parked

    def check_timeouts(self, now_s: float) -> None:
        """Called every few seconds: end a connection that idles or stalls."""
        quiet_s = now_s - self.last_activity_s
        limits = self.app.limits
        if self.app.draining:
            self.goaway()
        queued = self.transport.get_write_buffer_size() + self._pending()
        if self._outflow.stuck(queued, now_s, limits.body_timeout_s, self.sent - queued):
            self.transport.abort()
        elif self.closing:
            return
        elif self.idle():
            if quiet_s > limits.idle_timeout_s or self._goaway:
                self.transport.close()
        else:
            for stream in list(self._streams.values()):
                stream.check_upload(now_s)

    def _pending(self) -> int:
        """Bytes that the client has made no room for."""
        return sum(s.pending() for streams in (self._streams, self._parked) for s in streams.values())

    def goaway(self, error_code: int = 0) -> None:
        """No new streams, please; open ones are finished."""
        if not self._goaway:
            self._goaway = True
            self.engine.close(error_code, self._last_stream)
            self.flush()

    # --- events

    def _read_events(self, now_s: float) -> None:
        next_event = self.engine.next_event
        while True:
            event = next_event()
            if type(event) is _Request:
                self._on_request(event, now_s)
            elif event is _NEED_DATA:
                return
            elif type(event) is zttp.EndOfMessage:
                self._on_end(event.stream_id, event.trailers)
            elif type(event) is zttp.Data:
                self._on_data(event.stream_id, event.data)
            elif type(event) is zttp.RstStream:
                self._on_reset(event.stream_id)
            elif event is zttp.CONNECTION_CLOSED:
                self.closing = True
            elif type(event) is not zttp.GoAway and (self._streams or self._parked):
                self._wake()  # more room, perhaps
            if self.closing:
                return

    def _on_request(self, event: zttp.Request, now_s: float) -> None:
        stream_id = event.stream_id
        if (self._parked or self._goaway or len(self._streams) >= self._room) and self._refuses(stream_id):
            return
        self._last_stream = stream_id  # the engine lets no number go back
        self._requests += 1
        headers: Headers = event.headers  # type: ignore[assignment]  # a list, as always in HTTP/2
        method, target = event.method, event.target
        key = (target, tuple(headers)) if method == b"GET" else None
        entry = self.app.hot(key) if key is not None else None
        prepared = entry.h2(now_s) if entry is not None else None
        if entry is not None and prepared is not None:
            self._write_prepared(stream_id, *prepared)
            self.app.count_hot(self.info, entry, now_s)
        elif entry is not None and entry.replays:
            stream = self._streams[stream_id] = H2Stream(self, stream_id, b"GET")
            entry.replay(self.info, stream, now_s)
        else:
            self._answer(event, key, method, target, headers, now_s)
        if self._requests >= self._most:
            self.goaway()

    def _refuses(self, stream_id: int) -> bool:
        """Too much is open already, or waits for a client that does not read, or GOAWAY said: elsewhere."""
        limits, parked = self.app.limits, len(self._parked)
        late = self._goaway and stream_id > self._last_stream
        if self._turned is not None and not late:
            self._last_stream = stream_id
            retry = (b"retry-after", b"%d" % limits.retry_after_s)
            self._refuse(H2Stream(self, stream_id, b"GET"), *self._turned, retry)
            self.goaway()
            return True
        full = len(self._streams) + parked >= limits.h2_streams
        if not late and not full and not (parked and self._pending() > limits.h2_parked):
            return False
        self.engine.stream(stream_id).reset(_REFUSED_STREAM)
        self._count_reset()
        return True

    def _refuse(self, stream: H2Stream, status: int, reason: str, *fields: tuple[bytes, bytes]) -> None:
        self.app.refused(self.info, status, reason)
        stream.respond(status, [(b"content-type", b"text/plain"), *fields], reason.encode() + b"\n")

    def _answer(
        self, event: zttp.Request, key: object, method: bytes, target: bytes, headers: Headers, now_s: float
    ) -> None:
        stream = H2Stream(self, event.stream_id, method)
        refusal = self._refusal(event.protocol, method, target, headers)
        if refusal is not None:
            self._refuse(stream, *refusal)
            return
        authority, fields = _split_host(headers)
        exchange = Exchange(self.info, stream, method, authority, target, fields, now_s)
        stream.exchange = exchange
        self._streams[stream.id] = stream
        if event.protocol is not None:
            # RFC 8441 §5: what a GET with `Upgrade` is in HTTP/1.1.
            exchange.method, exchange.upgrade, stream.offers = b"GET", event.protocol.lower(), True
            self._expect_body(exchange, event)
        elif event.end_stream or method in (b"GET", b"HEAD"):
            exchange.raw = key
        else:
            self._expect_body(exchange, event)
        self.app.handle(exchange)

    def _expect_body(self, exchange: Exchange, event: zttp.Request) -> None:
        exchange.body = body = RequestBody()
        stream = self._streams[event.stream_id]
        length = get(exchange.headers, b"content-length")
        if length is not None and not stream.offers:
            stream.length = int(length)  # the engine lets no other values through
        body.on_flow = stream.make_room
        if event.end_stream:
            body.complete = True
        elif get(exchange.headers, b"expect") is not None:
            body.on_wanted = stream.go_ahead

    def _write_prepared(self, stream_id: int, fields: Headers, body: bytes) -> None:
        """A response that is there as a whole: no stream of ours is made for it unless it has to wait."""
        stream = self.engine.stream(stream_id)
        if body:
            stream.send_response(200, fields)
            stream.send_data(body)
            stream.end_message()
        else:
            stream.send_response(200, fields, True)
        self.sent += len(body)
        if stream.pending_bytes:
            self._parked[stream_id] = H2Stream(self, stream_id, b"GET")

    def _refusal(
        self, protocol: bytes | None, method: bytes, target: bytes, headers: Headers
    ) -> tuple[int, str] | None:
        limits = self.app.limits
        if target.translate(None, GOOD_TARGET):
            return 400, "invalid byte in the target"
        if len(target) > limits.target:
            return 414, "target too long"
        if len(headers) > limits.fields:
            return 431, "too many fields"
        if sum(len(name) + len(value) + 32 for name, value in headers) > limits.head:
            return 431, "request head too large"
        if protocol is not None and not is_token(protocol):
            return 400, "protocol is no token"
        if (method == b"CONNECT" and protocol is None) or not _is_path(method, target):
            return 400, "target is not a path"
        hosts = [value for name, value in headers if name == b"host"]
        if len(set(hosts)) != 1 or not valid_host(hosts[0]):
            return 400, "authority is missing, ambiguous or invalid"
        expected = get(headers, b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            return 417, "an expectation that nobody here knows"
        return None

    def _on_data(self, stream_id: int, data: bytes) -> None:
        stream = self._streams.get(stream_id)
        body = stream.exchange.body if stream is not None and stream.exchange is not None else None
        if stream is None or body is None:
            return
        if stream.length is not None and body.received + len(data) > stream.length:
            stream.reject()  # RFC 9113 §8.1.1: nobody shall see more than was announced
            return
        if body.received + len(data) > self.app.limits.body and not stream.raw:
            body.fail()
            if not stream.started:
                stream.respond(413, [(b"content-type", b"text/plain")], b"body too large\n")
            stream.abort()
            return
        body.feed(data)
        if body.buffered or body.blocked:
            self.make_room(stream)

    def make_room(self, stream: H2Stream) -> None:
        """Somebody takes a body, or does not: the client sends more of it, or waits. Others do not."""
        body = stream.exchange.body if stream.exchange is not None else None
        if body is None or self.closing:
            return
        credit = self._credit
        if body.full(self.app.limits.buffered):
            credit.close(stream.id)
            if credit.overdrawn(stream.id):
                self._end_with(_FLOW_CONTROL_ERROR, "sends more than it has room for")
        elif stream.id in credit.closed:
            self.transport.write(credit.open(stream.id))
        self._weigh()

    def _weigh(self) -> None:
        """All bodies together: what waits for its takers may be so much and no more."""
        bodies = [s.exchange.body for s in self._streams.values() if s.exchange is not None]
        waiting = sum(body.buffered for body in bodies if body is not None)
        if waiting > self.app.limits.h2_uploads:
            self._credit.close(0)
            if self._credit.overdrawn(0):
                self._end_with(_FLOW_CONTROL_ERROR, "sends more than it has room for")
        elif 0 in self._credit.closed:
            self.transport.write(self._credit.open(0))

    def _on_end(self, stream_id: int, trailers: Headers) -> None:
        stream = self._streams.get(stream_id)
        if stream is not None and stream.exchange is not None and stream.exchange.body is not None:
            if trailers:
                stream.exchange.body.trailers = allowed_trailers(trailers)
            stream.exchange.body.end()

    def _on_reset(self, stream_id: int) -> None:
        """By the client, or by the engine for what the client did (CVE-2023-44487, CVE-2025-8671)."""
        self._parked.pop(stream_id, None)
        self._credit.forget(stream_id)
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            stream.lost()
        self._count_reset()

    def _count_reset(self) -> None:
        self._resets += 1
        if self._resets > self.app.limits.h2_resets:
            self._end_with(_ENHANCE_YOUR_CALM, "rapid reset", 429)

    def _judge_frames(self) -> None:
        """A request explains ten frames that bring nothing, a piece of a body two, and 2 KiB another one."""
        if self._watch.fault:
            self._end_with(_PROTOCOL_ERROR, self._watch.fault)
            return
        allowed = self.app.limits.h2_control + 10 * self._requests + 2 * self.pieces + self.sent // 2048
        if self._watch.idle_frames > allowed:
            self._end_with(_ENHANCE_YOUR_CALM, "control frame flood", 429)

    def _end_with(self, error_code: int, reason: str, status: int = 400) -> None:
        self.app.refused(self.info, status, reason)
        self._goaway = False
        self.goaway(error_code)
        self.closing = True
        if not self._batch:
            self._part()

    # --- writing

    def flush(self) -> None:
        """Write what the engine has queued, once a batch."""
        if self._batch:
            return
        data = self.engine.data_to_send()
        if data:
            if self._no_room:
                data = self._credit.filter(data)
            self.transport.write(data)

    def stream_done(self, stream: H2Stream) -> None:
        """A response is complete; its last bytes may still wait for room."""
        self._streams.pop(stream.id, None)
        self._credit.forget(stream.id)
        if stream.pending():
            self._parked[stream.id] = stream
        else:
            stream.over()
        if self._no_room and not self.closing:
            self._weigh()
        if self._goaway:
            self._leave()

    def _leave(self) -> None:
        """After GOAWAY: close when all is answered and sent."""
        if self.idle() and not self.engine.has_pending_send():
            self.flush()
            if not self.closing:
                self.closing = True
                if not self._batch:
                    self._part()

    def _wake(self) -> None:
        for stream in list(self._streams.values()):
            if not stream.congested():
                stream.drained()
        if self._parked:
            parked, self._parked = self._parked, {}
            for number, stream in parked.items():
                if stream.pending():
                    self._parked[number] = stream
                else:
                    stream.over()
            if self._goaway:
                self._leave()


def _is_path(method: bytes, target: bytes) -> bool:
    return target.startswith(b"/") or (target == b"*" and method == b"OPTIONS")


def _split_host(headers: Headers) -> tuple[bytes, Headers]:
    host = b""
    fields: Headers = []
    cookies: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            host = value
        elif name == b"cookie":
            cookies.append(value)  # RFC 9113 §8.2.3: crumbs are joined before they leave HTTP/2
        else:
            fields.append((name, value))
    if cookies:
        fields.append((b"cookie", b"; ".join(cookies)))
    return host.lower(), fields
