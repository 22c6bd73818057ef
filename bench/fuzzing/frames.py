"""Frames of HTTP/2 to begin with, and changes that keep most of them readable (RFC 9113). Pure."""

from __future__ import annotations

from random import Random
from typing import Final

from atoll.http import h2_wire as h2
from atoll.http.fields import Headers
from atoll.http.hpack import encode
from bench.fuzzing.mutate import MOST

_BASE: Final[Headers] = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"h"),
    (b":path", b"/a"),
]
_POST: Final[Headers] = [(b":method", b"POST"), *_BASE[1:]]
_OK: Final[Headers] = [(b":status", b"200"), (b"content-length", b"3")]
_FLAGS: Final = (
    0,
    0,
    h2.END_STREAM,
    h2.END_HEADERS,
    h2.END_STREAM | h2.END_HEADERS,
    h2.PADDED,
    h2.WITH_PRIORITY,
    0xFF,
)
_STREAMS: Final = (0, 1, 1, 1, 2, 3, 3, 5, 7, 9, 2**31 - 1, 2**31, 2**31 + 1)
_LENGTHS: Final = (0, 1, 4, 5, 6, 8, 9, 255, 16_384, 16_385, 2**24 - 1)
_SETTINGS: Final[tuple[dict[int, int], ...]] = (
    {}, {1: 0}, {1: 2**32 - 1}, {2: 1}, {2: 2}, {3: 0}, {3: 1}, {4: 0}, {4: 1}, {4: 2**31 - 1}, {4: 2**31},
    {5: 16_384}, {5: 1}, {5: 2**24 - 1}, {5: 2**24}, {6: 1}, {8: 0}, {8: 1}, {8: 2}, {9: 1}, {0: 0},
    {65_535: 2**32 - 1},
)  # fmt: skip
_WINDOWS: Final = (0, 1, 65_535, 2**31 - 1, 2**31)

