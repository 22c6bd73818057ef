"""Does what is stored still hold, asked and answered: RFC 9111 §3.2, §4.3; RFC 9110 §13."""

from __future__ import annotations

from typing import Final

from conformance_case import (
    GONE_STALE_S,
    Chapter,
    absent,
    ask,
    between,
    body,
    count,
    equal,
    first,
    hit,
    miss,
    ok,
    origin_saw,
    origin_saw_in,
    present,
    revalidated,
    stale,
    status,
    unchanged,
)

T: Final = Chapter("9111")
COND: Final = Chapter("9110")
CHAPTERS: Final = (T, COND)
FRESH: Final = "Cache-Control: max-age=3600"
TAG: Final = 'ETag: "a"'
MODIFIED: Final = "Last-Modified: {start-864000}"

# --- asking the origin (§4.3.1)

T.good(
    "4.3.1",
    "validate-etag",
    "what is stale is validated by its entity tag",
    stale(TAG),
    ask(ok(validated=unchanged(FRESH, TAG)), revalidated(), origin_saw("If-None-Match", '"a"')),
)
T.good(
    "4.3.1",
    "validate-weak-etag",
    "a weak entity tag is sent as it is",
    stale('ETag: W/"a"'),
    ask(ok(validated=unchanged(FRESH, 'ETag: W/"a"')), revalidated(), origin_saw("If-None-Match", 'W/"a"')),
)
T.good(
    "4.3.1",
    "validate-strange-etag",
    "so is one with commas and no letters",
    stale('ETag: ",;\\é"'),
    ask(
        ok(validated=unchanged(FRESH, 'ETag: ",;\\é"')), revalidated(), origin_saw("If-None-Match", '",;\\é"')
    ),
)
T.good(
    "4.3.1",
    "validate-last-modified",
    "what is stale is validated by its Last-Modified",
    stale(MODIFIED),
    ask(ok(validated=unchanged(FRESH)), revalidated(), origin_saw("If-Modified-Since", "{start-864000}")),
)
T.good(
    "4.3.1",
    "validate-both",
    "with both validators both are sent",
    stale(TAG, MODIFIED),
    ask(
        ok(validated=unchanged(FRESH, TAG)),
        revalidated(),
        origin_saw("If-None-Match", '"a"'),
        origin_saw("If-Modified-Since", "{start-864000}"),
    ),
)
T.good(
    "4.3.1",
    "validate-no-cache",
    "what has no-cache is validated each time",
    first(ok("Cache-Control: no-cache", TAG)),
    ask(ok(validated=unchanged("Cache-Control: no-cache", TAG)), revalidated()),
    ask(ok(validated=unchanged("Cache-Control: no-cache", TAG)), revalidated()),
)
T.good(
    "4.3.1",
    "validate-max-age-0",
    "what has max-age=0 is validated each time",
    first(ok("Cache-Control: max-age=0", TAG)),
    ask(ok(validated=unchanged("Cache-Control: max-age=0", TAG)), revalidated()),
    ask(ok(validated=unchanged("Cache-Control: max-age=0", TAG)), revalidated()),
)
T.note(
    "4.3.1",
    "validate-by-date",
    "without validators Date serves as one",
    stale("Date: {start}"),
    ask(ok(FRESH), miss(), origin_saw("If-Modified-Since", "{start}")),
)
T.good(
    "4.3.1",
    "validate-several",
    "the entity tags of all stored variants are sent together",
    first(ok(FRESH, "Vary: X-A", 'ETag: "a"'), "X-A: 1"),
    first(ok(FRESH, "Vary: X-A", 'ETag: "b"'), "X-A: 2"),
    ask(ok(FRESH, "Vary: X-A", 'ETag: "c"'), "X-A: 3", miss(), origin_saw_in("If-None-Match", '"a"', '"b"')),
)
T.good(
    "4.3.3",
    "validate-several-selects",
    "the variant that a 304 names is served",
    first(ok(FRESH, "Vary: X-A", 'ETag: "a"'), "X-A: 1"),
    first(ok(FRESH, "Vary: X-A", 'ETag: "b"'), "X-A: 2"),
    ask(
        ok(FRESH, "Vary: X-A", 'ETag: "c"', validated=unchanged(FRESH, "Vary: X-A", 'ETag: "b"')),
        "X-A: 3",
        revalidated(2),
        equal("ETag", '"b"'),
    ),
)
T.must(
    "4.3.3",
    "validate-several-others-stay",
    "the other variants stay what they are",
    first(ok(FRESH, "Vary: X-A", 'ETag: "a"'), "X-A: 1"),
    first(ok(FRESH, "Vary: X-A", 'ETag: "b"'), "X-A: 2"),
    ask(
        ok(FRESH, "Vary: X-A", 'ETag: "c"', validated=unchanged(FRESH, "Vary: X-A", 'ETag: "b"')),
        "X-A: 3",
    ),
    ask(hit(1), "X-A: 1", equal("ETag", '"a"')),
)

