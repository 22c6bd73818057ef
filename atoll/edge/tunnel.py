"""Requests that go on with another protocol: asked of an origin or a function, then bytes both ways.

Until whoever is behind has answered with 101, and for a WebSocket has proven it, what the client sends stays
here; any other answer is passed on like any response, and the connection remains HTTP. Afterwards nothing is
looked at. Each side is read as fast as the other takes it; one that has said all it has to say may still
listen; when one is gone, so is the other. Silence is ended by the connection to whoever is behind.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from atoll.edge import pages
from atoll.edge.finish import BYPASS
from atoll.edge.relay import relay, writable
from atoll.errors import RemoteError
from atoll.http import upgrade
from atoll.http.call import ResponseReader
from atoll.http.exchange import Exchange, RequestBody, Stream
from atoll.http.fields import Headers
from atoll.http.limits import Limits

Ask = Callable[[RequestBody], Awaitable[ResponseReader]]
"""Sends the request on, with its fields as they are by then; the body is what is sent after a 101."""

_RETRY_S: Final = b"1"


class Edge(Protocol):
    """What a tunnel needs of its worker."""

    limits: Limits
    pop: str
    pop_bytes: bytes

    def answer(self, exchange: Exchange, status: int, headers: Headers, body: bytes, why: bytes) -> None:
        """A response made here."""

    def headers(
        self, exchange: Exchange, headers: Headers, verdict: bytes, cache_status: bytes, origin_ms: float
    ) -> Headers:
        """A response's fields with the edge's own."""

    def done(self, exchange: Exchange, code: int, size: int, verdict: bytes) -> None:
        """Count and log."""


class Gate(RequestBody):
    """What the client sends, once it is let through; `received` counts it."""

    __slots__ = ("_client", "_most")

    def __init__(self, client: RequestBody, most: int) -> None:
        super().__init__()
        self._client = client
        self._most = most
        self.on_flow = self._look

    def open(self) -> None:
        """Let through what is there and what comes."""
        self._client.attach(self)

    def _look(self) -> None:
        self._client.block(self.full(self._most))

    def body_data(self, data: bytes) -> None:
        """See `BodySink`."""
        self.feed(data)
        if self.full(self._most):
            self._look()

    def body_end(self) -> None:
        """See `BodySink`."""
        self.end()

    def body_failed(self) -> None:
        """See `BodySink`."""
        self.fail()


class Tunnels:
    """The tunnels of one worker."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.open = 0

    def offer(self, exchange: Exchange, allowed: tuple[str, ...], go_on: Callable[[], None]) -> bool:
        """Refuse the upgrade that a request asks for, or `go_on` with it; False: the request is a plain one.

        HTTP/1.1 may ignore an upgrade (RFC 9110 §7.8); an extended CONNECT has no other meaning.
        """
        h1 = exchange.stream.protocol == "HTTP/1.1"
        fault = None
        if exchange.upgrade.decode("ascii") not in allowed:
            if h1:
                exchange.decline_upgrade()
                return False
            fault = upgrade.Fault(501, "This protocol is not passed on here.")
        elif exchange.upgrade == upgrade.WEBSOCKET:
            fault = upgrade.request_fault(exchange.headers, with_key=h1)
        if fault is None and self.open >= self._edge.limits.tunnels:
            fault = upgrade.Fault(503, "Too many connections are open.", [(b"retry-after", _RETRY_S)])
        if fault is None:
            go_on()
        else:
            self._refuse(exchange, fault)
        return True

    def _refuse(self, exchange: Exchange, fault: upgrade.Fault) -> None:
        page = pages.error_page(fault.status, fault.reason, self._edge.pop)
        self._edge.answer(exchange, fault.status, [*pages.HTML, *fault.headers], page, b"detail=upgrade")

    async def run(self, exchange: Exchange, ask: Ask) -> None:
        """Ask, and relay until one side has had enough.

        Raises:
            RemoteError: there is no answer, or it is none to what was asked.
        """
        assert exchange.body is not None
        self.open += 1
        try:
            gate = Gate(exchange.body, self._edge.limits.buffered)
            client = exchange.headers
            if exchange.upgrade == upgrade.WEBSOCKET:
                exchange.headers = upgrade.with_key(client, base64.b64encode(secrets.token_bytes(16)))
            reader = await self._ask(exchange, ask, gate)
            if reader.status == 101:
                await self._tunnel(exchange, reader, client, gate)
            else:
                await self._respond(exchange, reader)
        finally:
            self.open -= 1

    async def _ask(self, exchange: Exchange, ask: Ask, gate: Gate) -> ResponseReader:
        task = asyncio.current_task()
        assert task is not None

        def leave() -> None:
            task.cancel()

        exchange.stream.on_gone(leave)
        reader = await ask(gate)
        exchange.stream.on_gone(reader.abandon)
        return reader

    async def _respond(self, exchange: Exchange, reader: ResponseReader) -> None:
        fields = self._fields(exchange, reader.status, reader.headers)
        sent = await relay(reader, exchange.stream, fields)
        self._edge.done(exchange, reader.status, sent, BYPASS)

    async def _tunnel(self, exchange: Exchange, reader: ResponseReader, client: Headers, gate: Gate) -> None:
        answer = reader.headers
        if exchange.upgrade == upgrade.WEBSOCKET:
            fault = upgrade.answer_fault(exchange.headers, answer)
            if fault:
                reader.cancel()
                raise RemoteError(fault, 502)
            h1 = exchange.stream.protocol == "HTTP/1.1"
            answer = upgrade.answer_for(client if h1 else [], answer)
        exchange.stream.start(101, self._fields(exchange, 101, answer), None)
        gate.open()
        sent = 0
        try:
            sent = await _pump(reader, exchange.stream)
        finally:
            self._edge.done(exchange, 101, sent + gate.received, BYPASS)

    def _fields(self, exchange: Exchange, status: int, headers: Headers) -> Headers:
        why = b"atoll-%b; fwd=bypass; fwd-status=%d; detail=upgrade" % (self._edge.pop_bytes, status)
        return self._edge.headers(exchange, headers, BYPASS, why, 0.0)


async def _pump(reader: ResponseReader, stream: Stream) -> int:
    """All that comes from behind, to the client; the number of its bytes."""
    sent = 0
    try:
        while data := await reader.read():
            if stream.gone:
                break
            stream.write(data)
            sent += len(data)
            if stream.congested():
                await writable(stream)
                stream.on_gone(reader.abandon)
    except RemoteError:
        stream.abort()
    except asyncio.CancelledError:
        stream.abort()
        reader.cancel()
        raise
    else:
        stream.finish()
    reader.cancel()
    return sent