FIELDS: Final[Headers] = [
    (b"x", b"y"), (b"X", b"y"), (b"x", b"\r\ny: z"), (b"x\r\ny", b"z"), (b"x: y\r\nz", b""), (b"x", b"\0"),
    (b"x", b"a\nb"), (b"x", b"a\rb"), (b"", b"y"), (b"x", b""), (b"x", b" y"), (b"x", b"y "),
    (b"x", b"\ty"), (b"x y", b"z"), (b"x:", b"y"), (b":x", b"y"), (b":method", b"GET"), (b":path", b"/b"),
    (b":authority", b"evil"), (b":scheme", b"https"), (b":status", b"200"), (b":protocol", b"websocket"),
    (b"host", b"h"), (b"host", b"evil"), (b"host", b""), (b"connection", b"close"),
    (b"connection", b"upgrade"), (b"upgrade", b"websocket"), (b"keep-alive", b"1"),
    (b"proxy-connection", b"x"), (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity"),
    (b"te", b"trailers"), (b"te", b"gzip"), (b"content-length", b"3"), (b"content-length", b"0"),
    (b"content-length", b"4"), (b"content-length", b"+3"), (b"content-length", b"3, 3"),
    (b"content-length", b"9" * 30), (b"content-length", b""), (b"cookie", b"a=b"), (b"cookie", b"c=d; e"),
    (b"expect", b"100-continue"), (b"expect", b"x"), (b"trailer", b"x"), (b"http2-settings", b"AA"),
    (b"content-type", b"application/grpc"), (b"x-forwarded-for", b"1.2.3.4"), (b"atoll-trace", b"1"),
    (b"\xe9", b"y"), (b"x", b"\x01"), (b"x", b"a\x0bb"), (b"x", b"a\x0c"), (b"x", b"\x7f"),
    (b"x\x7f", b"y"), (b"x\x0b", b"y"), (b"x", b"\xe9"), (b"x", b"y" * 3000), (b"x" * 3000, b"y"),
    (b"x_y", b"z"), (b"range", b"bytes=0-1"), (b"via", b"2 x"),
]  # fmt: skip
PSEUDO: Final[Headers] = [
    (b":path", b"/b"), (b":path", b""), (b":path", b"*"), (b":path", b"a"), (b":path", b"/a b"),
    (b":path", b"/a\r\nX: y"), (b":path", b"/a HTTP/1.1\r\nHost: evil\r\n\r\n"), (b":path", b"/\xe9"),
    (b":path", b"/#x"), (b":path", b"http://evil/a"), (b":path", b"//evil/"),
    (b":path", b"/" + b"a" * 9000), (b":authority", b""), (b":authority", b"evil"),
    (b":authority", b"h:80"), (b":authority", b"u@h"), (b":authority", b"h\r\nX: y"),
    (b":authority", b"h/a"), (b":authority", b"H"), (b":authority", b"[::1]:80"),
    (b":method", b"GET / HTTP/1.1\r\nX:"), (b":method", b"get"), (b":method", b""),
    (b":method", b"CONNECT"), (b":method", b"OPTIONS"), (b":method", b"HEAD"), (b":method", b"POST"),
    (b":method", b"G\0T"), (b":method", b"PRI"), (b":scheme", b""), (b":scheme", b"ftp"),
    (b":scheme", b"http\r\nX: y"), (b":protocol", b"websocket"), (b":protocol", b"x\r\ny: z"),
    (b":protocol", b""),
]  # fmt: skip


def _headers(stream: int, fields: Headers, end: bool = True) -> bytes:
    return h2.header_frames(stream, encode(fields), end)


def _data(stream: int, data: bytes, end: bool = True) -> bytes:
    return h2.frame(h2.DATA, h2.END_STREAM if end else 0, stream, data)


def client_seeds() -> list[list[bytes]]:
    """What a client sends behind its preface, as lists of frames."""
    start = h2.settings({})
    ack = h2.frame(h2.SETTINGS, h2.ACK, 0)
    found = [[h2.settings(values), _headers(1, _BASE)] for values in _SETTINGS]
    found += [[start, _headers(1, [*_BASE, field])] for field in FIELDS]
    found += [[start, _headers(1, [*_POST, field], False), _data(1, b"abc")] for field in FIELDS]
    found += [[start, _headers(1, _replaced(_BASE, field))] for field in PSEUDO]
    found += [[start, _headers(1, [field for field in _BASE if field[0] != name])] for name, _ in _BASE]
    found += [
        [start, _headers(1, _BASE), h2.window_update(stream, by)] for stream in (0, 1) for by in _WINDOWS
    ]
    block = encode([*_POST, (b"x", b"y" * 50)])
    split = [
        h2.frame(h2.HEADERS, 0, 1, block[:20]),
        h2.frame(h2.CONTINUATION, 0, 1, block[20:40]),
        h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, block[40:]),
    ]
    found += [
        [start, ack, _headers(1, _BASE), _headers(3, _BASE), _headers(5, _BASE)],
        [start, *split, _data(1, b"abc", False), _data(1, b"def")],
        [start, *split[:2], _data(1, b"abc")],
        [start, split[0], h2.frame(h2.PING, 0, 0, b"12345678"), *split[1:]],
        [start, _headers(1, _POST, False), _data(1, b"abc", False), _headers(1, [(b"x", b"trailer")])],
        [start, _headers(1, _POST, False), _headers(1, [(b":path", b"/x")])],
        [start, _headers(1, [*_POST, (b"content-length", b"3")], False), _data(1, b"abcd")],
        [start, _headers(1, [*_POST, (b"content-length", b"3")], False), _data(1, b"ab")],
        [start, _headers(1, _BASE), h2.reset(1, h2.CANCEL), _headers(3, _BASE), h2.reset(3, h2.CANCEL)],
        [start, *(part for n in range(1, 61, 2) for part in (_headers(n, _BASE), h2.reset(n, h2.CANCEL)))],
        [start, *(h2.frame(h2.PING, 0, 0, b"12345678") for _ in range(30))],
        [start, *(h2.settings({4: n}) for n in range(30))],
        [start, _headers(1, _POST, False), *(_data(1, b"", False) for _ in range(30))],
        [start, h2.frame(h2.PRIORITY, 0, 1, b"\0\0\0\1\0"), _headers(1, _BASE)],
        [start, h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\2" + encode(_BASE))],
        [start, h2.goaway(0, 0), _headers(1, _BASE)],
        [start, h2.frame(h2.HEADERS, 0x2D, 1, b"\3\0\0\0\0\1" + encode(_BASE) + b"\0\0\0")],
        [start, h2.frame(0x55, 0xFF, 7, b"unknown"), _headers(1, _BASE)],
        [start, _headers(2, _BASE)],
        [start, _headers(5, _BASE), _headers(3, _BASE)],
        [start, _data(1, b"abc")],
        [start, h2.frame(h2.HEADERS, 0x5, 1, b"\xbe\xff\xff\xff\xff\xff\x7f")],
        [start, h2.frame(h2.HEADERS, 0x5, 1, b"\x3f\xe1\xff\x03" + encode(_BASE))],
        [
            start,
            _headers(1, [*_BASE[1:], (b":method", b"CONNECT"), (b":protocol", b"websocket")], False),
            _data(1, b"raw", False),
        ],
        [_headers(1, _BASE)],
        [],
    ]
    return found


def _replaced(fields: Headers, field: tuple[bytes, bytes]) -> Headers:
    return [*(kept for kept in fields if kept[0] != field[0]), field]


def origin_seeds() -> list[list[bytes]]:
    """What an origin sends to somebody who has asked on streams 1, 3 and 5."""
    start = h2.settings({})
    found = [[h2.settings(values), _headers(1, _OK, False), _data(1, b"abc")] for values in _SETTINGS]
    found += [[start, _headers(1, [*_OK, field], False), _data(1, b"abc")] for field in FIELDS]
    found += [[start, _headers(1, [(b":status", status)])] for status in _STATUSES]
    found += [
        [start, h2.window_update(stream, by), _headers(1, _OK[:1])] for stream in (0, 1) for by in _WINDOWS
    ]
    found += [
        [start, *(_headers(n, _OK, False) + _data(n, b"abc") for n in (1, 3, 5))],
        [
            start,
            _headers(1, [(b":status", b"103"), (b"link", b"</a>")], False),
            _headers(1, _OK, False),
            _data(1, b"abc"),
        ],
        [start, _headers(1, _OK, False), _data(1, b"abcd")],
        [start, _headers(1, _OK, False), _data(1, b"ab")],
        [start, _headers(1, _OK, False), _data(1, b"abc", False), _headers(1, [(b"x", b"y")])],
        [start, _headers(1, _OK, False), _headers(1, [(b"content-length", b"9")])],
        [start, _data(1, b"abc")],
        [start, _headers(7, _OK)],
        [start, _headers(2, _OK)],
        [start, h2.reset(1, h2.REFUSED_STREAM), h2.reset(3, h2.CANCEL)],
        [start, h2.goaway(1, 0), _headers(1, _OK, False), _data(1, b"abc")],
        [start, h2.frame(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\2" + encode(_BASE))],
        [start, *(h2.frame(h2.PING, 0, 0, b"12345678") for _ in range(40))],
        [start, h2.frame(h2.HEADERS, 0x1, 1, encode(_OK)), h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, b"")],
        [start, h2.frame(h2.HEADERS, 0x5, 1, b"\xbe")],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"],
        [],
    ]
    return found


_STATUSES: Final = (
    b"200",
    b"100",
    b"101",
    b"103",
    b"099",
    b"600",
    b"20",
    b"2000",
    b"",
    b"abc",
    b"204",
    b"304",
    b"+20",
)


def split(data: bytes) -> list[bytes]:
    """Bytes as frames; what is none is the last piece."""
    found, at = [], 0
    while at + 9 <= len(data):
        end = at + 9 + int.from_bytes(data[at : at + 3], "big")
        found.append(data[at:end])
        at = end
    return [*found, data[at:]] if at < len(data) else found


class FrameMutator:
    """Makes sequences of frames out of `seeds`."""

    def __init__(self, seeds: list[list[bytes]], base: Headers) -> None:
        self._seeds = seeds
        self._base = base

    def make(self, rng: Random) -> bytes:
        """What one side sends."""
        frames = [*rng.choice(self._seeds)]
        for _ in range(rng.choice((0, 1, 1, 2, 2, 4))):
            self._change(frames, rng)
        data = b"".join(frames)
        if rng.random() < 0.15 and data:
            at = rng.randrange(len(data))
            data = data[:at] + bytes((rng.randrange(256),)) + data[at + rng.choice((0, 1, 1, 1)) :]
        return data[:MOST]

    def _change(self, frames: list[bytes], rng: Random) -> None:
        at = rng.randrange(len(frames)) if frames else 0
        kind = rng.randrange(10)
        if kind == 0:
            frames[at:at] = rng.choice(self._seeds)
        elif kind == 1:
            frames.insert(at, self._any(rng))
        elif not frames:
            return
        elif kind == 2:
            frames[at:at] = [frames[at]] * rng.choice((1, 2, 20))
        elif kind == 3:
            del frames[at]
        elif kind == 4:
            other = rng.randrange(len(frames))
            frames[at], frames[other] = frames[other], frames[at]
        elif len(frames[at]) >= 9:
            frames[at] = _altered(frames[at], rng)

    def _any(self, rng: Random) -> bytes:
        stream = rng.choice(_STREAMS)
        if rng.random() < 0.4:
            fields = [*self._base]
            for _ in range(rng.choice((0, 1, 2, 3))):
                fields.insert(rng.randint(0, len(fields)), rng.choice(FIELDS + PSEUDO))
            return _headers(stream & h2.MOST_WINDOW, fields, rng.random() < 0.6)
        payload = rng.randbytes(rng.choice((0, 1, 4, 5, 6, 8, 30, 300)))
        return h2.frame(rng.randrange(12), rng.choice(_FLAGS), stream, payload)


def _altered(frame: bytes, rng: Random) -> bytes:
    """Another length, kind, flags, stream or payload; the length fits, mostly."""
    length, kind, flags = int.from_bytes(frame[:3], "big"), frame[3], frame[4]
    stream, payload = int.from_bytes(frame[5:9], "big"), frame[9:]
    what = rng.randrange(6)
    if what == 0:
        length = rng.choice(_LENGTHS)
    elif what == 1:
        kind = rng.randrange(12)
    elif what == 2:
        flags = rng.choice(_FLAGS)
    elif what == 3:
        stream = rng.choice(_STREAMS)
    else:
        at = rng.randint(0, len(payload))
        payload = (
            payload[:at] + rng.randbytes(rng.choice((0, 1, 2))) + payload[at + rng.choice((0, 1, 1, 4)) :]
        )
        length = len(payload)
    return length.to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


REQUEST: Final = _BASE
RESPONSE: Final = _OK
