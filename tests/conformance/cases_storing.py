"""What may be stored, and what of it: RFC 9111 §3, and the statuses that RFC 6585 keeps out of caches."""

from __future__ import annotations

from typing import Final

from conformance_case import (
    Chapter,
    absent,
    ask,
    between,
    body,
    count,
    equal,
    first,
    hit,
    incomplete,
    miss,
    ok,
    origin_method,
    present,
    stale,
    status,
)

T: Final = Chapter("9111")
EXTRA: Final = Chapter("6585")
CHAPTERS: Final = (T, EXTRA)
FRESH: Final = "Cache-Control: max-age=3600"
OLD: Final = "Last-Modified: {start-864000}"

# --- statuses (§3)

EXPLICIT: Final = (
    200, 201, 202, 203, 204, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 409, 410, 414, 418, 422, 451,
    500, 501, 502, 503, 504, 299, 599,
)  # fmt: skip
HEURISTIC: Final = (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)
NOT_HEURISTIC: Final = (201, 202, 302, 303, 307, 400, 403, 409, 418, 422, 429, 500, 502, 503, 504, 599)

for code in EXPLICIT:
    T.good(
        "3",
        f"store-explicit-{code}",
        f"a {code} with max-age is reused",
        ask(ok(FRESH, status=code)),
        ask(hit(code=code)),
    )
for code in HEURISTIC:
    T.good(
        "4.2.2",
        f"heuristic-{code}",
        f"a {code} without freshness is reused for a share of its age",
        ask(ok(OLD, status=code)),
        ask(hit(code=code)),
    )
for code in NOT_HEURISTIC:
    T.must(
        "3",
        f"store-implicit-{code}",
        f"a {code} that says nothing of freshness is not reused",
        ask(ok(OLD, status=code)),
        ask(ok(OLD, status=code), miss(code)),
    )
for code, section in ((428, "3"), (429, "4"), (431, "5"), (511, "6")):
    EXTRA.must(
        section,
        f"store-never-{code}",
        f"a {code} is not stored whatever it says",
        ask(ok(FRESH, status=code)),
        ask(ok(FRESH, status=code), miss(code)),
    )
T.good(
    "3",
    "store-public-302",
    "a 302 marked public is reused for a share of its age",
    ask(ok("Cache-Control: public", OLD, status=302)),
    ask(hit(code=302)),
)
T.note(
    "3",
    "store-nothing-said",
    "a 200 with neither freshness nor validators is reused",
    ask(),
    ask(hit()),
)
T.note(
    "3",
    "store-public-alone",
    "a 200 marked public with neither freshness nor validators is reused",
    ask(ok("Cache-Control: public")),
    ask(hit()),
)

# --- methods (§3, §4)

T.good(
    "3",
    "head-from-stored-get",
    "HEAD is answered from a stored GET",
    first(ok(FRESH, "X-A: 1")),
    ask(count(0), equal("X-A", "1"), method="HEAD"),
)
T.must(
    "3",
    "head-not-for-get",
    "a response to HEAD has no content to answer GET with",
    ask(ok(FRESH), method="HEAD"),
    ask(ok(FRESH), miss()),
)
for method in ("OPTIONS", "PUT", "DELETE", "PATCH", "MKCOL"):
    T.must(
        "3",
        f"method-{method.lower()}-not-for-get",
        f"a response to {method} does not answer GET",
        ask(ok(FRESH), method=method),
        ask(ok(FRESH), miss()),
    )
    T.must(
        "4",
        f"method-{method.lower()}-written-through",
        f"{method} goes to the origin although a GET is stored",
        first(ok(FRESH)),
        ask(ok(FRESH), miss(), origin_method(method), method=method),
        ask(ok(FRESH), miss(), method=method),
    )

# --- directives that forbid (§5.2.2)

