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
from math import inf
from time import monotonic
from typing import Final, cast

from atoll.config.origins import OriginLimitsSpec
from atoll.errors import RemoteError
from atoll.http.call import REPEATABLE, USUAL, Call, ResponseHead, ResponseReader, Terms
from atoll.http.dial import Dialer, Target
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.opener import Address, Opener
from atoll.http.resolve import Resolver
from atoll.http.upstream_h1 import H1Upstream
from atoll.http.upstream_h2 import H2Upstream

__all__ = [
    "REPEATABLE",
    "USUAL",
    "Address",
    "Call",
    "Dialer",
    "Resolver",
    "ResponseHead",
    "ResponseReader",
    "Target",
    "Terms",
    "Unsent",
    "UpstreamPool",
    "fetch",
    "known_length",
    "render_request",
    "render_request_lines",
    "render_upgrade",
]

_SWEEP_S: Final = 0.1
_AGE_SWEEP_S: Final = 1.0
_MAX_IDLE: Final = 64
_MAX_KNOWN_HEADS: Final = 256

_LIMITS: Final = OriginLimitsSpec(connections=1024, pending=1024, idle_s=30.0, age_s=inf)  # of a neighbour


class Unsent(RemoteError):
    """Nothing of the request has been sent: it may go elsewhere, whatever its method."""


