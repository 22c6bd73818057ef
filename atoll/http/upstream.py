"""HTTP/1.1 towards origins and function hosts: pooled connections, callbacks instead of awaits.

A call writes its request and takes what comes back in the reader's own turn of the loop: that is what keeps
a function's request cheap. `ResponseReader` is the call for code that would rather await. A pooled connection
that dies before it answers is replaced once, for requests without a body; every other failure is the
caller's to judge. Timeouts are looked at ten times a second by one timer per pool that has calls.

A response whose head is, byte for byte, one that the parser has read before from the same address means
the same: it is looked up instead of parsed, if the whole response came in one piece.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from time import monotonic, time
from typing import Final, cast

import httptools

from atoll.errors import RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers, get, strip_hop_by_hop

REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
_SWEEP_S: Final = 0.1
_IDLE_S: Final = 30.0
_MAX_IDLE: Final = 64
_MAX_HEAD: Final = 64 * 1024
_MAX_FIELDS: Final = 200
_BUFFER: Final = 256 * 1024
_MAX_KNOWN_HEADS: Final = 256
_HEAD_END: Final = b"\r\n\r\n"

Address = str | tuple[str, int]
"""A unix socket's path, or host and port."""


class ResponseHead:
    """A response's head as parsed: `headers` have lowercase names and no hop-by-hop fields.

    `length` is the body's, None when only its end tells. `prepared` is for whoever makes something of the
    head that is worth keeping with it.
    """

    __slots__ = ("headers", "length", "prepared", "status")

    def __init__(self, status: int, headers: Headers, length: int | None) -> None:
        self.status = status
        self.headers = headers
        self.length = length
        self.prepared: object | None = None


class Call:
    """One request on its way, and what takes its response: subclasses say what with.

    `request` is a whole head, with `Transfer-Encoding: chunked` in it when there is a body. `cancel` ends the
    call without a word.
    """

    __slots__ = (
        "body",
        "connection",
        "deadline_s",
        "head_only",
        "pool",
        "repeatable",
        "request",
        "retried",
        "started",
        "timeout_s",
    )

    def __init__(
        self, pool: UpstreamPool, request: bytes, body: RequestBody | None, timeout_s: float
    ) -> None:
        self.pool = pool
        self.request = request
        self.body = body
        self.timeout_s = timeout_s
        self.deadline_s = 0.0
        self.head_only = request.startswith(b"HEAD ")
        # RFC 9110 §9.2.2: who knows whether the origin acted on a POST before it died?
        self.repeatable = body is None and request.partition(b" ")[0] in REPEATABLE
        self.retried = False
        self.started = False
        self.connection: _Connection | None = None

    # --- the response, as it arrives

    def head(self, status: int, headers: Headers) -> None:
        """Final status and fields (lowercase names, hop-by-hop ones removed)."""
        raise NotImplementedError

    def data(self, data: bytes) -> None:
        """A piece of the body."""
        raise NotImplementedError

    def end(self) -> None:
        """The body is complete."""
        raise NotImplementedError

    def failed(self, error: RemoteError) -> None:
        """No response, or no more of it. Nothing follows."""
        raise NotImplementedError

    def whole(self, head: ResponseHead, body: bytes) -> None:
        """All of it at once."""
        self.head(head.status, head.headers)
        if body:
            self.data(body)
        self.end()

    # --- control

    def cancel(self) -> None:
        """The answer is not wanted any more."""
        self.pool.active.discard(self)
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.call = None
            connection.transport.abort()

    def pause(self) -> None:
        """Read no more for now."""
        if self.connection is not None:
            self.deadline_s = inf  # it is not the origin that keeps us waiting
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self.connection is not None:
            self.wait()
            self.connection.transport.resume_reading()

    def wait(self) -> None:
        """From now on it is the other side that is waited for, unless the request is still on its way."""
        waiting = self.body is None or self.body.complete or self.body.blocked
        self.deadline_s = self.pool.now_s + self.timeout_s if waiting else inf

    # --- the request's body, as it arrives from the client

    def body_data(self, data: bytes) -> None:
        """See `BodySink`."""
        if self.connection is not None:
            self.connection.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def body_end(self) -> None:
        """See `BodySink`."""
        if self.connection is not None:
            self.wait()
            self.connection.transport.write(b"0\r\n\r\n")

    def body_failed(self) -> None:
        """See `BodySink`."""
        if self in self.pool.active:
            self.cancel()
            self.failed(RemoteError("the request was cut short", 400))


