"""Bytes of HTTP/1.1 as requests (RFC 9112), on httptools (llhttp).

llhttp refuses most of what smuggles (CL with TE, bare line ends, obs-fold); what it lets through is judged in
`atoll.http.h1_request`. Whoever feeds it says what becomes of a request and of a refusal. Trailers and chunk
extensions are bounded here: the parser keeps a field until it is complete, however long.
"""

from __future__ import annotations

from time import time
from typing import Final, cast

import httptools

from atoll.http.exchange import App, ConnectionInfo, Exchange, RequestBody
from atoll.http.fields import Headers
from atoll.http.h1_request import NO_BODY, Framing, Refused, framing, upgrade_token, where
from atoll.http.h1_stream import H1Stream
from atoll.http.pace import Outflow
from atoll.http.trailers import allowed_trailers

_HOT_MAX_HEAD: Final = 2048
_PART: Final = 4096  # bytes parsed before it is asked whether more requests may wait
_LINE_END: Final = b"\r\n"


class RequestReader:
    """The reading half of a connection. The parser's callbacks (`on_*`) build one request after the other."""

    def __init__(self, app: App, info: ConnectionInfo, trusted: bool) -> None:
        self.app = app
        self.info = info
        self.trusted = trusted  # the bindings socket: absolute-form targets say which scheme is meant
        self._parser = httptools.HttpRequestParser(self)
        self._current: H1Stream | None = None  # whose response is being written
        self._served = 0
        self._most = app.limits.h1_requests
        self._head_size = 0
        self._seen = b""  # the request's bytes, from their first; or blank lines before it
        self._line = app.limits.target + 256
        self._in_message = False
        self._target = b""
        self._headers: Headers = []
        self._host: bytes | None = None
        self._refusal: tuple[int, str] | None = None
        self._exchange: Exchange | None = None
        self._raw: bytes | None = None
        self._deaf = False  # whatever follows an ignored Upgrade is no HTTP/1.1
        self._trailers: Headers = []
        self._unparsed = 0  # bytes of a body that follow all the same
        self._body_left = 0  # bytes of a body of known length that have not come yet
        self._upload = Outflow()  # the other way: what the client sends of a body
        self._turned: Refused | None = None
        self._began_s = 0.0
        self._field_bytes = 0
        self._silent = 0  # bytes of a body's framing since its last content
        self._early = b""  # of an upgraded protocol, in the piece that ended its request

    # --- what the other half does

    def _new_stream(self, method: bytes) -> H1Stream:
        """Where the response to the next request goes."""
        raise NotImplementedError

    def _dispatch(self, exchange: Exchange) -> None:
        """A request is there; its body may still be on the way."""
        raise NotImplementedError

    def _refuse(self, status: int, reason: str) -> None:
        """What has been read is no request, or one too many."""
        raise NotImplementedError

    def _manage_reading(self) -> None:
        """Somebody takes a body, or does not."""
        raise NotImplementedError

    # --- reading

    def _part_end(self, data: bytes, start: int) -> int:
        """How far to parse at once: a request begins where a part begins, or its line could not be judged."""
        most = start + _PART
        if self._body_left:
            return min(most, start + self._body_left)
        if self._in_message and data[start] in _LINE_END:  # it may be what completes a head, or a last chunk
            rest = data[start:most].lstrip(_LINE_END)
            return min(most, len(data)) - len(rest)
        end = data.find(b"\r\n\r\n", start, most)
        return most if end < 0 else end + 4

    def _parse(self, data: bytes) -> None:
        if self._in_message and self._exchange is None:
            self._head_size += len(data)  # of a head that has begun before; see `on_message_begin`
            if len(self._seen) < self._line:
                self._seen += data
        else:
            self._seen = data
            # Only a request that came in one piece, on a quiet connection, can be recognised later.
            self._raw = data if self._current is None and len(data) <= _HOT_MAX_HEAD else None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # RFC 9110 §7.8: ignored; the request has been dispatched and its response says `close`. Its body
            # is what follows, as the parser sees it.
            rest = data[upgrade.args[0] :]
            if self._exchange is not None and self._exchange.upgrade:
                self._early = rest
            else:
                self._deaf = True
                self._take_unparsed(rest)
            return
        except httptools.HttpParserError as error:
            if self._refusal is None:
                self._refusal = (400, str(error) or "malformed request")
        if self._refusal is not None:
            self._refuse(*self._refusal)
        elif self._in_message and self._silent_too_long(len(data)):
            self._refuse(431, "too much framing around too little content")
        elif self._in_message and self._exchange is None and self._head_size > self.app.limits.head:
            self._refuse(431, "request head too large")

    def _take_unparsed(self, data: bytes) -> None:
        """The body of a request whose upgrade is ignored: as many bytes as it has announced."""
        piece = data[: self._unparsed]
        self._unparsed -= len(piece)
        body = self._exchange.body if self._exchange is not None else None
        if body is not None and piece:
            body.feed(piece)
            if not self._unparsed:
                self._in_message = False
                body.end()

    def _silent_too_long(self, received: int) -> bool:
        """Trailers and chunk extensions: the parser keeps a field until it is complete, however long."""
        self._silent = 0 if self._silent < 0 or self._exchange is None else self._silent + received
        return self._silent > self.app.limits.head

    # --- parser callbacks

    def on_message_begin(self) -> None:
        self._began_s = time()
        self._field_bytes = self._silent = self._head_size = 0
        if self._in_message or self._current is not None:
            self._raw = None  # several requests in one piece
        self._in_message = True
        self._target = b""
        self._headers = []
        self._host = None
        self._exchange = None
        if self._trailers:
            self._trailers = []

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self.app.limits.target:
            self._fail(414, "target too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._field_bytes += len(name) + len(value) + 4
        if self._field_bytes > self.app.limits.head:
            self._fail(431, "request head too large")
        name = name.lower()
        value = value.strip(b" \t")
        if self._exchange is not None:
            self._trailers.append((name, value))  # never merged into the head (RFC 9110 §6.5.1)
            if len(self._trailers) > self.app.limits.fields:
                self._fail(431, "too many trailer fields")
            return
        if name == b"host":
            if self._host is not None:
                self._fail(400, "more than one Host")
            self._host = value
            return
        self._headers.append((name, value))
        if len(self._headers) > self.app.limits.fields:
            self._fail(431, "too many fields")

    def on_headers_complete(self) -> None:
        version = self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            self._fail(505, "HTTP/1.1 is spoken here")
        try:
            self._take_head(version)
        except Refused as refused:
            self._fail(refused.status, refused.reason)

    def _take_head(self, version: str) -> None:
        if self._turned is not None:
            raise self._turned
        parser, version10 = self._parser, version == "1.0"
        stream = self._new_stream(parser.get_method())
        # One space each, and no protocol but HTTP: the parser knows others, and would not say.
        line = b"%b %b HTTP/1.%b\r\n" % (stream.method, self._target, b"0" if version10 else b"1")
        if not self._seen.lstrip(_LINE_END).startswith(line):
            raise Refused(400, "malformed request line")
        authority, target, scheme = where(stream.method, self._target, self._host, version10, self.trusted)
        if scheme and self.trusted:
            self._headers.append((b"atoll-scheme", scheme))
        body = framing(self._headers, version10, self.app.limits.body)
        leaves = parser.should_upgrade()
        stream.keep_alive = parser.should_keep_alive() and not leaves and self._served < self._most
        stream.version10 = version10
        if body is not NO_BODY:
            stream.awaited, stream.takes_trailers = body.awaited, body.takes_trailers
        exchange = Exchange(self.info, stream, stream.method, authority, target, self._headers, time())
        if body.length or body.chunked:
            self._body_left = body.length
            self._expect_body(exchange, stream)
        if leaves:
            self._read_upgrade(exchange, stream, body)
        self._exchange = exchange
        if body.length or body.chunked:
            self._dispatch(exchange)

    def _expect_body(self, exchange: Exchange, stream: H1Stream) -> None:
        exchange.body = body = RequestBody()
        body.on_flow = self._manage_reading
        self._upload.moved()
        if stream.awaited:
            body.on_wanted = stream.go_ahead
        self._raw = None

    def _read_upgrade(self, exchange: Exchange, stream: H1Stream, body: Framing) -> None:
        """Which protocol the client would go on with; with a body, or to HTTP itself, it is ignored."""
        if stream.method == b"CONNECT":
            raise Refused(501, "no tunnels are made here")
        if body.chunked:
            raise Refused(501, "no upgrade with a chunked body")
        self._unparsed = body.length
        token = upgrade_token(self._headers)
        if not token or body.length or stream.version10 or self.trusted or stream.method != b"GET":
            return
        exchange.upgrade = token
        exchange.body = RequestBody()
        exchange.body.on_flow = self._manage_reading
        stream.offers = True
        stream.keep_alive = self._parser.should_keep_alive() and self._served < self._most
        self._raw = None

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        self._silent = -1
        self._body_left = max(0, self._body_left - len(body))
        if exchange is None or exchange.body is None:
            return
        if exchange.body.received + len(body) > self.app.limits.body:
            exchange.body.fail()
            self._fail(413, "body too large")
        exchange.body.feed(body)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if self._unparsed or (exchange is not None and exchange.upgrade):
            return  # only the head was parsed
        self._in_message = False
        if exchange is None:
            return
        if exchange.body is not None:
            if self._trailers:
                exchange.body.trailers = allowed_trailers(self._trailers)
            exchange.body.end()
            return
        stream = cast(H1Stream, exchange.stream)
        if stream.keep_alive and not stream.version10 and stream.method == b"GET":
            raw = self._raw
            if raw is not None and raw.find(b"\r\n\r\n") == len(raw) - 4:  # one request and nothing else
                exchange.raw = raw  # it may be recognised: what follows is the same every time
        self._raw = None
        self._dispatch(exchange)

    def _fail(self, status: int, reason: str) -> None:
        """End parsing with a refusal: the exception leaves the parser, `_parse` answers."""
        self._refusal = (status, reason)
        raise ValueError(reason)