# --- what the origin answers (§4.3.3)

T.must(
    "4.3.3",
    "validated-200-replaces",
    "a 200 is served in place of what was stored",
    stale(TAG),
    ask(ok(FRESH, 'ETag: "b"'), miss()),
)
T.good(
    "4.3.3",
    "validated-200-stored",
    "and answers what comes then",
    stale(TAG),
    ask(ok(FRESH, 'ETag: "b"'), miss()),
    ask(hit(2), equal("ETag", '"b"')),
)
T.must(
    "4.3.3",
    "validated-404",
    "a 404 is served in place of what was stored",
    stale(TAG),
    ask(ok(status=404), miss(404)),
    ask(ok(status=404), status(404)),
)
T.note(
    "4.3.3",
    "validated-500",
    "at a 500 what is stale is served",
    stale(TAG),
    ask(ok(status=500), status(200), revalidated()),
)
T.must(
    "4.3.3",
    "validated-500-must-revalidate",
    "at a 500 what has must-revalidate is not served",
    first(ok("Cache-Control: max-age=1, must-revalidate", TAG), rest_s=GONE_STALE_S),
    ask(ok(status=500), status(500, 502, 503, 504)),
)
T.good(
    "4.3.4",
    "freshened",
    "after a 304 it is fresh again",
    stale(TAG),
    ask(ok(validated=unchanged(FRESH, TAG)), revalidated()),
    ask(hit(1)),
)
T.good(
    "4.3.4",
    "freshened-by-old-max-age",
    "also when the 304 does not repeat max-age",
    first(ok("Cache-Control: max-age=2", TAG), rest_s=3.2),
    ask(ok(validated=unchanged(TAG)), revalidated()),
    ask(hit(1)),
)
T.good(
    "4.3.4",
    "freshened-by-last-modified",
    "also when only Last-Modified was there to compare",
    stale(MODIFIED),
    ask(ok(validated=unchanged(FRESH)), revalidated()),
    ask(hit(1)),
)
T.good(
    "4.3.4",
    "freshened-by-expires",
    "also by a new Expires",
    first(ok("Expires: {start-10}", TAG)),
    ask(ok(validated=unchanged("Expires: {now+3600}", TAG)), revalidated()),
    ask(hit(1)),
)
T.must(
    "4.3.4",
    "freshened-age",
    "its Age begins anew",
    stale(TAG),
    ask(ok(validated=unchanged(FRESH, TAG)), revalidated()),
    ask(hit(1), between("Age", 0, 5)),
)
T.must(
    "4.3.4",
    "freshened-for-less",
    "a shorter max-age of the 304 counts",
    stale(TAG),
    ask(ok(validated=unchanged("Cache-Control: max-age=0", TAG)), revalidated()),
    ask(ok(FRESH), miss()),
)
T.must(
    "4.3.4",
    "freshened-no-store",
    "a 304 with no-store is the last time that it is served",
    stale(TAG),
    ask(ok(validated=unchanged("Cache-Control: no-store", TAG)), status(200)),
    ask(ok(FRESH), miss()),
)
T.good(
    "4.3.4",
    "freshened-weak",
    "a weak entity tag validates as well",
    stale('ETag: W/"a"'),
    ask(ok(validated=unchanged(FRESH, 'ETag: W/"a"')), revalidated()),
    ask(hit(1)),
)

# --- what a 304 changes (§3.2, §4.3.4)