class UpstreamPool:
    """Connections to one address."""

    def __init__(self, address: Address, connect_timeout_s: float = 1.0) -> None:
        self.address = address
        self.connect_timeout_s = connect_timeout_s
        self.active: set[Call] = set()
        self.heads: dict[bytes, ResponseHead] = {}
        self.now_s = 0.0  # monotonic, as of the last look: at most `_SWEEP_S` old while there are calls
        self._idle: deque[_Connection] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sweeping = False
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def start(self, call: Call) -> None:
        """Send `call`'s request."""
        self.active.add(call)
        if not self._sweeping:
            self._look_often()
        call.wait()
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                connection.begin(call)
                return
        self._connect(call)

    def close(self) -> None:
        """Close idle connections now, the others when their call ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().transport.close()
        if self._timer is not None and not self.active:
            self._timer.cancel()

    def release(self, connection: _Connection) -> None:
        """`connection` is free for the next call."""
        if self._closed or len(self._idle) >= _MAX_IDLE:
            connection.transport.close()
        else:
            connection.transport.resume_reading()  # the last call may have ended while it was paused
            connection.idle_since_s = self.now_s
            self._idle.append(connection)

    def forget(self, connection: _Connection) -> None:
        """`connection` is closed."""
        if connection in self._idle:
            self._idle.remove(connection)

    def retry(self, call: Call) -> None:
        """A reused connection died before it answered: once more on a new one."""
        call.retried = True
        self._connect(call)

    def remember(self, raw: bytes, head: ResponseHead) -> None:
        """The parser made `head` of `raw`."""
        if len(self.heads) >= _MAX_KNOWN_HEADS:
            self.heads.clear()
        self.heads[raw] = head

    def _connect(self, call: Call) -> None:
        task = self._loop.create_task(self._open(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self, call: Call) -> None:
        def factory() -> _Connection:
            return _Connection(self)

        try:
            async with asyncio.timeout(min(self.connect_timeout_s, call.timeout_s)):
                if isinstance(self.address, str):
                    _, connection = await self._loop.create_unix_connection(factory, self.address)
                else:
                    _, connection = await self._loop.create_connection(factory, *self.address)
        except TimeoutError:
            self._fail(call, RemoteError("connect timeout", 504))
            return
        except OSError as error:
            self._fail(call, RemoteError(f"connect failed: {error.strerror or error}", 502))
            return
        if call not in self.active:
            self.release(connection)
            return
        connection.begin(call)

    def _fail(self, call: Call, error: RemoteError) -> None:
        if call in self.active:
            self.active.discard(call)
            call.failed(error)

    def _look_often(self) -> None:
        """There are calls whose deadlines matter: the timer that only ends idle connections is too slow."""
        if self._timer is not None:
            self._timer.cancel()
        self._sweeping = True
        self.now_s = monotonic()
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now_s = self.now_s = monotonic()
        for call in [call for call in self.active if call.deadline_s < now_s]:
            call.cancel()
            call.failed(RemoteError("response timeout", 504))
        while self._idle and now_s - self._idle[0].idle_since_s > _IDLE_S:
            self._idle.popleft().transport.close()
        self._timer = None
        self._sweeping = bool(self.active)
        if self.active or self._idle:
            self._timer = self._loop.call_later(_SWEEP_S if self.active else _IDLE_S, self._sweep)


class _Connection(asyncio.Protocol):
    """One connection; `call` is what it is answering."""

    def __init__(self, pool: UpstreamPool) -> None:
        self.pool = pool
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.call: Call | None = None
        self.idle_since_s = 0.0
        self._used = False
        self._parser = httptools.HttpResponseParser(self)
        self._inside = False  # the parser is inside a response
        self._headers: Headers = []
        self._size = 0
        self._head: ResponseHead | None = None
        self._until_close = False
        self._reusable = False

    def begin(self, call: Call) -> None:
        """Send `call`'s request."""
        self.call = call
        call.connection = self
        self.transport.write(call.request)
        if call.body is not None:
            call.body.attach(call)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        call = self.call
        if call is None:
            self.transport.abort()  # an answer to nothing
            return
        if self._inside:
            call.wait()
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

    def _feed(self, data: bytes) -> ResponseHead | None:
        """Parse; the response's head if it has been read."""
        self._size += len(data)
        if self._size > _MAX_HEAD + len(data):
            # Of fields, trailers and chunks' extensions: the parser keeps one until it is complete.
            self._broken("response head too large" if self._head is None else "too much around the content")
            return None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._broken("unexpected upgrade")
        except httptools.HttpParserError as error:
            self._broken(f"malformed response: {error}")
        if self._inside and self.call is None:
            self._inside = False
            self._settle(self._reusable and not self._surplus)
        return self._head

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

    def _broken(self, reason: str) -> None:
        call, self.call = self.call, None
        self.transport.abort()
        if call is not None:
            call.connection = None
            self.pool.active.discard(call)
            call.failed(RemoteError(reason, 502))

    # --- parser callbacks

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
        if 100 <= status < 200:
            self._headers = []
            return
        if not 200 <= status <= 599:
            raise ValueError(f"status {status}")
        call.started = True
        length, chunked = _framing(call, status, headers)
        self._until_close = length is None and not chunked
        self._head = ResponseHead(status, strip_hop_by_hop(headers), length)
        call.head(status, self._head.headers)
        if call.head_only and self.call is call:
            self._take_leave(call)
            call.end()

    def on_body(self, body: bytes) -> None:
        self._size = 0
        if self.call is not None:
            self.call.data(body)

    def on_message_complete(self) -> None:
        call = self.call
        if call is not None and call.started:
            whole = call.body is None or call.body.complete
            self._reusable = whole and self._parser.should_keep_alive() and not self._until_close
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


