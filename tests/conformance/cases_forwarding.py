"""What travels through a cache, several requests at once, and what one client must not do to others.

RFC 9110 §7.6 and §15.2, RFC 8297, RFC 9112 §3.2.2, RFC 9111 §4 and §7.1.
"""

from __future__ import annotations

from typing import Final

from conformance_case import (
    Chapter,
    absent,
    ask,
    body,
    count,
    equal,
    first,
    hit,
    interim,
    matches,
    miss,
    ok,
    origin_lacked,
    origin_saw,
    origin_saw_body,
    origin_saw_some,
    present,
    stale,
    status,
    trailer,
    within,
)

T: Final = Chapter("9110")
CACHE: Final = Chapter("9111")
MESSAGE: Final = Chapter("9112")
HINTS: Final = Chapter("8297")
CHAPTERS: Final = (T, MESSAGE, HINTS, CACHE)
FRESH: Final = "Cache-Control: max-age=3600"
NO_STORE: Final = "Cache-Control: no-store"
TAG: Final = 'ETag: "a"'
HINT: Final = (103, ("Link: </a.css>; rel=preload",))

# --- fields for one hop (§7.6.1)

for name, line in (
    ("connection-listed", "X-Hop: 1"),
    ("keep-alive", "Keep-Alive: timeout=5"),
    ("proxy-connection", "Proxy-Connection: keep-alive"),
    ("te", "TE: trailers"),
):
    field = line.partition(":")[0]
    T.must(
        "7.6.1",
        f"request-drops-{name}",
        f"{field} of a request ends at the cache",
        ask(ok(NO_STORE), line, "Connection: x-hop, te", origin_lacked(field)),
    )
    if name != "te":
        T.must(
            "7.6.1",
            f"response-drops-{name}",
            f"{field} of a response ends at the cache",
            ask(ok(NO_STORE, line, "Connection: x-hop"), absent("X-Hop", "Proxy-Connection")),
        )
T.must(
    "7.6.1",
    "request-keeps-others",
    "fields that nobody knows travel on",
    ask(ok(NO_STORE), "X-Odd: a ;b, c", origin_saw("X-Odd", "a ;b, c")),
)
T.must(
    "7.6.1",
    "response-keeps-others",
    "in responses too",
    ask(ok(NO_STORE, "X-Odd: a ;b, c", status=418), equal("X-Odd", "a ;b, c")),
)
T.must(
    "7.6.3", "via-request", "a request that is passed on has a Via", ask(ok(NO_STORE), origin_saw_some("Via"))
)
T.note("7.6.3", "via-response", "so has a response", ask(ok(NO_STORE), present("Via")))
T.must(
    "7.7",
    "no-transform",
    "what has no-transform arrives as it was sent",
    ask(
        ok("Cache-Control: no-transform, max-age=60", "Content-Type: text/plain", body=b"a" * 5000),
        "Accept-Encoding: gzip, br",
        absent("Content-Encoding"),
        body(b"a" * 5000),
    ),
)
T.must(
    "9.3.3",
    "body-travels",
    "a request's body reaches the origin, its answer the client",
    ask(
        ok(NO_STORE, body=b"done"),
        body(b"done"),
        origin_saw_body(b"hello"),
        method="POST",
        body=b"hello",
    ),
)

T.note(
    "6.5",
    "trailers-passed",
    "trailer fields reach a client that takes them",
    ask(
        ok(NO_STORE, "Trailer: X-T", framing="chunked", trailers=("X-T: 1",)),
        "TE: trailers",
        "Connection: TE",
        trailer("X-T", "1"),
    ),
)
T.must(
    "8.6",
    "204-no-length",
    "a 204 from the cache has no length",
    first(ok(FRESH, status=204)),
    ask(count(0), status(204), absent("Content-Length", "Transfer-Encoding")),
)
T.good(
    "9.3.2",
    "head-length",
    "HEAD from the cache says how long the body of a GET is",
    first(ok(FRESH, body=b"0123456789")),
    ask(count(0), equal("Content-Length", "10"), method="HEAD"),
)
MESSAGE.must(
    "6.1",
    "http-1.0-not-chunked",
    "a client of HTTP/1.0 gets nothing in chunks",
    ask(ok(NO_STORE, framing="chunked"), miss(), absent("Transfer-Encoding"), version="HTTP/1.0"),
)
MESSAGE.must(
    "6.1",
    "http-1.0-not-chunked-hit",
    "nor from the cache",
    first(ok(FRESH, framing="chunked")),
    ask(hit(), absent("Transfer-Encoding"), version="HTTP/1.0"),
)

