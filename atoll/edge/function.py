"""Viewer requests answered by a function: straight from the worker to the function host's socket.

No task and no await: the request is rendered and written in the turn of the loop in which it was parsed, the
response is passed on as it arrives. A host that dies or is killed while it answers costs its own requests a
503; what was already on its way is cut short so that the client can tell.

What a request is to the edge (`Question`) depends on its bytes alone, so it is kept with them: the next
request of the same bytes is not parsed, routed or rendered again. The same holds for a response's head.
"""

from __future__ import annotations

from time import time
from typing import Final, Protocol

from atoll.config.spec import FunctionRuntime
from atoll.edge.finish import BYPASS, HIT, MISS, Stamp, finish_headers, stamped
from atoll.edge.geo import Geo, cf_blob
from atoll.edge.log import LEFT, record_head, record_tail
from atoll.errors import RemoteError
from atoll.http.exchange import ConnectionInfo, Exchange, PreparedHead, RequestBody, Stream
from atoll.http.fields import Headers, get
from atoll.http.render import field_lines
from atoll.http.upstream import (
    Call,
    ResponseHead,
    ResponseReader,
    Terms,
    UpstreamPool,
    fetch,
    render_request_lines,
)

TIMEOUT_S: Final = 30.0
TUNNEL_IDLE_S: Final = 600.0  # of silence in a WebSocket
MOST_AT_ONCE: Final = 1000  # requests in one function of this worker: a host has descriptors for them
_FRAMING: Final = (b"content-length", b"transfer-encoding")


class Edge(Protocol):
    """What a function's request needs of its worker."""

    pop_bytes: bytes

    def fail(self, exchange: Exchange, error: RemoteError) -> None:
        """Answer with an error page."""

    def geo_of(self, conn: ConnectionInfo) -> Geo:
        """Where the client is."""

    def stamp(self, now_s: float, received_s: float) -> Stamp:
        """What belongs to one response that leaves now."""

    def again(self) -> None:
        """A known request has arrived."""

    def count(self, verdict: bytes) -> None:
        """A request has been answered."""

    def record(self, conn: ConnectionInfo, tail: bytes) -> None:
        """A line of the access log; `tail` is what `record_tail` made."""


class Question:
    """A request to a function without whoever asks it: a `HotEntry` that replays.

    `lines` is its head as the function host gets it, up to the fields that say who asks.
    """

    __slots__ = ("_edge", "_log_head", "authority", "headers", "lines", "method", "pool", "runtime", "target")
    replays: Final = True
    rest: Final = b""

    def __init__(
        self, edge: Edge, runtime: FunctionRuntime, pool: UpstreamPool, exchange: Exchange, host: bytes
    ) -> None:
        self._edge = edge
        self.runtime = runtime
        self.pool = pool
        self.method = exchange.method
        self.authority = exchange.authority
        self.target = exchange.target
        self.headers = exchange.headers
        self.lines = render_request_lines(self.method, self.target, host, self.headers)
        self._log_head = record_head(self.method, self.authority, self.target)

    @property
    def size(self) -> int:
        """See `HotEntry`: fields as parsed and as rendered, and the record's head."""
        return 2 * len(self.lines) + len(self._log_head) + 128 * (len(self.headers) + 4)

    @property
    def wanted(self) -> bool:
        """See `HotEntry`: the oldest goes first."""
        return False

    def release(self) -> None:
        """See `HotEntry`: it holds nothing of anybody's."""

    def h1(self, now_s: float) -> bytes | None:
        """See `HotEntry`: nothing is prepared."""
        return None

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        """See `HotEntry`: nothing is prepared."""
        return None

    def replay(self, conn: ConnectionInfo, stream: Stream, now_s: float) -> None:
        """Ask the function again."""
        self._edge.again()
        self.ask(conn, stream, None, now_s)

    def ask(self, conn: ConnectionInfo, stream: Stream, body: RequestBody | None, received_s: float) -> None:
        """Send the request; the response goes to `stream`."""
        if len(self.pool.active) >= MOST_AT_ONCE:
            busy = RemoteError(f"{MOST_AT_ONCE} requests are in it already", 503)
            self.fail(self.exchange(conn, stream, received_s), busy)
            return
        who = conn.upstream_fields or self._introduce(conn, stream)
        end = b"\r\n" if body is None else b"Transfer-Encoding: chunked\r\n\r\n"
        call = FunctionCall(self, b"%b%b%b" % (self.lines, who, end), conn, stream, body, received_s)
        stream.on_gone(call.left)
        self.pool.start(call)

    async def ask_upgrade(
        self, conn: ConnectionInfo, stream: Stream, body: RequestBody, upgrade: bytes
    ) -> ResponseReader:
        """Ask the function to go on with another protocol; after a 101 it is sent `body` as it comes.

        Raises:
            RemoteError: it does not answer.
        """
        if len(self.pool.active) >= MOST_AT_ONCE:
            raise RemoteError(f"{MOST_AT_ONCE} requests are in it already", 503)
        who = conn.upstream_fields or self._introduce(conn, stream)
        end = b"Connection: Upgrade\r\nUpgrade: %b\r\n\r\n" % upgrade
        terms = Terms(upgrade=upgrade, between_s=TUNNEL_IDLE_S)
        return await fetch(self.pool, b"%b%b%b" % (self.lines, who, end), body, TIMEOUT_S, terms=terms)

    def _introduce(self, conn: ConnectionInfo, stream: Stream) -> bytes:
        """The fields that tell a function who asks; the same for all requests of a connection."""
        geo = self._edge.geo_of(conn)
        address = conn.client_ip.encode()
        fields = [(b"cf-connecting-ip", address), (b"x-real-ip", address)]
        fields += [(b"cf-ipcountry", geo.country.encode())]
        fields += [(b"cf-blob", cf_blob(geo, stream.protocol, conn.tls_version))]
        if conn.scheme != b"http":
            fields.append((b"x-forwarded-proto", conn.scheme))
        conn.upstream_fields = field_lines(fields)
        return conn.upstream_fields

    def prepare(self, head: ResponseHead) -> Prepared:
        """A response's head with what the edge adds, made once for identical heads."""
        if not isinstance(head.prepared, Prepared):
            head.prepared = Prepared(head.status, head.headers, self._edge.pop_bytes, self.runtime)
        return head.prepared

    def exchange(self, conn: ConnectionInfo, stream: Stream, received_s: float) -> Exchange:
        """The request as the rest of the pipeline knows it."""
        return Exchange(conn, stream, self.method, self.authority, self.target, self.headers, received_s)

    def answered(
        self, conn: ConnectionInfo, status: int, size: int, verdict: bytes, duration_s: float, trace: bytes
    ) -> None:
        """Count and log a response."""
        self._edge.count(verdict)
        self._edge.record(conn, record_tail(self._log_head, status, size, verdict, duration_s * 1000, trace))

    def stamp(self, now_s: float, received_s: float) -> Stamp:
        """See `Edge.stamp`."""
        return self._edge.stamp(now_s, received_s)

    def fail(self, exchange: Exchange, error: RemoteError) -> None:
        """There is no response: say so."""
        if error.status == 413:  # the client's doing
            self._edge.fail(exchange, error)
            return
        self._edge.fail(exchange, RemoteError(f"the function did not answer: {error.message}", 503))