class ResponseReader(Call):
    """A call to await: the head first, then pieces of the body with back-pressure."""

    def __init__(
        self, pool: UpstreamPool, request: bytes, body: RequestBody | None, timeout_s: float
    ) -> None:
        super().__init__(pool, request, body, timeout_s)
        self.status = 0
        self.headers: Headers = []
        self.received_s = 0.0
        self._head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._done = False
        self._error: RemoteError | None = None
        self._wake: asyncio.Future[None] | None = None

    def head(self, status: int, headers: Headers) -> None:
        """See `Call`."""
        self.status, self.headers, self.received_s = status, headers, time()
        if not self._head.done():
            self._head.set_result(None)

    def data(self, data: bytes) -> None:
        """See `Call`."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _BUFFER:
            self.pause()
        self._notify()

    def end(self) -> None:
        """See `Call`."""
        self._done = True
        self._notify()

    def failed(self, error: RemoteError) -> None:
        """See `Call`."""
        self._error = error
        if not self._head.done():
            self._head.set_exception(error)
        self._notify()

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def wait_head(self) -> None:
        """Returns when `status` and `headers` are there.

        Raises:
            RemoteError: there is no response.
        """
        try:
            await self._head
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def read(self) -> bytes:
        """The next piece of the body; b"" at its end.

        Raises:
            RemoteError: the body was cut short.
        """
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._done:
                return b""
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._size > _BUFFER:
            self.resume()
        self._size = 0
        return data

    def buffered(self) -> bytes | None:
        """All of the body if it has arrived already and nothing of it has been read; else None."""
        if not self._done or self._error is not None:
            return None
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self._size = 0
        return data

    async def read_all(self, limit: int) -> bytes:
        """The rest of the body.

        Raises:
            RemoteError: it is cut short or longer than `limit` bytes.
        """
        parts: list[bytes] = []
        size = 0
        while data := await self.read():
            size += len(data)
            if size > limit:
                self.cancel()
                raise RemoteError(f"body larger than {limit} bytes", 502)
            parts.append(data)
        return b"".join(parts)

    def cancel(self) -> None:
        """Stop the transfer."""
        if not self._done and self._error is None:
            super().cancel()


def render_request_lines(method: bytes, target: bytes, host: bytes, headers: Headers) -> bytes:
    """The request line and field lines of a request in HTTP/1.1, without framing and the end of the head."""
    parts = [method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
    for name, value in headers:
        if name not in (b"content-length", b"transfer-encoding", b"host"):
            parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)


def render_request(
    method: bytes, target: bytes, host: bytes, headers: Headers, body: RequestBody | None
) -> bytes:
    """A request head in HTTP/1.1; a body is sent chunked."""
    end = b"\r\n" if body is None else b"Transfer-Encoding: chunked\r\n\r\n"
    return render_request_lines(method, target, host, headers) + end


async def fetch(
    pool: UpstreamPool, request: bytes, body: RequestBody | None, timeout_s: float
) -> ResponseReader:
    """Send `request` and wait for the response's head.

    Raises:
        RemoteError: no response within `timeout_s`, or a broken one.
    """
    reader = ResponseReader(pool, request, body, timeout_s)
    pool.start(reader)
    await reader.wait_head()
    return reader
