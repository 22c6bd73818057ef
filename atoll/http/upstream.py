"""Requests to origins and function hosts: pooled connections, callbacks instead of awaits.

A call writes its request and takes what comes back in the reader's own turn of the loop: that is what keeps
a function's request cheap. `ResponseReader` is the call for code that would rather await. A pooled connection
that dies before it answers is replaced once, for requests without a body; every other failure is the
caller's to judge. Timeouts are looked at ten times a second by one timer per pool that has calls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from atoll.errors import RemoteError
from atoll.http.call import REPEATABLE, USUAL, Call, ResponseHead, ResponseReader, Terms
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.upstream_h1 import H1Upstream

__all__ = [
    "REPEATABLE",
    "USUAL",
    "Address",
    "Call",
    "ResponseHead",
    "ResponseReader",
    "Terms",
    "UpstreamPool",
    "fetch",
    "known_length",
    "render_request",
    "render_request_lines",
    "render_upgrade",
]

_SWEEP_S: Final = 0.1
_IDLE_S: Final = 30.0
_MAX_IDLE: Final = 64
_MAX_KNOWN_HEADS: Final = 256

Address = str | tuple[str, int]
"""A unix socket's path, or host and port."""


class UpstreamPool:
    """Connections to one address."""

    def __init__(self, address: Address, connect_timeout_s: float = 1.0) -> None:
        self.address = address
        self.connect_timeout_s = connect_timeout_s
        self.active: set[Call] = set()
        self.heads: dict[bytes, ResponseHead] = {}
        self.now_s = 0.0  # monotonic, as of the last look: at most `_SWEEP_S` old while there are calls
        self._idle: deque[H1Upstream] = deque()
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

    def release(self, connection: H1Upstream) -> None:
        """`connection` is free for the next call."""
        if self._closed or len(self._idle) >= _MAX_IDLE:
            connection.transport.close()
        else:
            connection.transport.resume_reading()  # the last call may have ended while it was paused
            connection.idle_since_s = self.now_s
            self._idle.append(connection)

    def forget(self, connection: H1Upstream) -> None:
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
        def factory() -> H1Upstream:
            return H1Upstream(self)

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
        for call in [call for call in self.active if min(call.deadline_s, call.terms.expires_s) < now_s]:
            call.cancel()
            call.failed(_too_late(call, now_s))
        while self._idle and now_s - self._idle[0].idle_since_s > _IDLE_S:
            self._idle.popleft().transport.close()
        self._timer = None
        self._sweeping = bool(self.active)
        if self.active or self._idle:
            self._timer = self._loop.call_later(_SWEEP_S if self.active else _IDLE_S, self._sweep)


def render_request_lines(method: bytes, target: bytes, host: bytes, headers: Headers) -> bytes:
    """The request line and field lines of a request in HTTP/1.1, without framing and the end of the head."""
    parts = [method, b" ", target, b" HTTP/1.1\r\nHost: ", host, b"\r\n"]
    for name, value in headers:
        if name not in (b"content-length", b"transfer-encoding", b"host"):
            parts += (name, b": ", value, b"\r\n")
    return b"".join(parts)


def known_length(headers: Headers) -> int | None:
    """The length that a request's fields announce for its body, if they do so once and clearly."""
    values = [value for name, value in headers if name == b"content-length"]
    return int(values[0]) if len(values) == 1 and values[0].isdigit() and len(values[0]) < 19 else None


def render_request(
    method: bytes, target: bytes, host: bytes, headers: Headers, body: RequestBody | None
) -> bytes:
    """A request head in HTTP/1.1; a body is sent with the length that `headers` announce, or chunked."""
    lines = render_request_lines(method, target, host, headers)
    if body is None:
        return lines + b"\r\n"
    length = known_length(headers)
    if length is None:
        return lines + b"Transfer-Encoding: chunked\r\n\r\n"
    return b"%bContent-Length: %d\r\n\r\n" % (lines, length)


def render_upgrade(target: bytes, host: bytes, headers: Headers, upgrade: bytes) -> bytes:
    """A GET that asks to go on with the protocol `upgrade` (RFC 9110 §7.8)."""
    lines = render_request_lines(b"GET", target, host, headers)
    return b"%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" % (lines, upgrade)


async def fetch(
    pool: UpstreamPool,
    request: bytes,
    body: RequestBody | None,
    timeout_s: float,
    *,
    terms: Terms = USUAL,
    inform: Callable[[int, Headers], None] | None = None,
) -> ResponseReader:
    """Send `request` and wait for the response's head; see `Call` and `Terms`.

    `inform` is called with each interim response.

    Raises:
        RemoteError: no response within `timeout_s`, or a broken one.
    """
    reader = ResponseReader(pool, request, body, timeout_s)
    reader.terms, reader.on_informational = terms, inform
    pool.start(reader)
    await reader.wait_head()
    return reader


def _too_late(call: Call, now_s: float) -> RemoteError:
    if call.terms.expires_s < now_s:
        return RemoteError("the whole took too long", 504)
    return RemoteError("response timeout", 504)