# --- interim responses (§15.2)

T.must(
    "15.2",
    "interim-not-to-1.0",
    "a client of HTTP/1.0 gets no interim response",
    ask(ok(NO_STORE, interim=(HINT,)), interim(), miss(), version="HTTP/1.0"),
)

HINTS.must("2", "hints-passed", "a 103 is passed on", ask(ok(FRESH, interim=(HINT,)), interim(103)))
HINTS.must("2", "hints-two", "so are two of them", ask(ok(FRESH, interim=(HINT, HINT)), interim(103, 103)))
T.must("15.2", "interim-102", "so is a 102", ask(ok(NO_STORE, interim=((102, ()),)), interim(102)))
T.must(
    "15.2",
    "interim-unknown",
    "so is a 1xx that nobody knows",
    ask(ok(NO_STORE, interim=((199, ()),)), interim(199)),
)
HINTS.good("2", "hints-stored", "the final response is stored", ask(ok(FRESH, interim=(HINT,))), ask(hit()))
HINTS.must(
    "2",
    "hints-not-final",
    "fields of a 103 are not the final response's",
    ask(ok(FRESH, interim=((103, ("X-A: 1",)),)), absent("X-A")),
    ask(ok(FRESH), absent("X-A")),
)
T.good(
    "10.1.1",
    "continue",
    "who expects a 100 before sending gets one",
    ask(ok(NO_STORE, delay_s=0.1), "Expect: 100-continue", status(200), method="POST", body=b"x"),
)

# --- the absolute form (RFC 9112 §3.2.2)

MESSAGE.good(
    "3.2.2",
    "absolute-form-host",
    "in the absolute form the target's host counts, not Host",
    first(ok(FRESH)),
    ask(hit(), target="{url}", host="evil.example"),
)
MESSAGE.must(
    "3.2.2",
    "absolute-form-poison",
    "nor does Host change what is stored then",
    ask(ok(FRESH, reflects="host"), matches(rb"(?!.*evil).*"), target="{url}", host="evil.example"),
    ask(ok(FRESH, reflects="host"), matches(rb"(?!.*evil).*")),
)

# --- what is not part of the key must not shape what is stored (RFC 9111 §7.1)

for field, level in (
    ("X-Forwarded-Host", "good"),
    ("X-Forwarded-Proto", "good"),
    ("Forwarded", "good"),
    ("X-Forwarded-Server", "note"),
    ("X-Forwarded-Port", "note"),
    ("X-Forwarded-Scheme", "note"),
    ("X-Forwarded-Prefix", "note"),
    ("X-Host", "note"),
    ("X-Original-URL", "note"),
    ("X-Rewrite-URL", "note"),
    ("X-HTTP-Method-Override", "note"),
):
    value = "host=evil.example" if field == "Forwarded" else "evil"
    steps = (
        ask(ok(FRESH, reflects=field.lower()), f"{field}: {value}"),
        ask(ok(FRESH, reflects=field.lower()), matches(rb"(?!.*evil).*")),
    )
    title = f"{field} of one client is not in what another gets"
    (CACHE.good if level == "good" else CACHE.note)("7.1", f"poison-{field.lower()}", title, *steps)
CACHE.good(
    "7.1",
    "poison-fat-get",
    "a body of a GET shapes nothing that others get",
    ask(ok(FRESH, body=b"good", with_body=ok(FRESH, body=b"evil")), body=b"q=evil", method="GET"),
    ask(ok(FRESH, body=b"good"), body(b"good")),
)
CACHE.must(
    "7.1",
    "poison-fat-get-hit",
    "nor does one that meets what is stored",
    first(ok(FRESH, body=b"good")),
    ask(ok(FRESH, body=b"evil"), status(200), body=b"q=evil", method="GET"),
    ask(ok(FRESH, body=b"good"), body(b"good")),
)
CACHE.must(
    "7.1",
    "poison-host",
    "another Host is another resource, or none at all",
    ask(ok(FRESH, reflects="host"), status(200, 400, 403, 404, 421), host="evil.example"),
    ask(ok(FRESH, reflects="host"), matches(rb"(?!.*evil).*")),
)
CACHE.must(
    "7.1",
    "poison-cache-control-of-request",
    "public and max-age of a request make nothing storable",
    ask(ok(NO_STORE), "Cache-Control: public, s-maxage=3600"),
    ask(ok(NO_STORE), miss()),
)
CACHE.must(
    "7.1",
    "poison-range",
    "who asks for a part that is not there spoils nothing",
    ask(ok(FRESH, TAG, body=b"0123456789", ranged=True), "Range: bytes=90-99", status(416, 200)),
    ask(ok(FRESH, TAG, body=b"0123456789", ranged=True), status(200), body(b"0123456789")),
)
CACHE.must(
    "7.1",
    "poison-error-for-one",
    "a 400 without freshness that one client provokes is not given to others",
    ask(ok(status=400), "X-Odd: provoke"),
    ask(ok(FRESH), miss()),
)

