"""Viewer requests answered by a function: straight from the worker to the function host's socket.

No task and no await: the request is rendered and written in the turn of the loop in which it was parsed, the
response is passed on as it arrives. A host that dies or is killed while it answers costs its own requests a
503; what was already on its way is cut short so that the client can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Final

from atoll.edge.geo import Geo, cf_blob
from atoll.errors import RemoteError
from atoll.http.exchange import Exchange
from atoll.http.fields import Headers
from atoll.http.render import body_allowed, field_lines
from atoll.http.upstream import Call, UpstreamPool, render_request

TIMEOUT_S: Final = 30.0


class FunctionCall:
    """One request in a function; the sink for its response."""

    __slots__ = (
        "_call",
        "_exchange",
        "_length",
        "_name",
        "_on_failed",
        "_on_head",
        "_sent",
        "started",
        "status",
    )

    def __init__(
        self,
        exchange: Exchange,
        name: str,
        on_head: Callable[[Exchange, int, Headers], Headers],
        on_failed: Callable[[Exchange, RemoteError], None],
    ) -> None:
        self._exchange = exchange
        self._name = name
        self._on_head = on_head
        self._on_failed = on_failed
        self._call: Call | None = None
        self._length: int | None = None
        self._sent = 0
        self.started = False
        self.status = 0

    def run(self, pool: UpstreamPool, request: bytes) -> None:
        """Send the request."""
        exchange = self._exchange
        exchange.stream.on_gone(self._client_gone)
        self._call = pool.request(request, exchange.body, self, TIMEOUT_S)

    def head(self, status: int, headers: Headers) -> None:
        """See `UpstreamSink`."""
        length: int | None = None
        fields: Headers = []
        for field in headers:
            if field[0] == b"content-length":
                length = int(field[1])
            else:
                fields.append(field)
        self.started = True
        self.status = status
        if length is None and not body_allowed(self._exchange.method, status):
            length = 0
        self._exchange.stream.start(status, self._on_head(self._exchange, status, fields), length)

    def data(self, data: bytes) -> None:
        """See `UpstreamSink`."""
        stream = self._exchange.stream
        self._sent += len(data)
        stream.write(data)
        if stream.congested() and self._call is not None:
            self._call.pause()
            stream.on_drained(self._call.resume)

    def end(self) -> None:
        """See `UpstreamSink`."""
        self._exchange.stream.finish()

    def failed(self, error: RemoteError) -> None:
        """See `UpstreamSink`."""
        if self.started:
            self._exchange.stream.abort()
        else:
            self._on_failed(self._exchange, error)

    def _client_gone(self) -> None:
        if self._call is not None:
            self._call.cancel()


def function_request(exchange: Exchange, host: bytes, geo: Geo) -> bytes:
    """The request as the function host gets it: canonical host, the client's address, `request.cf`."""
    conn = exchange.conn
    if not conn.upstream_fields:
        address = conn.client_ip.encode()
        conn.upstream_fields = field_lines(
            [
                (b"cf-connecting-ip", address),
                (b"x-real-ip", address),
                (b"x-forwarded-for", address),
                (b"x-forwarded-proto", conn.scheme),
                (b"cf-ipcountry", geo.country.encode()),
                (b"cf-blob", cf_blob(geo, exchange.stream.protocol, conn.tls_version)),
            ]
        )
    return render_request(
        exchange.method, exchange.target, host, exchange.headers, exchange.body, conn.upstream_fields
    )


def elapsed_ms(exchange: Exchange) -> float:
    """Since the request was received."""
    return (time() - exchange.received_s) * 1000
