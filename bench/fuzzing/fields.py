"""The cache's rules, and HTTP/3's judge of requests, over arbitrary field values.

An input is text: a line that says method, status, length and target, then three blocks of `name: value` lines
with blank lines between: a request, a response to it, and a response stored before. Values hold any byte that
an engine lets through. Nothing raises, and what is computed keeps its own promises.
"""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Final
from zlib import crc32

import http_sf

from atoll.cache import ranges, rules, status
from atoll.cache.keys import primary_key, related_keys, vary_key
from atoll.cache.partial import Span
from atoll.cache.preferences import normalised
from atoll.config.compression import CompressionSpec
from atoll.edge import keeping
from atoll.edge.admission import facts
from atoll.http import negotiate
from atoll.http.fields import Headers, format_http_date, get, get_all, parse_http_date, parse_vary
from atoll.http.h3_request import H3Request, read_request
from atoll.http.limits import Limits
from bench.fuzzing import frames
from bench.fuzzing.h1 import sent_on
from bench.fuzzing.mutate import Mutator

_NOW_S: Final = 1_700_000_000.0
_TERMS: Final = negotiate.terms_of(CompressionSpec())
_LIMITS: Final = Limits()
_METHODS: Final = (b"GET", b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"PURGE")
_STATUSES: Final = (
    200,
    200,
    200,
    203,
    204,
    206,
    206,
    301,
    302,
    304,
    304,
    400,
    404,
    410,
    412,
    416,
    429,
    431,
    500,
    503,
    599,
    103,
)
_TARGETS: Final = (
    b"/",
    b"/a",
    b"/a?b=c&d",
    b"/a;b",
    b"/%2f..%2F",
    b"//x/a",
    b"*",
    b"/a#b",
    b"/a?%",
    b"/?a=&a=b",
)

_REQUEST: Final = (
    b"cache-control: no-cache", b"cache-control: max-age=0", b"cache-control: max-stale",
    b"cache-control: max-stale=5", b"cache-control: only-if-cached, no-store, min-fresh=1",
    b"pragma: no-cache", b"range: bytes=0-1", b"range: bytes=-5", b"range: bytes=5-",
    b"range: bytes=0-0,2-3,-1", b"range: bytes=" + b",".join(b"%d-" % n for n in range(40)), b"range: x=1",
    b'if-none-match: "a", W/"b"', b"if-none-match: *", b"if-none-match: a", b'if-match: "a"',
    b'if-range: "a"', b'if-range: W/"a"', b"if-range: Sun, 06 Nov 1994 08:49:37 GMT",
    b"if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT",
    b"if-unmodified-since: Sunday, 06-Nov-94 08:49:37 GMT", b"if-modified-since: Sun Nov  6 08:49:37 1994",
    b"accept-encoding: gzip, br;q=0.5, *;q=0", b"accept-encoding: identity;q=0",
    b"accept-language: de, en;q=0.7, *;q=0.1", b"authorization: Basic x", b"cookie: a=b; c=d", b"cookie: a",
    b"te: trailers", b"connection: x, close", b"accept: */*",
)  # fmt: skip
_RESPONSE: Final = (
    b"cache-control: max-age=60", b"cache-control: s-maxage=60, public", b"cache-control: private",
    b"cache-control: no-store", b'cache-control: private="set-cookie", no-cache="x"',
    b"cache-control: max-age=-1", b"cache-control: max-age=9999999999999", b'cache-control: max-age="60"',
    b"cache-control: must-understand, no-store", b"cache-control: immutable, max-age=5",
    b"cache-control: stale-while-revalidate=5, stale-if-error=9", b"cache-control: no-transform",
    b"cache-control: , ,=,", b'cache-control: x="\\"', b"cdn-cache-control: max-age=60",
    b"cdn-cache-control: max-age=1.5", b"cdn-cache-control: no-store", b"atoll-cdn-cache-control: none",
    b"cdn-cache-control: max-age=60;x=1, private", b"expires: 0", b"expires: -1",
    b"expires: Sun, 06 Nov 2044 08:49:37 GMT", b"expires: Sun, 31 Feb 2044 08:49:37 GMT",
    b"date: Sun, 06 Nov 1994 08:49:37 GMT", b"date: Sun, 06 Nov 9999 23:59:60 GMT", b"date: x", b"age: 5",
    b"age: 5, 6", b"age: -1", b"age: 99999999999999999999", b'etag: "a"', b'etag: W/"a"', b"etag: a",
    b'etag: "', b"last-modified: Sun, 06 Nov 1994 08:49:37 GMT", b"last-modified: x",
    b"vary: accept-encoding", b"vary: Accept, X", b"vary: *", b"vary: a b", b"vary: ,", b"set-cookie: a=b",
    b"content-length: 5", b"content-length: x", b"content-type: text/html; charset=utf-8",
    b"content-encoding: gzip", b"content-range: bytes 0-1/5", b"content-range: bytes */5",
    b"content-range: bytes 5-1/2", b"content-location: /a", b"location: //evil/x", b"location: /%",
    b"location: http://[", b"cache-tag: a, b,,c", b"surrogate-key: a b", b"cache-status: x; hit",
    b"cache-status: \x80", b"transfer-encoding: chunked", b"connection: etag", b"warning: 110 - x",
    b"accept-ranges: bytes", b"retry-after: 5",
)  # fmt: skip
WORDS: Final = (
    *_REQUEST, *_RESPONSE, b"max-age=", b"no-store", b'"', b"\\", b",", b"=", b";", b"W/", b"bytes", b"0-",
    b"GMT", b"q=0.", b"\xff", b"\t", b"9" * 25, b"-", b"*", b"\r", b":", b"%", b"\xc2\xb2", b"1994",
    b"\n\n", b"\n",
)  # fmt: skip


