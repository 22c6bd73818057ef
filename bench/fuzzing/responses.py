"""Responses to begin with: what an origin might say to answer somebody else's request as well. Pure."""

from __future__ import annotations

from random import Random
from typing import Final

_NEXT: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
_END: Final = b"0\r\n\r\n"

_LINES: Final = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 200 ", b"HTTP/1.0 200 OK", b"HTTP/1.1  200 OK",
    b"HTTP/1.1 200  OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 200\tOK", b" HTTP/1.1 200 OK", b"HTTP/1.1 2000 OK",
    b"HTTP/1.1 20 OK", b"HTTP/1.1 2OO OK", b"HTTP/1.1 -200 OK", b"HTTP/1.1 +200 OK", b"HTTP/1.1 0 OK",
    b"HTTP/1.1 099 OK", b"HTTP/1.1 600 OK", b"HTTP/1.1 999 OK", b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 102 Processing", b"HTTP/1.1 103 Early Hints",
    b"HTTP/1.1 199 x", b"HTTP/1.1 204 No Content", b"HTTP/1.1 205 Reset Content",
    b"HTTP/1.1 206 Partial Content", b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 404 Not Found",
    b"HTTP/1.1 500 x\rX: y", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 \xe9", b"HTTP/1.1 200 OK\r",
    b"HTTP/2.0 200 OK", b"HTTP/1.2 200 OK", b"HTTP/0.9 200 OK", b"ICY 200 OK", b"RTSP/1.0 200 OK",
    b"http/1.1 200 OK", b"HTTP/1.1", b"", b"200 OK", b"<html>", b"HTTP /1.1 200 OK",
)  # fmt: skip
_LENGTHS: Final = (
    b"0", b"3", b"+3", b"-3", b"3, 3", b"3, 4", b"0x3", b"03", b"3 ", b"3.0", b"", b"\x0b3", b"3\x00",
    b"1_0", b"3;", b"4294967299", b"18446744073709551619", b"9" * 40, b"\xb2", b'"3"',
)  # fmt: skip
_CODINGS: Final = (
    b"chunked", b"Chunked", b"xchunked", b"chunked, identity", b"identity, chunked", b"gzip, chunked",
    b"chunked, gzip", b"chunked, chunked", b",chunked", b"chunked,", b"\x0bchunked", b"chunked\x00",
    b"identity", b"gzip", b"", b"cow", b"chunked;q=1", b"chunked\r\n ",
)  # fmt: skip
_SIZES: Final = (
    b"3", b"03", b"0x3", b"+3", b"-3", b" 3", b"3 ", b"3;a=b", b"3;", b"3;a\nb", b"3\x00", b"3g", b"",
    b"f" * 17, b"10000000000000003", b"3\n", b"3\r", b"3;" + b"a" * 300,
)  # fmt: skip
_FIELDS: Final = (
    b"X: y", b"X:y", b"X:", b"X : y", b": y", b"X", b"X y: z", b"X: \x00", b"X: \x01", b"X: \xe9",
    b"X: a\rb", b"X: a\nb", b"X: a\r\n b", b"X\x00: y", b"   ", b"x_y: z", b"X: " + b"y" * 300,
    b"Connection: close", b"Connection: keep-alive", b"Connection: upgrade\r\nUpgrade: x",
    b"Connection: upgrade\r\nUpgrade: evil", b"Upgrade: x", b"Connection: x, content-length",
    b"Set-Cookie: a=b", b"Cache-Control: max-age=60", b"Vary: *", b"Date: Sun, 06 Nov 1994 08:49:37 GMT",
    b"ETag: \"a\"", b"Trailer: X", b"Location: /\xe9", b"Proxy-Connection: keep-alive",
    b"Keep-Alive: timeout=5", b"HTTP/1.1 200 OK", b"Content-Length : 3", b"Transfer-Encoding : chunked",
    b"Content_Length: 3", b"Content-Encoding: gzip",
)  # fmt: skip
_TRAILERS: Final = (
    b"", b"X: y\r\n", b"Content-Length: 5\r\n", b"Set-Cookie: a=b\r\n", b"X y\r\n", b"X: y\n",
    b"X: y\r\n z\r\n", b"\n",
)  # fmt: skip

_SWITCHES: Final = (
    (b"Connection: Upgrade", b"Upgrade: x"),
    (b"Connection: Upgrade", b"Upgrade: X"),
    (b"Connection: keep-alive, Upgrade", b"Upgrade: x"),
    (b"Connection: Upgrade", b"Upgrade: x, y"),
    (b"Connection: Upgrade", b"Upgrade: x", b"Upgrade: x"),
    (b"Connection: Upgrade", b"Upgrade: x", b"Transfer-Encoding: chunked"),
    (b"Connection: Upgrade", b"Upgrade: x", b"Content-Length: 3"),
    (b"Connection: close", b"Upgrade: x"),
    (b"Upgrade: x",),
    (b"Connection: Upgrade",),
)

