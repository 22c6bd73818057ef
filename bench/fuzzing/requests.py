"""Requests to begin with: what smuggles or confuses, and what is right but odd (RFC 9112). Pure.

Sources of the attacks are the standard's own warnings (§11) and the classes that have names: CL.TE, TE.CL,
TE.TE, CL.0, 0.CL, header folding, chunk extensions, bare line ends, absolute targets against `Host`.
"""

from __future__ import annotations

from random import Random
from typing import Final

_NEXT: Final = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
_EVIL: Final = b"GET /evil HTTP/1.1\r\nX: y"
_END: Final = b"0\r\n\r\n"

_CODINGS: Final = (
    b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"chunked ", b"\tchunked", b"\x0bchunked",
    b"\x00chunked", b"chunked\x00", b"xchunked", b"chunkedx", b"chunked, identity", b"identity, chunked",
    b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b",chunked", b"chunked,", b", chunked ,",
    b"chunked;q=0.5", b'"chunked"', b"'chunked'", b"cow", b"identity", b"", b"ch\xc3\xbcnked",
    b"chunked\r\n ", b"chun\r\n ked", b"x\nchunked",
)  # fmt: skip
_CODING_NAMES: Final = (
    b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer_Encoding",
    b"Transfer-Encoding ", b" Transfer-Encoding", b"\tTransfer-Encoding", b"X: y\nTransfer-Encoding",
    b"X: y\rTransfer-Encoding", b"Transfer\x00-Encoding", b"Transfer-Encoding\x0b", b"TE",
    b"Transfer-Encodin\xc4\x9f", b"Content-Encoding",
)  # fmt: skip
_LENGTHS: Final = (
    b"0", b"3", b"+3", b"-3", b"3, 3", b"3, 4", b"3,", b",3", b"3;", b"0x3", b"03", b"3 ", b"3\t", b"3.0",
    b"3e0", b"3 3", b"", b"\x0b3", b"3\x00", b"1_0", b"4294967299", b"18446744073709551619", b"9" * 40,
    b"\xb2", b"\xef\xbc\x93", b'"3"', b"3\r\n ", b"NaN",
)  # fmt: skip
_SIZES: Final = (
    b"3", b"03", b"0x3", b"+3", b"-3", b" 3", b"3 ", b"3\t", b"3;a", b"3;a=b", b'3;a="b;c"', b"3;", b"3 ;a",
    b"3;\n", b"3;a\nb", b"3;a\rb", b"3;a\x00", b"3\x00", b"3\x0b", b"3g", b"_3", b"3_0", b"\xb2", b"",
    b"f" * 17, b"ffffffffffffffff", b"10000000000000003", b"0000000000000000000003", b"3;" + b"a" * 300,
    b"3\n", b"3\r",
)  # fmt: skip
_LINES: Final = (
    b"GET /a HTTP/1.1", b"GET /a HTTP/1.0", b"GET /a HTTP/0.9", b"GET /a", b"GET /a HTTP/1.2",
    b"GET /a HTTP/2.0", b"GET /a HTTP/1.10", b"GET /a HTTP/01.1", b"GET /a HTTP/1.1 ", b"GET  /a HTTP/1.1",
    b"GET /a  HTTP/1.1", b"GET\t/a HTTP/1.1", b"GET /a\tHTTP/1.1", b"GET /a b HTTP/1.1",
    b"GET\x0b/a HTTP/1.1", b"get /a HTTP/1.1", b"GET /a http/1.1", b"GET /a HTTP/1,1", b"GET /a HTTP /1.1",
    b"GETX /a HTTP/1.1", b"G@T /a HTTP/1.1", b"GET a HTTP/1.1", b"GET ?a HTTP/1.1", b"GET #a HTTP/1.1",
    b"GET /a#b HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET /%00 HTTP/1.1",
    b"GET /a\\b HTTP/1.1", b"GET //evil/a HTTP/1.1", b"GET /../a HTTP/1.1", b"GET /http://x/ HTTP/1.1",
    b"GET http://h/a HTTP/1.1", b"GET http://evil/a HTTP/1.1", b"GET HTTP://H:80/a HTTP/1.1",
    b"GET https://h/a?b HTTP/1.1", b"GET http://h HTTP/1.1", b"GET http://h?q HTTP/1.1",
    b"GET http://u@h/ HTTP/1.1", b"GET http://h@evil/ HTTP/1.1", b"GET http:///a HTTP/1.1",
    b"GET http:/a HTTP/1.1", b"GET http://h:0080/ HTTP/1.1", b"GET http://[::1]:8/a HTTP/1.1",
    b"GET ftp://h/a HTTP/1.1", b"GET h:80 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"OPTIONS http://h HTTP/1.1",
    b"GET * HTTP/1.1", b"CONNECT h:443 HTTP/1.1", b"CONNECT /a HTTP/1.1", b"HEAD /a HTTP/1.1",
    b"TRACE /a HTTP/1.1", b"DELETE /a HTTP/1.1", b"PROPFIND /a HTTP/1.1", b"PURGE /a HTTP/1.1",
    b"M-SEARCH * HTTP/1.1", b"SOURCE /a ICE/1.0", b"PLAY /a RTSP/1.0", b"PRI * HTTP/2.0",
    b"QUERY /a HTTP/1.1", b"POST /a HTTP/1.1", b"PUT /a HTTP/1.1",
)  # fmt: skip
_FIELDS: Final = (
    b"X: y", b"X:y", b"X:", b"X: \ty\t ", b"X : y", b"X\t: y", b": y", b"X", b"X y: z", b"X\x00: y",
    b"X: \x00", b"X: \x01", b"X: \x7f", b"X: \xe9", b"X: a\rb", b"X: a\nb", b"X: a\r\n b", b"X: a\r\n\tb",
    b"X\xe9: y", b"X(: y", b'X": y', b"X[]: y", b"x_y: z", b"X.Y: z", b"!#$%&'*+-.^_`|~: z", b"   ",
    b"\x0b", b"X: " + b"y" * 200, b"Y" * 200 + b": y", b"Connection: close", b"Connection: keep-alive",
    b"Connection: content-length", b"Connection: host", b"Connection: transfer-encoding",
    b"Connection: close, upgrade", b"Connection: Upgrade\r\nUpgrade: websocket",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    b"Upgrade: websocket",
    b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Connection: upgrade\r\nUpgrade: foo/1, websocket", b"Proxy-Connection: keep-alive",
    b"Keep-Alive: timeout=5", b"Expect: 100-continue", b"Expect: 100-Continue", b"Expect: x",
    b"TE: trailers", b"TE: trailers, chunked;q=0.5", b"Trailer: X", b"Host: h", b"Host: evil", b"Host:",
    b"Host: h:80", b"Host: h:", b"Host: h, h", b"Host: u@h", b"Host: h/a", b"Host : evil", b" Host: evil",
    b"Host: [::1]", b"Cookie: a=b; c=d", b"Range: bytes=0-1", b"X-Forwarded-For: 1.2.3.4",
    b"Content-Type: application/grpc", b"Cache-Control: no-cache", b"HTTP/1.1 200 OK",
    b"GET /evil HTTP/1.1",
)  # fmt: skip
_TRAILERS: Final = (
    b"", b"X: y\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: evil\r\n",
    b"X y\r\n", b"X: y\n", b"X: y\r\n z\r\n", b"X\x00: y\r\n", b"Atoll-Trace: 1\r\n", b"\n",
    b"Y" * 100 + b": y\r\n",
)  # fmt: skip