def _block(fields: tuple[bytes, ...], rng: Random) -> bytes:
    return b"".join(rng.choice(fields) + b"\n" for _ in range(rng.choice((0, 1, 1, 2, 3, 5))))


def _made(rng: Random) -> bytes:
    first = b"%b %d %d %b\n" % (
        rng.choice(_METHODS), rng.choice(_STATUSES), rng.choice((0, 1, 5, 100, 2**40)), rng.choice(_TARGETS),
    )  # fmt: skip
    response = _block(_RESPONSE, rng)
    if rng.random() < 0.4:  # else hardly anything would be stored
        response = b"cache-control: max-age=60\n" + response
    return b"\n".join((first + _block(_REQUEST, rng), response, _block(_RESPONSE, rng)))


class _Read:
    """An input taken apart; what cannot be read is something usual instead."""

    def __init__(self, data: bytes) -> None:
        first, _, rest = data.partition(b"\n")
        words = [*first.split(b" "), b"", b"", b"", b""]
        self.method = words[0] or b"GET"
        self.status = (
            int(words[1]) if words[1].isdigit() and len(words[1]) == 3 and words[1] < b"600" else 200
        )
        self.length = int(words[2][:15]) if words[2][:15].isdigit() else 5
        self.target = words[3] or b"/"
        blocks = [*rest.split(b"\n\n"), b"", b"", b""]
        self.request, self.response, self.stored = (_fields(block) for block in blocks[:3])


def _fields(block: bytes) -> Headers:
    pairs = (line.partition(b":") for line in block.split(b"\n"))
    return [(name.lower(), value.strip(b" \t")) for name, _, value in pairs if name][:60]


class RulesTarget:
    """See `bench.fuzz.Target`."""

    name = "rules"

    def __init__(self) -> None:
        self._mutator = Mutator([_made(Random(n)) for n in range(400)], WORDS)
        self.counts: Counter[str] = Counter()

    def make(self, rng: Random) -> bytes:
        """A request, a response and a stored response."""
        return _made(rng) if rng.random() < 0.2 else self._mutator.make(rng)

    def seeds(self) -> list[bytes]:
        """Every field alone."""
        found = [b"GET 200 5 /a\n" + field + b"\n\n\n" for field in _REQUEST]
        return found + [b"GET 200 5 /a\n\n" + field + b"\n\n" + field + b"\n" for field in _RESPONSE]

    def check(self, data: bytes) -> list[str]:
        """What is wrong with what the rules say."""
        read = _Read(data)
        found = _storing(read, self.counts)
        found += _selecting(read)
        found += _ranges(read)
        found += _saying(read, crc32(data))
        rules.preconditions(read.method, read.request, read.stored, read.status)
        rules.conditional_request(read.stored, read.response)
        rules.select_for_update([read.stored, read.response], read.response)
        rules.head_update(read.stored, read.length, read.status, read.response)
        rules.headers_for_304(read.stored)
        rules.invalidated_by(read.method, read.status)
        related_keys(b"http", b"h", read.target, read.response)
        for name in (b"a", b""):
            for place in ("cookie", "query", "header"):
                facts.value_of(read.request, read.target, place, name)
            facts.without_cookie(read.request, name)
        facts.without_query(read.target, frozenset((b"a", b"")))
        return found


def _storing(read: _Read, counts: Counter[str]) -> list[str]:
    primary = primary_key(b"http", b"H.test:80", read.target)
    asked = keeping.Asked(read.method, read.request, primary, "t", _NOW_S, 0, 0)
    draft = keeping.judge(asked, read.status, read.response, _NOW_S + 1, partial=read.status == 206)
    if isinstance(draft, keeping.Refused):
        counts["not stored"] += 1
        return [] if draft.reason else ["a refusal without a reason"]
    counts["stored"] += 1
    found = []
    if draft.lifetime_s < 0 or draft.initial_age_s < 0 or draft.lifetime_s != draft.lifetime_s:
        found.append("a lifetime or an age below zero")
    if draft.cc.no_store and not draft.cc.must_understand:
        found.append("what says no-store is stored")
    if draft.cc.private:
        found.append("what is private is stored")
    if read.status in (304, 412, 416, 429, 431):
        found.append("what answers one request alone is stored")
    entry = draft.entry(b"x")
    age_s = rules.current_age_s(draft.initial_age_s, _NOW_S + 1, _NOW_S + 50)
    directives = rules.request_directives(read.request)
    for honour in (True, False):
        rules.decide(draft.cc, draft.lifetime_s, age_s, directives, honour_client=honour)
    rules.usable_on_error(draft.cc, draft.lifetime_s, age_s, 60.0, directives)
    if not rules.age_value(age_s).isdigit():
        found.append("an age that is no number")
    rules.ttl_s(draft.lifetime_s, age_s)
    keeping.renewed(asked, entry, read.stored, _NOW_S + 2)
    return found