WORDS: Final = (
    *_LINES, *_LENGTHS, *_CODINGS, *_SIZES, *_FIELDS,
    *(b"Content-Length: " + length for length in _LENGTHS),
    *(b"Transfer-Encoding: " + coding for coding in _CODINGS), b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ",
    b"\0", _END, _NEXT,
)  # fmt: skip


def _message(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((line, *fields, b"", body))


def seeds() -> list[bytes]:
    """What comes on one connection to an origin that was asked once."""
    ok, three, chunked = b"HTTP/1.1 200 OK", b"Content-Length: 3", b"Transfer-Encoding: chunked"
    whole = b"3\r\nabc\r\n" + _END
    found = [_message(line, three, body=b"abc") for line in _LINES]
    found += [_message(line, body=b"") + _NEXT for line in _LINES]
    found += [_message(ok, field, three, body=b"abc") for field in _FIELDS]
    found += [_message(ok, field, chunked, body=whole) for field in _FIELDS]
    found += [_message(ok, b"Content-Length: " + length, body=b"abc") for length in _LENGTHS]
    found += [_message(ok, b"Transfer-Encoding: " + coding, body=whole) for coding in _CODINGS]
    found += [_message(ok, three, b"Transfer-Encoding: " + coding, body=whole) for coding in _CODINGS]
    found += [_message(ok, chunked, body=size + b"\r\nabc\r\n" + _END) for size in _SIZES]
    found += [_message(ok, chunked, body=b"3\r\nabc\r\n0\r\n" + trailer + b"\r\n") for trailer in _TRAILERS]
    found += [
        _message(ok, three, body=b"abc") + _NEXT,
        _message(ok, three, body=b"abcdef"),
        _message(ok, three, body=b"abc\r\n"),
        _message(ok, three, body=b"ab"),
        _message(ok, body=b"until the end"),
        _message(ok, chunked, body=whole) + _NEXT,
        _message(ok, chunked, body=b"3\r\nab"),
        _message(ok, three, three, body=b"abc"),
        _message(ok, three, b"Content-Length: 4", body=b"abcd"),
        _message(ok, chunked, chunked, body=whole),
        _message(b"HTTP/1.0 200 OK", chunked, body=whole),
        _message(b"HTTP/1.1 204 No Content", three, body=b"abc"),
        _message(b"HTTP/1.1 304 Not Modified", three, body=b"abc"),
        _message(b"HTTP/1.1 204 No Content", chunked, body=whole),
        _message(b"HTTP/1.1 100 Continue") + _message(ok, three, body=b"abc"),
        _message(b"HTTP/1.1 103 Early Hints", b"Link: </a>") * 3 + _message(ok, three, body=b"abc"),
        _message(b"HTTP/1.1 100 Continue", three, body=b"abc") + _NEXT,
        _message(b"HTTP/1.1 101 x", b"Connection: upgrade\r\nUpgrade: x", body=b"raw"),
        _message(b"HTTP/1.1 101 x", b"Connection: upgrade\r\nUpgrade: x", three, body=b"abc") + _NEXT,
        _message(b"HTTP/1.1 103 Early Hints")
        + _message(b"HTTP/1.1 101 x", b"Connection: upgrade\r\nUpgrade: x"),
        *(_message(b"HTTP/1.1 101 x", *fields, body=b"raw \x81\x00") for fields in _SWITCHES),
        *(_message(b"HTTP/1.1 101 x", *fields) + _NEXT for fields in _SWITCHES),
        b"\r\n" + _NEXT,
        _NEXT.replace(b"\r\n", b"\n"),
        _message(ok, *(b"X%d: y" % n for n in range(150)), three, body=b"abc"),
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
        b"",
    ]
    return found


def grammar(rng: Random) -> bytes:
    """Interim responses, a final one, and perhaps more than was asked for."""
    parts = [b"HTTP/1.1 103 x\r\nLink: </a>\r\n\r\n"] * rng.choice((0, 0, 0, 1, 2))
    for _ in range(rng.choice((1, 1, 1, 2))):
        line = b"HTTP/1.1 200 OK" if rng.random() < 0.6 else rng.choice(_LINES)
        fields = [rng.choice(_FIELDS) for _ in range(rng.choice((0, 0, 1, 2)))]
        body = b"abc"
        if rng.random() < 0.6:
            fields.append(b"Content-Length: " + (b"3" if rng.random() < 0.7 else rng.choice(_LENGTHS)))
        if rng.random() < 0.4:
            fields.append(
                b"Transfer-Encoding: " + (b"chunked" if rng.random() < 0.7 else rng.choice(_CODINGS))
            )
            body = (
                (b"3" if rng.random() < 0.7 else rng.choice(_SIZES))
                + b"\r\nabc\r\n0\r\n"
                + rng.choice(_TRAILERS)
            )
            body += b"\r\n"
        rng.shuffle(fields)
        parts.append(_message(line, *fields, body=body))
    return b"".join(parts)