WORDS: Final = (
    *_CODINGS, *_LENGTHS, *_SIZES, *_LINES, *_FIELDS, *(name + b": chunked" for name in _CODING_NAMES),
    *(b"Content-Length: " + length for length in _LENGTHS), b"Content-Length : 3", b"Content_Length: 3",
    b"Content-Length\x0b: 3", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b" ", b"\t", b"\0", b"0\r\n",
    _END, b"HTTP/1.1", b"http://", b"://", b"h", _NEXT, _EVIL, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01", b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n", b"\r\n\r\n\x00\r\nQUIT\n",
)  # fmt: skip


def _message(line: bytes, *fields: bytes, body: bytes = b"", host: bytes = b"Host: h") -> bytes:
    return b"\r\n".join((line, *((host,) if host else ()), *fields, b"", body))


def _post(*fields: bytes, body: bytes = b"") -> bytes:
    return _message(b"POST /a HTTP/1.1", *fields, body=body)


def seeds() -> list[bytes]:
    """A few hundred connections' worth."""
    found = [_message(line) + _NEXT for line in _LINES]
    found += [_message(b"GET /a HTTP/1.1", field) + _NEXT for field in _FIELDS]
    found += [_post(field, b"Content-Length: 3", body=b"abc") + _NEXT for field in _FIELDS[30:50]]
    found += [_post(b"Content-Length: " + length, body=b"abc" + _NEXT) for length in _LENGTHS]
    found += [
        _post(b"Transfer-Encoding: " + coding, body=b"3\r\nabc\r\n" + _END + _NEXT) for coding in _CODINGS
    ]
    found += [_post(name + b": chunked", b"Content-Length: 5", body=_END + _NEXT) for name in _CODING_NAMES]
    found += [_post(b"Content-Length: 5", name + b": chunked", body=_END + _EVIL) for name in _CODING_NAMES]
    chunked = b"Transfer-Encoding: chunked"
    found += [_post(chunked, body=size + b"\r\nabc\r\n" + _END + _NEXT) for size in _SIZES]
    found += [_post(chunked, body=b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n" + _NEXT) for trailer in _TRAILERS]
    found += [
        _NEXT * 3,
        b"\r\n" + _NEXT,
        b"\r\n\r\n\n" + _NEXT,
        _NEXT.replace(b"\r\n", b"\n"),
        _post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc") + _NEXT,
        _post(b"Content-Length: 3", b"Content-Length: 4", body=b"abcd") + _NEXT,
        _post(chunked, chunked, body=_END + _NEXT),
        _post(b"Content-Length: 6", chunked, body=_END + b"G"),  # CL.TE
        _post(b"Content-Length: 4", chunked, body=b"5c\r\n" + _EVIL + b"\r\n" + _END),  # TE.CL
        _post(chunked, b"Transfer-Encoding: x", body=b"5c\r\n" + _EVIL + b"\r\n" + _END),  # TE.TE
        _message(b"GET /a HTTP/1.1", b"Content-Length: %d" % len(_EVIL), body=_EVIL) + _NEXT,  # CL.0
        _post(b"Content-Length:\r\n 10", body=_EVIL) + _NEXT,  # 0.CL
        _post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc") + _NEXT,
        _post(b"Expect: 100-continue", chunked, body=b"3\r\nabc\r\n" + _END) + _NEXT,
        _message(b"POST /a HTTP/1.0", chunked, body=_END) + _NEXT,
        _message(b"POST /a HTTP/1.0", b"Content-Length: 3", body=b"abc"),
        _message(b"GET /a HTTP/1.0", host=b""),
        _message(b"GET http://evil/a HTTP/1.1", host=b"Host: h") + _NEXT,
        _post(b"Connection: Upgrade\r\nUpgrade: websocket", b"Content-Length: 3", body=b"abc") + _NEXT,
        _post(b"Connection: Upgrade\r\nUpgrade: websocket", chunked, body=b"3\r\nabc\r\n" + _END) + _NEXT,
        _message(b"GET /a HTTP/1.1", b"Connection: Upgrade\r\nUpgrade: x", b"Content-Length: 3", body=b"abc")
        + _NEXT,
        _message(b"CONNECT h:443 HTTP/1.1", b"Content-Length: 3", body=b"abc") + _NEXT,
        _post(chunked, body=b"5\r\nhello\r\n6\r\n world\r\n0\r\nX: y\r\nZ: w\r\n\r\n") + _NEXT,
        _post(b"Content-Length: 5000", body=b"b" * 5000) + _NEXT,
        _message(b"GET /" + b"a" * 3000 + b" HTTP/1.1") + _NEXT,
        _message(b"GET /a HTTP/1.1", *(b"X%d: y" % n for n in range(60))) + _NEXT,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    ]
    return found


def grammar(rng: Random) -> bytes:
    """A connection's bytes put together from parts: one to four requests, most of them nearly right."""
    return b"".join(_request(rng) for _ in range(rng.choice((1, 1, 2, 3, 4))))


def _request(rng: Random) -> bytes:
    line = (
        rng.choice(_LINES) if rng.random() < 0.3 else rng.choice((b"GET /a HTTP/1.1", b"POST /b?c HTTP/1.1"))
    )
    fields = [b"Host: h"] if rng.random() < 0.95 else []
    fields += [rng.choice(_FIELDS) for _ in range(rng.choice((0, 0, 1, 2)))]
    body = b"abc"[: rng.choice((0, 3, 3, 3))]
    if rng.random() < 0.5:
        length = b"%d" % len(body) if rng.random() < 0.7 else rng.choice(_LENGTHS)
        fields.append(b"Content-Length: " + length)
    if rng.random() < 0.4:
        usual = rng.random() < 0.7
        name = b"Transfer-Encoding" if usual else rng.choice(_CODING_NAMES)
        fields.append(name + b": " + (b"chunked" if usual else rng.choice(_CODINGS)))
        body = _chunks(rng)
    rng.shuffle(fields)
    return b"\r\n".join((line, *fields, b"", body))


def _chunks(rng: Random) -> bytes:
    parts = []
    for _ in range(rng.choice((0, 1, 1, 2))):
        size = b"3" if rng.random() < 0.7 else rng.choice(_SIZES)
        parts.append(size + b"\r\nabc\r\n")
    last = rng.choice((b"0", b"0", b"0", b"00", b"0;a", b"0 ", b""))
    trailer = b"" if rng.random() < 0.7 else rng.choice(_TRAILERS)
    return b"".join((*parts, last, b"\r\n", trailer, b"\r\n"))