def updates(name: str, title: str, stored: str, sent: str, shown: str | None = None) -> None:
    """A row: a field of a 304 replaces the stored one, at once and from then on."""
    field, _, value = sent.partition(":")
    wanted = equal(field, value.strip() if shown is None else shown)
    fresh = sent if sent.startswith("Cache-Control") else FRESH
    answer = ok(validated=unchanged(fresh, TAG, *([sent] if fresh != sent else [])))
    lines = [line for line in (TAG, stored) if line]
    T.must("3.2", f"update-{name}", title, stale(*lines), ask(answer, revalidated(), wanted))
    T.good(
        "3.2",
        f"update-{name}-kept",
        f"{title}, and stays so",
        stale(*lines),
        first(answer, revalidated()),
        ask(hit(1), wanted),
    )


updates("changed", "a 304 changes a field", "X-A: old", "X-A: new")
updates("added", "a 304 adds a field", "", "X-A: new")
updates("cache-control", "a 304 changes Cache-Control", "X-B: 1", "Cache-Control: max-age=3600, foo=2")
updates("expires", "a 304 changes Expires", "Expires: {start+9000}", "Expires: {start+99000}")
updates("date", "a 304 changes Date", "Date: {start-50}", "Date: {start-2}")
updates("content-location", "a 304 changes Content-Location", "Content-Location: /a", "Content-Location: /b")
updates("link", "a 304 changes Link", "Link: </a>; rel=a", "Link: </b>; rel=b")
T.must(
    "3.2",
    "update-all-lines",
    "a 304's field replaces all lines of the stored one",
    stale(TAG, "X-A: 1", "X-A: 2"),
    ask(ok(validated=unchanged(FRESH, TAG, "X-A: 3")), revalidated(), equal("X-A", "3")),
)
T.must(
    "3.2",
    "update-keeps-others",
    "what a 304 does not name stays",
    stale(TAG, "X-A: old", "Content-Type: text/odd"),
    ask(
        ok(validated=unchanged(FRESH, TAG)),
        revalidated(),
        equal("X-A", "old"),
        equal("Content-Type", "text/odd"),
    ),
)
T.must(
    "3.2",
    "update-not-content-length",
    "a 304 does not change Content-Length",
    stale(TAG, body=b"0123456789"),
    ask(ok(validated=unchanged(FRESH, TAG, "Content-Length: 3")), status(200), body(b"0123456789")),
    ask(status(200), body(b"0123456789")),
)
for line in ("Content-Encoding: x-odd", "Content-Range: bytes 0-1/2"):
    field = line.partition(":")[0]
    T.must(
        "3.2",
        f"update-not-{field.lower()}",
        f"a 304 does not add {field}: the stored bytes stay what they are",
        stale(TAG),
        ask(ok(validated=unchanged(FRESH, TAG, line)), revalidated(), absent(field)),
    )
T.must(
    "3.1",
    "update-not-connection-listed",
    "nor a field that its Connection names",
    stale(TAG),
    ask(ok(validated=unchanged(FRESH, TAG, "Connection: X-Hop", "X-Hop: 1")), revalidated(), absent("X-Hop")),
)
T.note(
    "3.2",
    "update-content-type",
    "a 304 changes Content-Type",
    stale(TAG, "Content-Type: text/a"),
    ask(
        ok(validated=unchanged(FRESH, TAG, "Content-Type: text/b")),
        revalidated(),
        equal("Content-Type", "text/b"),
    ),
)
T.note(
    "3.2",
    "update-set-cookie",
    "a 304's Set-Cookie is stored",
    stale(TAG),
    ask(ok(validated=unchanged(FRESH, TAG, "Set-Cookie: a=1")), revalidated()),
    ask(hit(1), present("Set-Cookie")),
)
T.must(
    "4.3.4",
    "update-not-other-etag",
    "a 304 for another strong entity tag updates nothing",
    first(ok(FRESH, TAG, "X-A: old")),
    ask(
        ok('ETag: "b"', "Cache-Control: no-store", validated=unchanged('ETag: "b"', "X-A: new")),
        'If-None-Match: "b"',
        "Cache-Control: no-cache",
        status(200, 304),
    ),
    ask(ok(FRESH, TAG, "X-A: old"), status(200), equal("X-A", "old")),
)