for name, title, line in (
    ("no-store", "no-store", "Cache-Control: no-store"),
    ("no-store-max-age", "no-store beside max-age", "Cache-Control: max-age=3600, no-store"),
    ("no-store-case", "No-Store in any case of letters", "Cache-Control: max-age=3600, No-StoRe"),
    (
        "no-store-public",
        "no-store beside public and s-maxage",
        "Cache-Control: public, s-maxage=60, no-store",
    ),
    ("no-store-argument", "no-store with an argument", "Cache-Control: max-age=3600, no-store=1"),
):
    T.must("5.2.2.5", f"response-{name}", f"{title} is not reused", ask(ok(line)), ask(ok(line), miss()))
for name, title, line in (
    ("private", "private", "Cache-Control: private"),
    ("private-max-age", "private beside max-age", "Cache-Control: private, max-age=3600"),
    ("private-case", "PRIVATE in any case of letters", "Cache-Control: max-age=3600, PRIVATE"),
):
    T.must("5.2.2.7", f"response-{name}", f"{title} is not reused", ask(ok(line)), ask(ok(line), miss()))
T.must(
    "5.2.2.5",
    "response-no-store-second-line",
    "no-store in a second line counts",
    ask(ok(FRESH, "Cache-Control: no-store")),
    ask(ok(FRESH, "Cache-Control: no-store"), miss()),
)
T.must(
    "5.2.2.5",
    "response-no-store-replaces-nothing",
    "a no-store response to one request does not answer the next, although an older one is stored",
    stale('ETag: "a"'),
    ask(ok("Cache-Control: no-store"), miss()),
    ask(ok("Cache-Control: no-store"), miss()),
)
for directive, section in (("private", "5.2.2.7"), ("no-cache", "5.2.2.4")):
    line = f'Cache-Control: max-age=3600, {directive}="x-one, X-TWO"'
    T.must(
        section,
        f"{directive}-fields-not-reused",
        f"fields that {directive} names are not shown to others",
        first(ok(line, "X-One: secret", "X-Two: secret", "X-Three: open")),
        ask(ok(line), absent("X-One", "X-Two")),
    )
    T.good(
        section,
        f"{directive}-fields-reused-without",
        f"with the fields that {directive} names left out the rest is reused",
        first(ok(line, "X-One: secret", "X-Three: open")),
        ask(hit(), equal("X-Three", "open")),
    )
    T.good(
        section,
        f"{directive}-field-unquoted",
        f"{directive} that names one field as a token keeps that field out",
        first(ok(f"Cache-Control: max-age=3600, {directive}=x-one", "X-One: secret")),
        ask(ok(), absent("X-One")),
    )

# --- must-understand (§5.2.2.3)

T.good(
    "5.2.2.3",
    "must-understand-known",
    "must-understand beside no-store lets a status that is understood be stored",
    ask(ok("Cache-Control: must-understand, no-store, max-age=3600")),
    ask(hit()),
)
for code in (299, 499, 599):
    T.must(
        "3",
        f"must-understand-{code}",
        f"must-understand keeps a {code} out: nobody has said what it means for caches",
        ask(ok("Cache-Control: must-understand, max-age=3600", status=code)),
        ask(ok("Cache-Control: must-understand, max-age=3600", status=code), miss(code)),
    )
T.must(
    "5.2.2.3",
    "must-understand-unknown-no-store",
    "must-understand beside no-store keeps out what is not understood",
    ask(ok("Cache-Control: must-understand, no-store, max-age=3600", status=299)),
    ask(ok("Cache-Control: no-store", status=299), miss(299)),
)
T.must(
    "5.2.2.3",
    "must-understand-private",
    "must-understand lifts no-store, not private",
    ask(ok("Cache-Control: must-understand, no-store, private, max-age=3600")),
    ask(ok(), miss()),
)

# --- requests that forbid (§3.5, §5.2.1.5)

