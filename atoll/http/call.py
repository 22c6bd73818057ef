"""A request on its way to an origin or a function host, and what takes its response.

`Call` is told of the response as it arrives, in the turn of the loop in which it is read; `ResponseReader` is
the call for code that would rather await. Neither knows which version of HTTP carries it: that is the
connection's business (`atoll.http.upstream_h1`, `atoll.http.upstream_h2`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import time
from typing import Final, Protocol

import msgspec

from atoll.errors import RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers

REPEATABLE: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
"""Methods of which a second request does no more than the first (RFC 9110 §9.2.2)."""

_BUFFER: Final = 256 * 1024
_NONE: Final[Headers] = []


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


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What is unusual about a call; most calls share one value.

    With `upgrade`, the lowercase name of a protocol, the request's head asks for it; if the answer is 101,
    `Call.data` gets what the origin sends and `Call.body` is what it is sent, raw.
    """

    length: int | None = None  # of the request's body, if its head announces it; else it is sent chunked
    upgrade: bytes = b""
    between_s: float | None = None  # silence that is borne after the response's head; None: as before it
    expires_s: float = inf  # the monotonic time at which all of it must be over


USUAL: Final = Terms()


class Carrier(Protocol):
    """The connection that a call is on."""

    def drop(self, call: Call) -> None:
        """The answer to `call` is not wanted any more."""

    def hold(self, call: Call, held: bool) -> None:
        """Read no more of the answer for now, or read on."""

    def send(self, call: Call, data: bytes) -> None:
        """A piece of the request's body."""

    def send_end(self, call: Call) -> None:
        """The request's body is complete."""


class Calls(Protocol):
    """What a call needs of its pool."""

    active: set[Call]
    now_s: float

    def start(self, call: Call) -> None:
        """Send `call`'s request."""


class Call:
    """One request on its way, and what takes its response: subclasses say what with.

    `request` is a whole head in HTTP/1.1 format, with `Transfer-Encoding: chunked` in it when there is a
    `body`, unless `terms` say how long that is; or, without a `body`, a head and all that follows it.
    `timeout_s` is how long the other side may say nothing. `cancel` ends the call without a word.
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
        "terms",
        "timeout_s",
        "trailers",
    )

    def __init__(self, pool: Calls, request: bytes, body: RequestBody | None, timeout_s: float) -> None:
        self.pool = pool
        self.request = request
        self.body = body
        self.timeout_s = timeout_s
        self.deadline_s = 0.0
        self.head_only = request.startswith(b"HEAD ")
        # RFC 9110 §9.2.2: who knows whether the origin acted on a POST before it died?
        self.repeatable = body is None and request.partition(b" ")[0] in REPEATABLE
        self.retried = self.started = False
        self.terms = USUAL
        self.trailers = _NONE
        self.connection: Carrier | None = None

    # --- the response, as it arrives

    def informational(self, status: int, headers: Headers) -> None:
        """An interim response other than 100 and 101 (RFC 9110 §15.2); any number, before `head`."""

    def head(self, status: int, headers: Headers) -> None:
        """Final status and fields (lowercase names, hop-by-hop ones removed)."""
        raise NotImplementedError

    def data(self, data: bytes) -> None:
        """A piece of the body."""
        raise NotImplementedError

    def end(self) -> None:
        """The body is complete; `trailers` are there."""
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
            connection.drop(self)

    def pause(self) -> None:
        """Read no more for now."""
        if self.connection is not None:
            self.deadline_s = inf  # it is not the origin that keeps us waiting
            self.connection.hold(self, True)

    def resume(self) -> None:
        """Read on."""
        if self.connection is not None:
            self.wait()
            self.connection.hold(self, False)

    def wait(self) -> None:
        """From now on it is the other side that is waited for, unless the request is still on its way."""
        body = self.body
        waiting = body is None or body.complete or body.blocked or self.terms.upgrade
        self.deadline_s = self.pool.now_s + self.timeout_s if waiting else inf

    def begun(self) -> None:
        """The response's head is there: from now on it is another silence that is borne."""
        self.started = True
        if self.terms.between_s is not None:
            self.timeout_s = self.terms.between_s
            self.wait()

    # --- the request's body, as it arrives from the client

    def body_data(self, data: bytes) -> None:
        """See `BodySink`."""
        if self.connection is not None:
            self.connection.send(self, data)

    def body_end(self) -> None:
        """See `BodySink`."""
        if self.connection is not None:
            self.wait()
            self.connection.send_end(self)

    def body_failed(self) -> None:
        """See `BodySink`."""
        if self in self.pool.active:
            self.cancel()
            too_long = self.body is not None and self.body.too_long
            status, what = (413, "the body is too long") if too_long else (400, "the request was cut short")
            self.failed(RemoteError(what, status))


class ResponseReader(Call):
    """A call to await: the head first, then pieces of the body with back-pressure.

    `on_informational`, if there is one, is called with each interim response.
    """

    def __init__(self, pool: Calls, request: bytes, body: RequestBody | None, timeout_s: float) -> None:
        super().__init__(pool, request, body, timeout_s)
        self.status = 0
        self.headers: Headers = []
        self.received_s = 0.0
        self.on_informational: Callable[[int, Headers], None] | None = None
        self._head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._done = False
        self._error: RemoteError | None = None
        self._wake: asyncio.Future[None] | None = None

    def informational(self, status: int, headers: Headers) -> None:
        """See `Call`."""
        if self.on_informational is not None:
            self.on_informational(status, headers)

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

    def abandon(self) -> None:
        """Stop the transfer, and tell who reads as if the body had been cut short."""
        if not self._done and self._error is None:
            super().cancel()
            self.failed(RemoteError("the answer is not wanted any more", 499))