class UpstreamPool:
    """Connections to one address. A call goes to one that is free, or to a new one, or waits for its turn."""

    def __init__(
        self,
        address: Address,
        connect_timeout_s: float = 1.0,
        *,
        dialer: Dialer | None = None,
        limits: OriginLimitsSpec = _LIMITS,
    ) -> None:
        self.address = address
        self.connect_timeout_s = connect_timeout_s
        self.active: set[Call] = set()
        self.heads: dict[bytes, ResponseHead] = {}
        self.now_s = 0.0  # monotonic, as of the last look: at most `_SWEEP_S` old while there are calls
        self.limits = limits
        self._idle: deque[H1Upstream] = deque()
        self._most_idle = _MAX_IDLE if limits is _LIMITS else limits.connections
        self._shared: list[H2Upstream] = []
        self._connections: set[H1Upstream | H2Upstream] = set()
        self._pending: deque[Call] = deque()
        self._dials: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._sweeping = False
        self._aged_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._opener = Opener(address, dialer)
        self._may_share = self._opener.maybe_h2  # calls may share a connection, as far as is known

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
        self._seek(call)

    def close(self) -> None:
        """Close idle connections now, the others when their call ends."""
        self._closed = True
        self._most_idle = 0
        while self._idle:
            self._idle.pop().transport.close()
        for shared in [*self._shared]:
            shared.close()
        if self._timer is not None and not self.active:
            self._timer.cancel()

    # --- for connections

    def release(self, connection: H1Upstream) -> None:
        """`connection` is free for the next call."""
        if connection.worn or len(self._idle) >= self._most_idle:
            connection.transport.close()
            return
        connection.transport.resume_reading()  # the last call may have ended while it was paused
        call = self._next_pending() if self._pending else None
        if call is not None:
            connection.begin(call)
        else:
            connection.idle_since_s = self.now_s
            self._idle.append(connection)

    def forget(self, connection: H1Upstream) -> None:
        """`connection` is closed."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._connections.discard(connection)
        self._serve_pending()

    def shared_room(self, connection: H2Upstream) -> None:
        """`connection` may have room for another call."""
        while self._pending and connection.room():
            call = self._next_pending()
            if call is None:
                return
            connection.begin(call)
        self._serve_pending()

    def shared_lost(self, connection: H2Upstream) -> None:
        """`connection` takes no more calls."""
        if connection in self._shared:
            self._shared.remove(connection)
            self._connections.discard(connection)
            self._loop.call_soon(self._serve_pending)

    def retry(self, call: Call) -> None:
        """A reused connection died before it answered: once more on a new one."""
        call.retried = True
        self._seek(call)

    def remember(self, raw: bytes, head: ResponseHead) -> None:
        """The parser made `head` of `raw`."""
        if len(self.heads) >= _MAX_KNOWN_HEADS:
            self.heads.clear()
        self.heads[raw] = head

    # --- finding a connection

    def _seek(self, call: Call) -> None:
        """Nothing is idle: share a connection, make one, or wait."""
        sharing = self._may_share and not call.terms.upgrade
        if sharing:
            for shared in self._shared:
                if shared.room():
                    shared.begin(call)
                    return
        if self._may_dial(sharing):
            self._dial(call)
        else:
            self._wait_for_turn(call)

    def _may_dial(self, sharing: bool) -> bool:
        """Whether a connection may be made. While one is, that can perhaps be shared, one is enough."""
        if sharing and (self._dials or any(not shared.greeted for shared in self._shared)):
            return False
        return len(self._connections) + len(self._dials) < self.limits.connections

    def _wait_for_turn(self, call: Call) -> None:
        if len(self._pending) >= self.limits.pending:
            self._pending = deque(filter(_waits, self._pending))
        if len(self._pending) < self.limits.pending:
            self._pending.append(call)
            return
        busy = f"{len(self._connections)} connections are busy and {len(self._pending)} requests wait"
        self._fail(call, Unsent(busy, 503))

    def _next_pending(self) -> Call | None:
        """The call that has waited longest."""
        while self._pending:
            call = self._pending.popleft()
            if _waits(call):
                return call
        return None

    def _serve_pending(self) -> None:
        """There is room for a connection."""
        while self._pending and self._may_dial(self._may_share):
            call = self._next_pending()
            if call is not None:
                self._seek(call)

    def _dial(self, call: Call) -> None:
        task = self._loop.create_task(self._open(call))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _open(self, call: Call) -> None:
        """Make a connection for `call`; it may serve another one, if that came to be served meanwhile."""
        own = asyncio.current_task()
        try:
            async with asyncio.timeout(min(self.connect_timeout_s, call.timeout_s)):
                connection = await self._opener.open(self, only_h1=bool(call.terms.upgrade))
        except TimeoutError:
            error = Unsent("connect timeout", 504)
        except RemoteError as failure:
            error = Unsent(failure.message, failure.status)
        except OSError as failure:
            error = Unsent(f"connect failed: {failure.strerror or failure}", 502)
        else:
            self._dials.discard(cast("asyncio.Task[None]", own))
            self._made(connection, call)
            return
        self._dials.discard(cast("asyncio.Task[None]", own))
        self._fail(call, error)
        if not self._connections and not self._dials:
            while (waiting := self._next_pending()) is not None:
                self._fail(waiting, error)
        else:
            self._serve_pending()

    def _made(self, connection: H1Upstream | H2Upstream, call: Call) -> None:
        self._connections.add(connection)
        if isinstance(connection, H2Upstream):
            self._shared.append(connection)
            if self._closed:
                connection.close()
            elif _waits(call):
                connection.begin(call)
            return  # the others wait for what it says of itself
        if not call.terms.upgrade:
            self._may_share = False
        if _waits(call):
            connection.begin(call)
        else:
            self.release(connection)
        self._serve_pending()

    def _fail(self, call: Call, error: RemoteError) -> None:
        if _waits(call):
            self.active.discard(call)
            call.failed(error)

    # --- time

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
            error = _too_late(call, now_s)
            call.cancel()
            call.failed(error)
        self._sweep_connections(now_s)
        self._timer = None
        self._sweeping = bool(self.active)
        if self.active or self._connections:
            self._timer = self._loop.call_later(_SWEEP_S if self.active else self.limits.idle_s, self._sweep)

    def _sweep_connections(self, now_s: float) -> None:
        idle_s, age_s = self.limits.idle_s, self.limits.age_s
        while self._idle and now_s - self._idle[0].idle_since_s > idle_s:
            self._idle.popleft().transport.close()
        for shared in [*self._shared]:
            shared.look(now_s)
            if now_s - shared.born_s > age_s or not (shared.busy or now_s - shared.idle_since_s <= idle_s):
                shared.close()
        if now_s - self._aged_s < _AGE_SWEEP_S:
            return
        self._aged_s = now_s
        for connection in self._connections:
            if isinstance(connection, H1Upstream) and now_s - connection.born_s > age_s:
                connection.worn = True


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
    reader.repeatable = reader.repeatable or bool(terms.upgrade)  # its body waits for the answer
    pool.start(reader)
    await reader.wait_head()
    return reader


def _waits(call: Call) -> bool:
    """Whether `call` is still without a connection, and wanted."""
    return call.connection is None and call in call.pool.active


def _too_late(call: Call, now_s: float) -> RemoteError:
    if call.connection is None:
        return Unsent("no connection in time", 504)
    if call.terms.expires_s < now_s:
        return RemoteError("the whole took too long", 504)
    return RemoteError("response timeout", 504)
