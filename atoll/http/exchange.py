"""One request and the stream that its response goes to: what engines hand to the edge.

An engine (h1, h2, later h3) parses bytes into an `Exchange` and calls `App.handle`. The edge answers through
`exchange.stream`, in any engine's terms the same three calls: `start`, `write`, `finish`. Nothing here knows
about caches or routes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from atoll.http.fields import Headers
from atoll.http.file_pipe import FilePipe
from atoll.http.limits import Limits
from atoll.http.render import field_lines, status_line
from atoll.http.tls import ClientCertificate


class ConnectionInfo:
    """Who is at the other end, resolved once per connection.

    `log_prefix` is the part of an access record that all requests of the connection share; the edge fills
    it in, as it does `geo`, an opaque value it derives from the client's address, and `upstream_fields`, the
    field lines that say all this to a function.
    """

    __slots__ = (
        "announced",
        "client_certificate",
        "client_ip",
        "client_port",
        "geo",
        "log_prefix",
        "scheme",
        "server_name",
        "tls_version",
        "upstream_fields",
    )

    def __init__(self, client_ip: str, client_port: int, scheme: bytes) -> None:
        self.client_ip = client_ip
        self.client_port = client_port
        self.scheme = scheme
        self.tls_version = ""
        self.server_name = ""  # that the client's hello asked for, where sites' wishes differ
        self.client_certificate: ClientCertificate | None = None  # that the handshake has verified
        self.announced: Headers = []  # where else the same is to be had (RFC 7838), on every response
        self.geo: object | None = None
        self.log_prefix = b""
        self.upstream_fields = b""


class PreparedHead:
    """A response's head kept for many responses: as fields, and rendered for HTTP/1.1. No framing fields."""

    __slots__ = ("fields", "lines", "status")

    def __init__(self, status: int, fields: Headers) -> None:
        self.status = status
        self.fields = fields
        self.lines = status_line(status) + field_lines(fields)