SECRET: Final = "Authorization: Basic b3BlbjpzZXNhbWU="
T.good(
    "5.2.1.5",
    "request-no-store",
    "the response to a request with no-store is not stored",
    ask(ok(FRESH), "Cache-Control: no-store"),
    ask(ok(FRESH), miss()),
)
T.must(
    "3.5",
    "authorization-not-for-others",
    "a response to a request with credentials does not answer one without",
    ask(ok(FRESH), SECRET),
    ask(ok(FRESH), miss()),
)
T.must(
    "3.5",
    "authorization-not-for-the-same",
    "nor one with the same credentials",
    ask(ok(FRESH), SECRET),
    ask(ok(FRESH), SECRET, miss()),
)
T.must(
    "3.5",
    "authorization-expires-not-for-others",
    "nor when only Expires says that it is fresh",
    ask(ok("Expires: {now+3600}"), SECRET),
    ask(ok("Expires: {now+3600}"), miss()),
)
T.must(
    "3.5",
    "authorization-proxy-revalidate",
    "proxy-revalidate does not lift that",
    ask(ok("Cache-Control: max-age=3600, proxy-revalidate"), SECRET),
    ask(ok(FRESH), miss()),
)
for name, line in (
    ("public", "Cache-Control: max-age=3600, public"),
    ("s-maxage", "Cache-Control: s-maxage=3600"),
    ("must-revalidate", "Cache-Control: max-age=3600, must-revalidate"),
):
    T.good(
        "3.5",
        f"authorization-{name}",
        f"{name} lets a response to a request with credentials answer others",
        ask(ok(line), SECRET),
        ask(hit()),
    )
T.good(
    "3.5",
    "authorization-served-what-is-public",
    "a request with credentials is answered with what was stored for one without",
    first(ok(FRESH)),
    ask(SECRET, hit()),
)
T.note(
    "7.3",
    "cookie-in-request",
    "a response to a request with a cookie is reused",
    ask(ok(FRESH), "Cookie: a=1"),
    ask(hit()),
)
T.note(
    "7.3",
    "set-cookie-max-age",
    "a response that sets a cookie and has max-age is reused",
    ask(ok(FRESH, "Set-Cookie: a=1")),
    ask(hit()),
)
T.note(
    "7.3",
    "set-cookie-public",
    "a response that sets a cookie and is public is reused",
    ask(ok("Cache-Control: public, max-age=3600", "Set-Cookie: a=1")),
    ask(hit()),
)

# --- incomplete responses (§3.3)

for framing, cut in (("length", 40), ("chunked", 40), ("length", 0)):
    T.must(
        "3.3",
        f"incomplete-{framing}-{cut}",
        f"a response cut after {cut} bytes ({framing}) is not stored as a whole one",
        ask(ok(FRESH, body=b"x" * 100, framing=framing, cut=cut), status(0, 200, 500, 502, 503, 504)),
        ask(ok(FRESH), miss()),
    )
T.must(
    "3.3",
    "incomplete-shown",
    "a client can tell that what it got is cut",
    ask(ok(FRESH, body=b"x" * 100, cut=40), status(0, 200, 500, 502, 503, 504), incomplete()),
)
T.must(
    "3.3",
    "incomplete-shown-chunked",
    "a client can tell that what it got is cut, without a length",
    ask(
        ok(FRESH, body=b"x" * 100, framing="chunked", cut=40),
        status(0, 200, 500, 502, 503, 504),
        incomplete(),
    ),
)
T.must(
    "3.3",
    "incomplete-keeps-the-old",
    "a cut answer to a revalidation leaves nothing that passes as whole",
    stale('ETag: "a"'),
    ask(ok(FRESH, 'ETag: "b"', body=b"x" * 100, cut=40), status(0, 200, 500, 502, 503, 504)),
    ask(ok(FRESH, 'ETag: "b"'), miss()),
)
for framing in ("chunked", "close"):
    T.good(
        "3.3",
        f"complete-{framing}",
        f"a whole response is reused ({framing})",
        ask(ok(FRESH, framing=framing)),
        ask(hit()),
    )
T.good(
    "3",
    "empty-body",
    "a response with an empty body is reused",
    ask(ok(FRESH, body=b"")),
    ask(hit(), body(b"")),
)
T.good(
    "3",
    "large-body",
    "a body of 1 MiB is reused, every byte of it",
    ask(ok(FRESH, body=bytes(range(256)) * 4096)),
    ask(hit()),
)