# --- answering those who ask (§4.3.2; RFC 9110 §13)


def asked_whether(
    section: str, name: str, title: str, stored: tuple[str, ...], *asked: str, code: int
) -> None:
    """A row: a conditional request for what is fresh is answered here."""
    checks = hit() if code == 200 else (status(code), count(0), body(b""))
    COND.good(section, name, title, first(ok(FRESH, *stored)), ask(ok(FRESH), *asked, *checks))


def must_whole(section: str, name: str, title: str, stored: tuple[str, ...], *asked: str) -> None:
    """A row: who has not got this is sent the whole of it."""
    COND.must(section, name, title, first(ok(FRESH, *stored)), ask(ok(FRESH), *asked, status(200)))


WEAK: Final = 'ETag: W/"a"'
asked_whether("13.1.2", "inm-match", "the same entity tag", (TAG,), 'If-None-Match: "a"', code=304)
asked_whether("13.1.2", "inm-list", "one of a list", (TAG,), 'If-None-Match: "x", "a" ,"y"', code=304)
asked_whether(
    "13.1.2",
    "inm-lines",
    "one of several lines",
    (TAG,),
    'If-None-Match: "x"',
    'If-None-Match: "a"',
    code=304,
)
asked_whether("13.1.2", "inm-star", "* is whatever is there", (TAG,), "If-None-Match: *", code=304)
asked_whether(
    "13.1.2", "inm-weak-asked", "a weak one asks for a strong one", (TAG,), 'If-None-Match: W/"a"', code=304
)
asked_whether(
    "13.1.2", "inm-weak-stored", "a strong one asks for a weak one", (WEAK,), 'If-None-Match: "a"', code=304
)
asked_whether("13.1.2", "inm-weak-both", "both are weak", (WEAK,), 'If-None-Match: W/"a"', code=304)
asked_whether(
    "13.1.2", "inm-comma", "a comma in an entity tag", ('ETag: "a,b"',), 'If-None-Match: "a,b"', code=304
)
asked_whether("13.1.2", "inm-other", "another entity tag", (TAG,), 'If-None-Match: "b"', code=200)
must_whole(
    "13.1.2", "inm-part", "a part of an entity tag is another", ('ETag: "a,b"',), 'If-None-Match: "a", "b"'
)
must_whole("13.1.2", "inm-case", "letters' case counts", ('ETag: "A"',), 'If-None-Match: "a"')
must_whole("13.1.2", "inm-unquoted", "without quotes it is none", (TAG,), "If-None-Match: a")
must_whole("13.1.2", "inm-none-stored", "nothing to compare with", (MODIFIED,), 'If-None-Match: "a"')
must_whole(
    "13.1.3", "inm-over-ims", "If-Modified-Since does not matter beside If-None-Match", (TAG, MODIFIED),
    'If-None-Match: "b"', "If-Modified-Since: {start-864000}",
)  # fmt: skip
asked_whether(
    "13.1.3", "inm-over-ims-304", "the other way round too", (TAG, MODIFIED), 'If-None-Match: "a"',
    "If-Modified-Since: {start-999999}", code=304,
)  # fmt: skip
asked_whether(
    "13.1.3", "ims-same", "the same Last-Modified", (MODIFIED,), "If-Modified-Since: {start-864000}", code=304
)
asked_whether("13.1.3", "ims-later", "a later date", (MODIFIED,), "If-Modified-Since: {start-1000}", code=304)
asked_whether(
    "13.1.3", "ims-rfc850", "in rfc850 form", (MODIFIED,), "If-Modified-Since: {start-1000|rfc850}", code=304
)
asked_whether(
    "13.1.3",
    "ims-asctime",
    "in asctime form",
    (MODIFIED,),
    "If-Modified-Since: {start-1000|asctime}",
    code=304,
)
must_whole("13.1.3", "ims-earlier", "an earlier date", (MODIFIED,), "If-Modified-Since: {start-999999}")
must_whole("13.1.3", "ims-invalid", "an invalid date means nothing", (MODIFIED,), "If-Modified-Since: never")
COND.note(
    "13.1.3",
    "ims-without-last-modified",
    "without a Last-Modified the stored Date is compared",
    first(ok(FRESH, "Date: {start-100}")),
    ask(ok(FRESH), "If-Modified-Since: {start-50}", status(304), count(0)),
)
COND.good(
    "13.1.2",
    "inm-head",
    "HEAD may ask as well",
    first(ok(FRESH, TAG)),
    ask(ok(FRESH), 'If-None-Match: "a"', status(304), count(0), method="HEAD"),
)
COND.must(
    "13.2.1",
    "inm-not-success",
    "conditions mean nothing where the answer is no success",
    first(ok(FRESH, TAG, status=404)),
    ask(ok(FRESH, TAG, status=404), 'If-None-Match: "a"', status(404)),
)
COND.must(
    "13.2.1",
    "ims-not-redirect",
    "nor where it redirects",
    first(ok(FRESH, MODIFIED, "Location: /x", status=301)),
    ask(ok(FRESH, MODIFIED, status=301), "If-Modified-Since: {start-1000}", status(301)),
)
for field, line in (
    ("Cache-Control", "Cache-Control: max-age=3600, foo"),
    ("Content-Location", "Content-Location: {base}/x"),
    ("Date", "Date: {start-7}"),
    ("ETag", TAG),
    ("Expires", "Expires: {start+9000}"),
    ("Vary", "Vary: X-A"),
):
    stored_lines = [TAG, line] if field != "ETag" else [TAG]
    COND.must(
        "15.4.5",
        f"304-has-{field.lower()}",
        f"a 304 from the cache has {field}",
        first(ok(*([FRESH] if field != "Cache-Control" else []), *stored_lines)),
        ask(ok(FRESH), 'If-None-Match: "a"', status(304), equal(field, line.partition(":")[2].strip())),
    )