def _selecting(read: _Read) -> list[str]:
    found = []
    once = normalised(read.request)
    if normalised(once) != once:
        found.append("a normalised request is not normal")
    vary = parse_vary(get_all(read.response, b"vary"))
    if vary is not None and vary_key(vary, once) != vary_key(vary, [*once]):
        found.append("a variant's key depends on more than its fields")
    coding = negotiate.preferred(_TERMS.codings, get(read.request, b"accept-encoding"))
    if coding is not None and coding not in _TERMS.codings:
        found.append("a coding that nobody has")
    cc = rules.effective(read.response).cc
    encoding, kind = get(read.response, b"content-encoding"), get(read.response, b"content-type")
    negotiate.varies(_TERMS, encoding, kind, read.length, cc)
    if coding is not None:
        negotiate.encoded_fields(read.response, coding)
    return found


def _ranges(read: _Read) -> list[str]:
    spans = ranges.requested(read.method, read.request, read.stored, read.status, read.length)
    if isinstance(spans, list):
        if not spans or any(not 0 <= span.start < span.end <= read.length for span in spans):
            return ["a range outside of what there is"]
        if sum(span.end - span.start for span in spans) > 2 * read.length:
            return ["more bytes than there are"]
        framed = ranges.multipart(spans, read.length, read.stored, b"boundary")
        if framed.total <= sum(map(len, framed.heads)):
            return ["a multipart body without content"]
        ranges.headers_for_206(read.stored, spans, read.length, b"boundary")
    partial = ranges.begin(read.response)
    if partial is not None:
        ranges.combinable(read.stored, partial, read.response)
        ranges.completing_request(partial, 0, read.length)
        part = ranges.part_of(read.response)
        assert part is not None
        if ranges.parse_content_range(ranges.format_content_range(_span(part), part.length)) != part:
            return ["a Content-Range that is written differently than it is read"]
    return []


def _span(part: ranges.ContentRange) -> Span | None:
    return None if part.start is None or part.end is None else Span(part.start, part.end)


def _saying(read: _Read, number: int) -> list[str]:
    found = []
    for value in (get(read.response, b"date"), get(read.request, b"if-modified-since")):
        moment_s = parse_http_date(value) if value is not None else None
        if (
            moment_s is not None
            and 0 <= moment_s < 2**37
            and parse_http_date(format_http_date(moment_s)) != int(moment_s)
        ):
            found.append("a date that is written differently than it is read")
    if number % 8:
        return found
    said = status.forward(
        "x", "miss", fwd_status=read.status, key=read.target, detail=read.method.decode("latin-1")
    )
    line = status.appended(get_all(read.response, b"cache-status"), said)
    try:
        if not http_sf.parse(line, tltype="list"):
            found.append("Cache-Status is empty")
    except ValueError:
        found.append("Cache-Status is no structured field")
    return found


class H3Target:
    """A request's fields as HTTP/3 sends them; see `bench.fuzz.Target`."""

    name = "h3"

    def __init__(self) -> None:
        lines = [
            b"%b: %b" % field for field in frames.FIELDS + frames.PSEUDO if b"\n" not in field[0] + field[1]
        ]
        base = [b"%b: %b" % field for field in frames.REQUEST]
        self._seeds = [b"\n".join([*base, line]) for line in lines]
        self._mutator = Mutator(self._seeds, [*lines, b"\r", b"\0", b"\r\n", b" ", b":", b"%0d%0a"])
        self.counts: Counter[str] = Counter()

    def make(self, rng: Random) -> bytes:
        """A field section, a line for each field."""
        return self._mutator.make(rng)

    def seeds(self) -> list[bytes]:
        """What is tried as it is, first."""
        return self._seeds

    def check(self, data: bytes) -> list[str]:
        """What is wrong with how it is understood."""
        headers: Headers = []
        for line in data.split(b"\n"):
            name, _, value = line[1:].partition(b": ")
            headers.append((line[:1] + name, value.replace(b"\x1f", b"\n")))
        read = read_request(headers, _LIMITS)
        self.counts["accepted" if isinstance(read, H3Request) else "refused"] += 1
        if not isinstance(read, H3Request) or read.protocol or read.target == b"*":
            return []
        body = b"a" * read.length if 0 <= read.length < 100 else None
        fields = read.fields if body is not None else [f for f in read.fields if f[0] != b"content-length"]
        return sent_on(read.method, read.target, read.authority, fields, body, [])