T.good(
    "3",
    "origin-http-1.0",
    "a response of an HTTP/1.0 origin is reused",
    ask(ok(FRESH, version="HTTP/1.0")),
    ask(hit()),
)
T.must(
    "3.1",
    "trailers-apart",
    "trailer fields never become header fields",
    ask(ok(FRESH, "Trailer: X-T", framing="chunked", trailers=("X-T: 1",)), absent("X-T")),
    ask(hit(), absent("X-T")),
)
T.must(
    "3.1",
    "trailers-not-directives",
    "a Cache-Control among the trailer fields says nothing",
    ask(ok(FRESH, framing="chunked", trailers=("Cache-Control: no-store", "Age: 7200"))),
    ask(hit(), between("Age", 0, 5), equal("Cache-Control", "max-age=3600")),
)
T.good(
    "3.1",
    "trailers-stored",
    "a response with trailer fields is reused",
    ask(ok(FRESH, framing="chunked", trailers=("X-T: 1",))),
    ask(hit()),
)

# --- which fields (§3.1)

for name, line, title in (
    ("etag", 'ETag: "a;b"', "entity tag"),
    ("last-modified", "Last-Modified: {start-5000}", "Last-Modified"),
    ("content-type", "Content-Type: text/x-odd; charset=utf-8", "Content-Type"),
    ("content-language", "Content-Language: de, en", "Content-Language"),
    ("content-encoding", "Content-Encoding: x-odd", "Content-Encoding"),
    ("content-location", "Content-Location: {base}/other", "Content-Location"),
    ("cache-control", "Cache-Control: odd=1, max-age=3600", "Cache-Control, whatever is in it"),
    ("expires", "Expires: {start+9000}", "Expires"),
    ("link", "Link: </a>; rel=preload", "Link"),
    ("unknown", "X-Never-Heard-Of: a, b ;c", "field that nobody knows"),
    ("strange-name", "X!#$%&'*+-.^_`|~9: odd", "field with a strange name"),
    ("empty", "X-Empty:", "field without a value"),
    ("eight-bit", "X-Eight: caf\xe9", "value beyond ASCII"),
):
    field, _, value = line.partition(":")
    T.must(
        "3.1",
        f"field-kept-{name}",
        f"the {title} is stored with the response",
        first(ok(FRESH, line) if name != "cache-control" else ok(line)),
        ask(hit(), equal(field, value.strip())),
    )
T.must(
    "3.1",
    "field-kept-lines",
    "each line of a field is stored",
    first(ok(FRESH, "X-A: 1", "X-B: 0", "X-A: 2")),
    ask(hit(), equal("X-A", "1, 2")),
)
for name, line, title in (
    ("connection-listed", "X-Hop: 1", "field that Connection names"),
    ("keep-alive", "Keep-Alive: timeout=5", "Keep-Alive"),
    ("proxy-connection", "Proxy-Connection: keep-alive", "Proxy-Connection"),
    ("upgrade", "Upgrade: h2c", "Upgrade"),
    ("proxy-authenticate", "Proxy-Authenticate: Basic", "Proxy-Authenticate"),
    ("proxy-authentication-info", "Proxy-Authentication-Info: a=1", "Proxy-Authentication-Info"),
    ("te", "TE: trailers", "TE"),
):
    field = line.partition(":")[0]
    T.must(
        "3.1",
        f"field-dropped-{name}",
        f"{title} is not stored",
        first(ok(FRESH, line, "Connection: x-hop, keep-alive, upgrade")),
        ask(hit(), absent(field)),
    )
T.must(
    "3.1",
    "field-kept-beside-connection",
    "a field that Connection does not name stays",
    first(ok(FRESH, "Connection: X-Hop", "X-Hop: 1", "X-Hop-Not: 2")),
    ask(hit(), present("X-Hop-Not")),
)