T.must(
    "5.1",
    "304-has-age",
    "a 304 from the cache has an Age",
    first(ok(FRESH, TAG, "Age: 100")),
    ask(ok(FRESH), 'If-None-Match: "a"', status(304), between("Age", 100, 105)),
)
COND.good(
    "15.4.5",
    "304-lacks-metadata",
    "a 304 repeats nothing of what the client has",
    first(ok(FRESH, TAG, "Content-Type: text/odd", "Content-Language: de", "Last-Modified: {start-5000}")),
    ask(
        ok(FRESH),
        'If-None-Match: "a"',
        status(304),
        absent("Content-Type", "Content-Language", "Last-Modified"),
    ),
)
COND.must(
    "15.4.5",
    "304-lacks-length",
    "a 304 has no length that is not the representation's",
    first(ok(FRESH, TAG, body=b"0123456789")),
    ask(ok(FRESH), 'If-None-Match: "a"', status(304), absent("Transfer-Encoding")),
)

# --- a client's condition meets a stale response (§4.3.2)

T.must(
    "4.3.2",
    "client-older-etag",
    "a client with something else is sent what a 304 has validated",
    stale(TAG),
    ask(ok(FRESH, validated=unchanged(FRESH, TAG)), 'If-None-Match: "old"', status(200)),
)
T.good(
    "4.3.2",
    "client-same-etag",
    "a client that has what a 304 has validated is told so",
    stale(TAG),
    ask(ok(FRESH, TAG, validated=unchanged(FRESH, TAG)), 'If-None-Match: "a"', status(304)),
)
T.good(
    "4.3.2",
    "client-newer-etag",
    "a client that has what the origin has now is told so",
    stale(TAG),
    ask(ok(FRESH, 'ETag: "b"', validated=unchanged(FRESH, 'ETag: "b"')), 'If-None-Match: "b"', status(304)),
)
T.must(
    "4.3.2",
    "client-304-not-stored",
    "a 304 that answers a client's condition answers nobody without one",
    ask(ok(FRESH, TAG, validated=unchanged(FRESH, TAG)), 'If-None-Match: "a"', status(200, 304)),
    ask(ok(FRESH, TAG), status(200)),
)
T.must(
    "4.3.2",
    "client-304-not-stored-date",
    "nor does one that answers a date",
    ask(ok(FRESH, MODIFIED, validated=unchanged(FRESH)), "If-Modified-Since: {now}", status(200, 304)),
    ask(ok(FRESH, MODIFIED), status(200)),
)
T.good(
    "4.3.2",
    "client-condition-stores",
    "a 200 to a client's condition is stored for others",
    ask(ok(FRESH, 'ETag: "b"'), 'If-None-Match: "a"', miss()),
    ask(hit()),
)