# --- several at once (§4)

CACHE.good(
    "4",
    "collapse",
    "ten who ask for the same at once are one request to the origin",
    ask(ok(FRESH, delay_s=0.5), count(1), status(200), times=10),
)
CACHE.good(
    "4",
    "collapse-large",
    "also when it is large",
    ask(
        ok(FRESH, delay_s=0.5, body=b"0123456789" * 20_000), count(1), body(b"0123456789" * 20_000), times=10
    ),
)
CACHE.good(
    "4",
    "collapse-stale",
    "also when something stale is stored",
    stale(TAG),
    ask(ok(FRESH, 'ETag: "b"', delay_s=0.5), count(1), status(200), times=10),
)
CACHE.good(
    "4",
    "collapse-404",
    "also when the answer is a 404",
    ask(ok(FRESH, status=404, delay_s=0.5), count(1), status(404), times=10),
)
for name, line in (("no-store", NO_STORE), ("private", "Cache-Control: private, max-age=60")):
    CACHE.must(
        "4",
        f"collapse-not-{name}",
        f"what has {name} is fetched for each of them",
        ask(ok(line, delay_s=0.2), count(10), status(200), times=10),
    )
    CACHE.good(
        "4",
        f"collapse-not-{name}-in-turn",
        f"those who wait for what has {name} do not wait for each other",
        ask(ok(line, delay_s=0.3), status(200), within(2.0), times=10),
    )
CACHE.must(
    "4",
    "collapse-not-vary",
    "who asks for another variant meanwhile does not get the first one",
    ask(ok(FRESH, "Vary: X-A", delay_s=0.6), "X-A: 1", miss(), behind=True),
    ask(ok(FRESH, "Vary: X-A"), "X-A: 2", miss(), wait_s=0.1),
)
CACHE.must(
    "4",
    "collapse-not-post",
    "POSTs are passed on one by one",
    ask(ok(FRESH, delay_s=0.2), count(5), status(200), method="POST", body=b"x", times=5),
)
CACHE.must(
    "4",
    "collapse-not-authorization",
    "what was asked for with credentials is fetched for each",
    ask(ok(FRESH, delay_s=0.2), "Authorization: Basic YTpi", count(5), status(200), times=5),
)
CACHE.must(
    "4",
    "collapse-leader-leaves",
    "when the first one leaves, those who wait are served",
    ask(ok(FRESH, delay_s=0.8), behind=True, leave_s=0.3),
    ask(ok(FRESH), status(200), wait_s=0.1),
)
CACHE.must(
    "4",
    "collapse-error",
    "when the one request fails, those who wait get an error or another try",
    ask(ok(delay_s=0.3, dropped=True), status(500, 502, 503, 504), within(5.0), times=5),
)
CACHE.good(
    "4",
    "read-while-write",
    "who comes while it arrives shares what has arrived",
    ask(ok(FRESH, body=b"0123456789" * 5000, halves_s=0.8), miss(), behind=True),
    ask(ok(FRESH), hit(1)),
)
CACHE.must(
    "3.3",
    "read-while-write-cut",
    "when it is cut, both can tell",
    ask(
        ok(FRESH, body=b"0123456789" * 5000, halves_s=0.5, cut=40_000),
        status(0, 200, 500, 502, 503, 504),
        behind=True,
    ),
    ask(
        ok(FRESH, body=b"0123456789" * 5000),
        status(0, 200, 500, 502, 503, 504),
        matches(rb"(?:0123456789)*(?:0?|01|012|0123|01234|012345|0123456|01234567|012345678)|.*rror.*"),
    ),
    ask(ok(FRESH, body=b"0123456789" * 5000), body(b"0123456789" * 5000)),
)
CACHE.good(
    "3.3",
    "fetch-outlives-client",
    "what one client did not wait for is there for the next",
    ask(ok(FRESH, delay_s=0.5), leave_s=0.2),
    ask(ok(FRESH), hit(1), wait_s=0.8),
)