class Prepared(PreparedHead):
    """A head from a function as it leaves the edge, but for its stamp."""

    __slots__ = ("needs_date", "verdict")

    def __init__(self, status: int, headers: Headers, pop: bytes, runtime: FunctionRuntime) -> None:
        name = f"{runtime.name}@{runtime.version[:8]}".encode()
        cache_status = b'atoll-%b; fwd=bypass; fwd-status=%d; detail="function %b"' % (pop, status, name)
        kept = [field for field in headers if field[0] not in _FRAMING]
        super().__init__(status, finish_headers(kept, pop, BYPASS, cache_status))
        own = get(headers, b"x-cache")
        self.verdict = own if own in (HIT, MISS) else BYPASS
        self.needs_date = get(headers, b"date") is None


class FunctionCall(Call):
    """One request in a function, and the way of its response to the client."""

    __slots__ = ("_conn", "_question", "_received_s", "_sent", "_status", "_stream", "_trace", "_verdict")

    def __init__(
        self,
        question: Question,
        request: bytes,
        conn: ConnectionInfo,
        stream: Stream,
        body: RequestBody | None,
        received_s: float,
    ) -> None:
        Call.__init__(self, question.pool, request, body, TIMEOUT_S)
        self._question = question
        self._conn = conn
        self._stream = stream
        self._received_s = received_s
        self._status = 0
        self._sent = 0
        self._verdict = BYPASS
        self._trace = b""

    def whole(self, head: ResponseHead, body: bytes) -> None:
        """See `Call`: the response is there at once, its head known."""
        question = self._question
        prepared = question.prepare(head)
        now_s = time()
        stamp = question.stamp(now_s, self._received_s)
        more = [(b"server-timing", stamp.timing), (b"atoll-trace", stamp.trace), *self._conn.announced]
        if prepared.needs_date:
            more.append((b"date", stamp.date))
        self._stream.respond_prepared(prepared, more, body)
        took_s = now_s - self._received_s
        question.answered(self._conn, prepared.status, len(body), prepared.verdict, took_s, stamp.trace)

    def informational(self, status: int, headers: Headers) -> None:
        """See `Call`."""
        self._stream.inform(status, headers)

    def head(self, status: int, headers: Headers) -> None:
        """See `Call`."""
        question = self._question
        length = get(headers, b"content-length")
        size = int(length) if length is not None else None
        prepared = question.prepare(ResponseHead(status, headers, size))
        stamp = question.stamp(time(), self._received_s)
        self._status, self._verdict, self._trace = status, prepared.verdict, stamp.trace
        self._stream.start(status, [*stamped(prepared.fields, stamp), *self._conn.announced], size)

    def data(self, data: bytes) -> None:
        """See `Call`."""
        stream = self._stream
        self._sent += len(data)
        stream.write(data)
        if stream.congested():
            self.pause()
            stream.on_drained(self.resume)

    def end(self) -> None:
        """See `Call`."""
        self._stream.finish(self.trailers or None)
        self._answered()

    def failed(self, error: RemoteError) -> None:
        """See `Call`."""
        if self.started:
            self._stream.abort()
            self._answered()
        else:
            question = self._question
            question.fail(question.exchange(self._conn, self._stream, self._received_s), error)

    def left(self) -> None:
        """The client has."""
        if self in self.pool.active:
            self.cancel()
            self._status = self._status or LEFT
            self._answered()

    def _answered(self) -> None:
        took_s = time() - self._received_s
        self._question.answered(self._conn, self._status, self._sent, self._verdict, took_s, self._trace)
