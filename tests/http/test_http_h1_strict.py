"""HTTP/1.1 requests that are malformed or that two readers might read differently, and what becomes of each.

Every request is followed by another one on the same connection: what was refused must not leave anything
behind that is taken for a request, and what was understood must end exactly where it ends.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest
from edge_world import World, get, page, world
from test_http_h1 import FakeApp, listen, talk

__all__ = ["world"]

NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


class Case(NamedTuple):
    """`status` of the refusal, or 200 if the request is understood: then with this target and body size.

    `late` when the head is fine, so that the answer may have begun before the body turns out to be broken.
    """

    name: str
    request: bytes
    status: int = 400
    target: bytes = b"/a"
    size: int | None = None
    late: bool = False


def head(
    *lines: bytes, line: bytes = b"GET /a HTTP/1.1", host: bytes = b"Host: h", tail: bytes = b""
) -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *lines, b"", tail])


def body(*lines: bytes, tail: bytes = b"", version: bytes = b"1.1") -> bytes:
    return head(*lines, line=b"POST /a HTTP/" + version, tail=tail)


def chunked(tail: bytes) -> bytes:
    return body(b"Transfer-Encoding: chunked", tail=tail)


END = b"0\r\n\r\n"
CL3 = b"Content-Length: 3"
TE = b"Transfer-Encoding: chunked"

FRAMING = [
    Case("length and chunked", body(CL3, TE, tail=END)),
    Case("chunked and length", body(TE, CL3, tail=END)),
    Case("the same length twice", body(CL3, CL3, tail=b"abc")),
    Case("two lengths", body(CL3, b"Content-Length: 4", tail=b"abcd")),
    Case("list of one length", body(b"Content-Length: 3, 3", tail=b"abc")),
    Case("list of two lengths", body(b"Content-Length: 3, 4", tail=b"abcd")),
    Case("length with plus", body(b"Content-Length: +3", tail=b"abc")),
    Case("length with minus", body(b"Content-Length: -3", tail=b"abc")),
    Case("hexadecimal length", body(b"Content-Length: 0x3", tail=b"abc")),
    Case("fractional length", body(b"Content-Length: 3.0", tail=b"abc")),
    Case("length with exponent", body(b"Content-Length: 3e0", tail=b"abc")),
    Case("empty length", body(b"Content-Length: ")),
    Case("length in two", body(b"Content-Length: 1 2", tail=b"a" * 12)),
    Case("length with underscore", body(b"Content-Length: 1_0", tail=b"a" * 10)),
    Case("length in quotes", body(b'Content-Length: "3"', tail=b"abc")),
    Case("length beyond all bounds", body(b"Content-Length: 9" + b"9" * 30)),
    Case("length that wraps around", body(b"Content-Length: 18446744073709551619", tail=b"abc")),
    Case("length beyond the limit", body(b"Content-Length: 1000000000000"), 413),
    Case("length and a vertical tab", body(b"Content-Length: \x0b3", tail=b"abc")),
    Case("length and a hard space", body(b"Content-Length: 3\xa0", tail=b"abc")),
    Case("length with zeros", body(b"Content-Length: 0003", tail=b"abc"), 200, size=3),
    Case("length between tabs", body(b"Content-Length:\t3\t", tail=b"abc"), 200, size=3),
    Case("length of nothing", body(b"Content-Length: 0"), 200),
    Case("length named by Connection", body(b"Connection: content-length", CL3, tail=b"abc"), 200, size=3),
    Case("identity", body(b"Transfer-Encoding: identity"), 501),
    Case("gzip", body(b"Transfer-Encoding: gzip"), 501),
    Case("gzip, chunked", body(b"Transfer-Encoding: gzip, chunked", tail=END), 501),
    Case("chunked, gzip", body(b"Transfer-Encoding: chunked, gzip", tail=END)),
    Case("chunked, chunked", body(b"Transfer-Encoding: chunked, chunked", tail=END)),
    Case("chunked twice", body(TE, TE, tail=END)),
    Case("chunked and identity", body(TE, b"Transfer-Encoding: identity", tail=END)),
    Case("identity and chunked", body(b"Transfer-Encoding: identity", TE, tail=END), 501),
    Case("xchunked", body(b"Transfer-Encoding: xchunked", tail=END), 501),
    Case("chunkedx", body(b"Transfer-Encoding: chunkedx", tail=END), 501),
    Case("chunked in quotes", body(b'Transfer-Encoding: "chunked"', tail=END), 501),
    Case("chunked behind a comma", body(b"Transfer-Encoding: ,chunked", tail=END), 501),
    Case("chunked with a parameter", body(b"Transfer-Encoding: chunked;q=1", tail=END), 501),
    Case("empty coding", body(b"Transfer-Encoding: ", tail=END)),
    Case("chunked behind a vertical tab", body(b"Transfer-Encoding: \x0bchunked", tail=END)),
    Case("chunked before a NUL", body(b"Transfer-Encoding: chunked\0", tail=END)),
    Case("chunked on a folded line", body(b"Transfer-Encoding:\r\n chunked", tail=END)),
    Case("space before the coding's colon", body(b"Transfer-Encoding : chunked", tail=END)),
    Case("chunked in HTTP/1.0", body(TE, tail=END, version=b"1.0")),
    Case("CHUNKED", body(b"Transfer-Encoding: CHUNKED", tail=END), 200, size=0),
    Case("chunked behind a tab", body(b"Transfer-Encoding:\tchunked", tail=END), 200, size=0),
    Case("Transfer_Encoding", body(b"Transfer_Encoding: chunked"), 200),
    Case("chunked GET", head(TE, tail=b"1\r\na\r\n" + END), 200, size=1),
    Case("GET with a length", head(CL3, tail=b"abc"), 200, size=3),
]

CHUNKS = [
    Case(f"chunk: {name}", chunked(tail), late=True)
    for name, tail in {
        "hexadecimal prefix": b"0x1\r\na\r\n" + END,
        "minus": b"-1\r\na\r\n" + END,
        "plus": b"+1\r\na\r\n" + END,
        "space before": b" 1\r\na\r\n" + END,
        "space behind": b"1 \r\na\r\n" + END,
        "no size": b"\r\na\r\n" + END,
        "no digit": b"g\r\na\r\n" + END,
        "underscore": b"1_0\r\n" + b"a" * 16 + b"\r\n" + END,
        "too long": b"f" * 17 + b"\r\na\r\n" + END,
        "wraps around": b"10000000000000001\r\na\r\n" + END,
        "bare LF everywhere": b"1\na\n0\n\n",
        "bare LF behind the size": b"1\na\r\n" + END,
        "bare LF behind the data": b"1\r\na\n" + END,
        "bare CR": b"1\ra\r\n" + END,
        "longer than said": b"1\r\nab\r\n" + END,
        "shorter than said": b"3\r\na\r\n" + END,
        "LF in an extension": b"1;a\nb\r\na\r\n" + END,
        "CR in an extension": b"1;a\rb\r\na\r\n" + END,
        "NUL in an extension": b"1;a\0\r\na\r\n" + END,
        "extension without a name": b"1;\r\na\r\n" + END,
        "space before an extension": b"1 ;a=b\r\na\r\n" + END,
        "extension without a size": b";a\r\na\r\n" + END,
        "bare LF at the end": b"1\r\na\r\n0\r\n\n",
        "length among the trailers": b"1\r\na\r\n0\r\nContent-Length: 5\r\n\r\n",
        "coding among the trailers": b"1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "trailer without a colon": b"1\r\na\r\n0\r\nX y\r\n\r\n",
        "folded trailer": b"1\r\na\r\n0\r\nX: y\r\n z\r\n\r\n",
        "bare LF behind a trailer": b"1\r\na\r\n0\r\nX: y\n\r\n",
    }.items()
]
CHUNKS += [
    Case("chunk: extension", chunked(b"1;a=b\r\na\r\n" + END), 200, size=1),
    Case("chunk: quoted extension", chunked(b'1;a="b;c"\r\na\r\n' + END), 200, size=1),
    Case("chunk: zeros", chunked(b"0001\r\na\r\n000\r\n\r\n"), 200, size=1),
    Case("chunk: letters", chunked(b"A\r\n" + b"a" * 10 + b"\r\n" + END), 200, size=10),
    Case("chunk: trailer", chunked(b"1\r\na\r\n0\r\nX: y\r\n\r\n"), 200, size=1),
]

LINES = [
    Case("bare LF everywhere", b"GET /a HTTP/1.1\nHost: h\n\n"),
    Case("bare LF behind the request's line", b"GET /a HTTP/1.1\nHost: h\r\n\r\n"),
    Case("bare LF behind a field", b"GET /a HTTP/1.1\r\nHost: h\nX: y\r\n\r\n"),
    Case("bare LF at the end", b"GET /a HTTP/1.1\r\nHost: h\r\n\n"),
    Case("bare CR between fields", b"GET /a HTTP/1.1\r\nHost: h\rX: y\r\n\r\n"),
    Case("bare CR in a value", head(b"X: a\rb")),
    Case("NUL in a value", head(b"X: a\0b")),
    Case("NUL in a name", head(b"X\0Y: a")),
    Case("control character in a value", head(b"X: a\x01b")),
    Case("DEL in a value", head(b"X: a\x7fb")),
    Case("vertical tab in a value", head(b"X: a\x0bb")),
    Case("folded line", head(b"X: a\r\n b")),
    Case("folded line with a tab", head(b"X: a\r\n\tb")),
    Case("folded first field", b"GET /a HTTP/1.1\r\n Host: h\r\n\r\n"),
    Case("folded Host", head(host=b"Host: h\r\n x")),
    Case("line of spaces", head(b"   ")),
    Case("space before the colon", head(b"X : a")),
    Case("tab before the colon", head(b"X\t: a")),
    Case("space before Host's colon", head(host=b"Host : h")),
    Case("no colon", head(b"Xa")),
    Case("no name", head(b": a")),
    Case("8-bit name", head(b"X\xe9: a")),
    Case("bracket in a name", head(b"X(: a")),
    Case("space before the request", b" " + head()),
    Case("8-bit value", head(b"X: \xe9"), 200),
    Case("tab in a value", head(b"X: a\tb"), 200),
    Case("empty value", head(b"X:"), 200),
    Case("a blank line before", b"\r\n" + head(), 200),
    Case("blank lines before", b"\r\n" * 20 + head(), 200),
]

REQUEST_LINES = [
    Case(f"line: {line!r}", head(line=line), status)
    for line, status in {
        b"get /a HTTP/1.1": 400,
        b"G@T /a HTTP/1.1": 400,
        b"FOO /a HTTP/1.1": 400,
        b"A" * 100 + b" /a HTTP/1.1": 400,
        b"GET  /a HTTP/1.1": 400,
        b"GET /a  HTTP/1.1": 400,
        b"GET\t/a\tHTTP/1.1": 400,
        b"GET /a HTTP/1.1 ": 400,
        b"GET /a b HTTP/1.1": 400,
        b"GET /a HTTP/1.2": 400,
        b"GET /a HTTP/1.10": 400,
        b"GET /a HTTP/01.1": 400,
        b"GET /a HTTP/2.0": 505,
        b"GET /a HTTP/0.9": 505,
        b"GET /a": 505,
        b"GET /a http/1.1": 400,
        b"GET /a RTSP/1.0": 400,
        b"GET /a RTSP/1.1": 400,
        b"OPTIONS * RTSP/1.1": 400,
        b"GET /a ICE/1.0": 400,
        b"SOURCE /a ICE/1.1": 400,
        b"PLAY /a HTTP/1.1": 400,
        b"GET /a#b HTTP/1.1": 400,
        b"GET /\xe9 HTTP/1.1": 400,
        b"GET /\0 HTTP/1.1": 400,
        b"GET /\x01 HTTP/1.1": 400,
        b"GET /\x7f HTTP/1.1": 400,
        b"GET /a\rb HTTP/1.1": 400,
        b"GET a HTTP/1.1": 400,
        b"GET ?a HTTP/1.1": 400,
        b"GET  HTTP/1.1": 400,
        b"GET * HTTP/1.1": 400,
        b"GET *a HTTP/1.1": 400,
        b"CONNECT h:443 HTTP/1.1": 400,
        b"CONNECT /a HTTP/1.1": 501,
        b"GET http:///a HTTP/1.1": 400,
        b"GET http://h:x/a HTTP/1.1": 400,
        b"GET http://h:99999/a HTTP/1.1": 400,
        b"GET http://h%00/a HTTP/1.1": 400,
        b"GET http://h/a#b HTTP/1.1": 400,
        b"GET http://u@h/a HTTP/1.1": 400,
        b"GET http://u:p@h/a HTTP/1.1": 400,
        b"GET http://@h/a HTTP/1.1": 400,
        b"GET ftp://h/a HTTP/1.1": 400,
        b"GET h:80 HTTP/1.1": 400,
    }.items()
]
REQUEST_LINES += [
    Case("line: HTTP/1.0", head(line=b"GET /a HTTP/1.0"), 200),
    Case("line: OPTIONS *", head(line=b"OPTIONS * HTTP/1.1"), 200, b"*"),
    Case("line: absolute", head(line=b"GET http://h/a HTTP/1.1"), 200),
    Case("line: absolute in capitals", head(line=b"GET HTTP://H/a HTTP/1.1"), 200),
    Case("line: absolute without a path", head(line=b"GET http://h?@x HTTP/1.1"), 200, b"/?@x"),
    Case("line: absolute without Host", head(line=b"GET http://h/a HTTP/1.1", host=b"")),
    Case("line: absolute with a bad Host", head(line=b"GET http://h/a HTTP/1.1", host=b"Host: a b")),
    Case("line: two slashes", head(line=b"GET //other/a HTTP/1.1"), 200, b"//other/a"),
    Case("line: a URL in the path", head(line=b"GET /http://x/ HTTP/1.1"), 200, b"/http://x/"),
]

HOSTS = [
    Case("no Host", head(host=b"")),
    Case("two Hosts", head(host=b"Host: a\r\nHost: b")),
    Case("the same Host twice", head(host=b"Host: a\r\nHost: a")),
    Case("two Hosts in HTTP/1.0", head(host=b"Host: a\r\nHost: b", line=b"GET /a HTTP/1.0")),
    *(
        Case(f"Host {host!r}", head(host=b"Host: " + host))
        for host in (
            b"",
            b"a b",
            b"a/b",
            b"u@h",
            b"u:p@h",
            b"a,b",
            b"a:b",
            b"a:99999",
            b"a:+80",
            b"a:0x50",
            b"a:80:80",
            b"[::1",
            b"::1",
            b"[::g]",
            b"a%2f",
            b"a\xe9",
            b"a?b",
            b"a#b",
            b"a\\b",
            b"http://a",
            b".a",
            b"-a",
            b"a;b",
            b"a'b",
            b'a"b',
            b"a<b",
            b"a\0",
        )
    ),
    *(
        Case(f"Host {host!r}", head(host=b"Host: " + host), 200)
        for host in (
            b"h",
            b"H",
            b"h:80",
            b"h:",
            b"h.",
            b"a_b",
            b"127.0.0.1:80",
            b"[::1]:8080",
            b"xn--nxasmq6b",
        )
    ),
    Case("Host named by Connection", head(b"Connection: host"), 200),
    Case("unknown expectation", head(b"Expect: payment"), 417),
]

CASES = [*FRAMING, *CHUNKS, *LINES, *REQUEST_LINES, *HOSTS]


def test_there_are_no_two_cases_of_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 80


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "byte by byte"])
async def test_each_has_its_treatment(case: Case, cut: bool) -> None:
    app = FakeApp()
    listener, address = listen(app)
    last = case.request.split(b"\r\n")[0].endswith(b"/1.0")  # its connection closes by itself
    sent = case.request + (b"" if last else NEXT)
    pieces = [sent[at : at + 1] for at in range(len(sent))] if cut and len(sent) < 400 else [sent]
    data = await talk(address, *pieces)
    listener.close()
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]
    targets = [exchange.target for exchange in app.seen]
    if case.status == 200:
        assert statuses == ([200] if last else [200, 200])
        assert targets == ([case.target] if last else [case.target, b"/next"])
        received = app.seen[0].body
        assert (received.received if received is not None else None) == case.size
        assert not app.refusals
        return
    assert [status for status, _ in app.refusals] == [case.status]
    if case.late:
        assert targets in ([], [b"/a"])
        assert statuses in ([case.status], [200], [])
        assert all(exchange.body is not None and exchange.body.failed for exchange in app.seen)
        assert not data.endswith(END)
    else:
        assert targets == []
        assert statuses == [case.status]
        assert b"Connection: close" in data


# --- through the edge


async def test_a_body_of_a_get_never_decides_what_others_get(world: World) -> None:
    world.origin.answer = lambda asked: page(
        b"poison" if asked.fields.get(b"content-length") else b"fine", b"max-age=60"
    )
    fat = get(b"/a", b"Content-Length: 6") + b"poison"
    first = await world.ask(fat)
    assert first.status in (200, 400)
    assert (await world.ask(get(b"/a"))).body == b"fine"


async def test_the_host_of_an_absolute_target_is_what_the_origin_is_told(world: World) -> None:
    request = get(b"http://shop.test/live/a", host=b"evil.test")
    assert (await world.ask(request)).status == 200
    asked = world.origin.asked[0]
    assert (asked.line, asked.fields[b"host"]) == (b"GET /live/a HTTP/1.1", b"shop.test")


@pytest.mark.parametrize(
    "name",
    [b"Transfer_Encoding", b"Content_Length", b"X_Forwarded_For", b"X_Real_IP", b"Atoll_Trace", b"Host_"],
)
async def test_no_name_reaches_the_origin_in_disguise(world: World, name: bytes) -> None:
    await world.ask(get(b"/live/a", name + b": 7", b"X_Other: 1"))
    fields = world.origin.asked[0].fields
    assert fields[b"x_other"] == b"1"
    assert (name.lower() in fields) == (name == b"Host_")