class Stream(Protocol):
    """Where a response goes. Calls after the client has gone do nothing."""

    protocol: str  # "HTTP/1.1", "HTTP/2"
    gone: bool  # the client has closed or reset
    started: bool  # its head has been written

    def inform(self, status: int, headers: Headers) -> None:
        """An interim response (RFC 9110 §15.2), if the client may have one; before `start`, any number."""

    def start(self, status: int, headers: Headers, length: int | None) -> None:
        """The final response's head; `length` is the body's, or None when it is not known yet.

        101 answers an `Exchange.upgrade`: from then on `write` sends raw bytes, and the exchange's body is
        what the client sends, raw, until it ends its side.
        """

    def write(self, data: bytes) -> None:
        """A piece of the body."""

    def file_pipe(self) -> FilePipe | None:
        """How the body that has been announced may come from a file; None where it has to be written."""

    def finish(self, trailers: Headers | None = None) -> None:
        """The body is complete. `trailers` are left out where the client does not take any."""

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """The whole response at once."""

    def respond_prepared(self, head: PreparedHead, more: Headers, body: bytes) -> None:
        """The same with a head that was made before, and the fields that differ every time."""

    def abort(self) -> None:
        """End the response short so that the client can tell."""

    def congested(self) -> bool:
        """Whether the producer should wait for `on_drained`."""

    def on_drained(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once when more may be written."""

    def on_gone(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once if the client leaves before `finish`."""


class BodySink(Protocol):
    """What takes a request's body as it arrives."""

    def body_data(self, data: bytes) -> None:
        """A piece."""

    def body_end(self) -> None:
        """That was all; the body's `trailers` are there."""

    def body_failed(self) -> None:
        """The client left in the middle."""


class RequestBody:
    """A request's body: buffered until a sink is attached, then passed on as it arrives.

    `trailers` are set before its end, without those that would change what the head has said. `on_wanted`
    is called when somebody begins to take it, if it is not complete by then: a client may wait for leave.
    More than `limit` bytes, where a route has one, and it fails.
    """

    __slots__ = (
        "_chunks",
        "_sink",
        "blocked",
        "buffered",
        "complete",
        "failed",
        "limit",
        "on_flow",
        "on_wanted",
        "received",
        "trailers",
    )

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._sink: BodySink | None = None
        self.complete = False
        self.failed = False
        self.received = 0
        self.buffered = 0
        self.blocked = False  # whoever takes it cannot take more now
        self.on_flow: Callable[[], None] | None = None  # the engine looks at `buffered` again
        self.on_wanted: Callable[[], None] | None = None
        self.trailers: Headers = []
        self.limit: int | None = None

    @property
    def too_long(self) -> bool:
        """Whether more has come than the route takes."""
        return self.limit is not None and self.received > self.limit

    def full(self, limit: int) -> bool:
        """Whether no more of it should be read for now."""
        return self.blocked or self.buffered > limit

    def block(self, blocked: bool) -> None:
        """The one who takes it has no room, or has room again."""
        self.blocked = blocked
        if self.on_flow is not None:
            self.on_flow()

    def attach(self, sink: BodySink) -> None:
        """Hand over what is buffered and pass on what comes."""
        self._sink = sink
        chunks, self._chunks, self.buffered = self._chunks, [], 0
        for chunk in chunks:
            sink.body_data(chunk)
        if self.complete:
            sink.body_end()
        elif self.failed:
            sink.body_failed()
        else:
            self._want()

    def _want(self) -> None:
        wanted, self.on_wanted = self.on_wanted, None
        if wanted is not None:
            wanted()
        if self.on_flow is not None:
            self.on_flow()

    def feed(self, data: bytes) -> None:
        """A piece has arrived."""
        self.received += len(data)
        if self.limit is not None and self.received > self.limit:
            self.fail()
        elif self._sink is not None:
            self._sink.body_data(data)
        else:
            self._chunks.append(data)
            self.buffered += len(data)

    def end(self) -> None:
        """The body is complete."""
        if self.too_long:
            return  # it has failed
        self.complete = True
        if self._sink is not None:
            self._sink.body_end()

    def fail(self) -> None:
        """The client left before the body was complete."""
        if self.complete or self.failed:
            return
        self.failed = True
        if self._sink is not None:
            self._sink.body_failed()


class Exchange:
    """A request on its way through the pipeline.

    `headers` have lowercase names and no `Host`; `authority` is the request's host in lowercase, with port.
    `body` is None when the request has none. `raw` are the request's own bytes when they came in one piece
    on h1, or the key the engine made of an h2 request: identical bytes mean an identical request. `trace`
    names the answer, once there is one; `trouble` says in a word or ten why it is an error.

    `upgrade` is the lowercase token of the protocol that the client wants to go on with (`websocket`), b"" if
    none: by `Upgrade` on h1, by an extended CONNECT on h2 (RFC 8441), in both cases presented as a GET. Its
    body is what the client sends once it has been answered with 101; any other answer leaves it HTTP.
    """

    __slots__ = (
        "authority",
        "body",
        "conn",
        "headers",
        "method",
        "notes",
        "raw",
        "received_s",
        "stream",
        "target",
        "trace",
        "trouble",
        "upgrade",
    )

    def __init__(
        self,
        conn: ConnectionInfo,
        stream: Stream,
        method: bytes,
        authority: bytes,
        target: bytes,
        headers: Headers,
        received_s: float,
    ) -> None:
        self.conn = conn
        self.stream = stream
        self.method = method
        self.authority = authority
        self.target = target
        self.headers = headers
        self.body: RequestBody | None = None
        self.raw: object | None = None
        self.received_s = received_s
        self.notes: object | None = None
        self.trace = b""
        self.trouble = b""
        self.upgrade = b""

    def decline_upgrade(self) -> None:
        """The request is one like any other (RFC 9110 §7.8: an upgrade may be ignored)."""
        if self.upgrade:
            self.upgrade, self.body = b"", None


class HotEntry(Protocol):
    """What a request seen before is answered with, byte for byte the same request.

    Either a response prepared to be written at once (see `atoll.edge.hot`), or, if `replays`, all that was
    made of the request, to be answered by someone (see `atoll.edge.function`).
    """

    @property
    def replays(self) -> bool:
        """Whether `replay` is what answers."""

    @property
    def rest(self) -> bytes:
        """What follows what `h1` gives: content too long to be put together with its head each time."""

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly; always the same."""

    @property
    def wanted(self) -> bool:
        """Whether it has been asked for lately."""

    def release(self) -> None:
        """Nobody finds it any more."""

    def replay(self, conn: ConnectionInfo, stream: Stream, now_s: float) -> None:
        """Answer the request again, on `stream`."""

    def h1(self, now_s: float) -> bytes | None:
        """The whole response for HTTP/1.1, or None when it must not be served any more."""

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        """Fields (with `date` and `age`) and body for HTTP/2, or None as above."""


class App(Protocol):
    """What engines call: the edge, or the bindings server."""

    limits: Limits
    draining: bool

    def opened(self, conn: ConnectionInfo) -> None:
        """A connection is about to be read from: all is known of it that its requests share."""

    def handle(self, exchange: Exchange) -> None:
        """A request has arrived; its body may still be on the way."""

    def hot(self, key: object) -> HotEntry | None:
        """What an identical request was answered with from the cache, if that may be repeated."""

    def count_hot(self, conn: ConnectionInfo, entry: HotEntry, now_s: float) -> None:
        """A hot response has been written: log and count it."""

    def refused(self, conn: ConnectionInfo, status: int, reason: str) -> None:
        """A request was refused by the engine: log and count it."""