# --- conditions for the origin alone (RFC 9110 §13.1.1, §13.1.4)

for field, value in (("If-Match", '"a"'), ("If-Unmodified-Since", "{start-999999}")):
    COND.must(
        "13.1.1" if field == "If-Match" else "13.1.4",
        f"{field.lower()}-forwarded",
        f"{field} reaches the origin, and its 412 the client",
        ask(ok(status=412), f"{field}: {value}", origin_saw(field, value), method="PUT", body=b"x"),
    )
    COND.must(
        "13.1.1" if field == "If-Match" else "13.1.4",
        f"{field.lower()}-412-not-stored",
        f"a 412 to {field} answers nobody else",
        ask(ok(status=412), f"{field}: {value}", status(412, 200)),
        ask(ok(FRESH), status(200)),
    )
    COND.note(
        "13.1.1" if field == "If-Match" else "13.1.4",
        f"{field.lower()}-get-fresh",
        f"{field} of a GET that does not hold for what is stored gets a 412",
        first(ok(FRESH, 'ETag: "b"', "Last-Modified: {start-1000}")),
        ask(ok(status=412), f"{field}: {value}", status(412)),
    )
COND.must(
    "13.1.1",
    "if-match-holds",
    "If-Match of a GET that holds gets the response",
    first(ok(FRESH, TAG)),
    ask(ok(FRESH, TAG), 'If-Match: "a"', status(200)),
)
COND.must(
    "13.1.4",
    "if-unmodified-since-holds",
    "If-Unmodified-Since of a GET that holds gets the response",
    first(ok(FRESH, MODIFIED)),
    ask(ok(FRESH, MODIFIED), "If-Unmodified-Since: {start-1000}", status(200)),
)

# --- HEAD (§4.3.5)

SAME: Final = b"the same for GET and HEAD\n"
T.good(
    "4.3.5",
    "head-updates",
    "a HEAD response with the same validators updates what is stored",
    first(ok(FRESH, TAG, "X-A: old", body=SAME)),
    ask(ok(FRESH, TAG, "X-A: new", body=SAME), "Cache-Control: no-cache", method="HEAD"),
    ask(status(200), count(0), body(SAME), equal("X-A", "new")),
)
T.good(
    "4.3.5",
    "head-freshens",
    "and makes it fresh again",
    stale(TAG, body=SAME),
    ask(ok(FRESH, TAG, body=SAME), method="HEAD"),
    ask(status(200), count(0), body(SAME)),
)
T.good(
    "4.3.5",
    "head-other-etag",
    "one with another entity tag says that what is stored is old",
    first(ok(FRESH, TAG)),
    ask(ok(FRESH, 'ETag: "b"'), "Cache-Control: no-cache", method="HEAD"),
    ask(ok(FRESH, 'ETag: "b"'), miss()),
)
T.good(
    "4.3.5",
    "head-other-length",
    "one with another length too",
    first(ok(FRESH, TAG)),
    ask(ok(FRESH, TAG, body=b"x" * 500), "Cache-Control: no-cache", method="HEAD"),
    ask(ok(FRESH, TAG), miss()),
)
T.good(
    "4.3.5",
    "head-other-last-modified",
    "one with another Last-Modified too",
    first(ok(FRESH, MODIFIED)),
    ask(ok(FRESH, "Last-Modified: {start-50}"), "Cache-Control: no-cache", method="HEAD"),
    ask(ok(FRESH), miss()),
)
T.note(
    "4.3.5",
    "head-404",
    "a 404 to HEAD says that what is stored is gone",
    first(ok(FRESH, TAG)),
    ask(ok(status=404), "Cache-Control: no-cache", method="HEAD"),
    ask(ok(FRESH, TAG), miss()),
)
T.must(
    "4.3.5",
    "head-keeps-body",
    "an updated response keeps its body",
    stale(TAG, body=SAME),
    ask(ok(FRESH, TAG, body=SAME), method="HEAD"),
    ask(ok(FRESH, TAG, body=SAME), body(SAME), status(200)),
)
