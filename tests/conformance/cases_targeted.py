"""Directives for CDN caches alone: RFC 9213; and `immutable`: RFC 8246."""

from __future__ import annotations

from typing import Final

from conformance_case import (
    Chapter,
    ask,
    between,
    equal,
    first,
    hit,
    later,
    miss,
    ok,
    origin_saw,
    present,
    revalidated,
    status,
    stored_in,
    unchanged,
    within,
)

T: Final = Chapter("9213")
IMMUTABLE: Final = Chapter("8246")
CHAPTERS: Final = (T, IMMUTABLE)
CDN: Final = "CDN-Cache-Control"
OURS: Final = "Atoll-CDN-Cache-Control"
FRESH: Final = "Cache-Control: max-age=3600"
STALE: Final = "Cache-Control: max-age=0"
OLD: Final = "Last-Modified: {start-864000}"
TAG: Final = 'ETag: "a"'


def reused(section: str, name: str, title: str, *lines: str, ours: bool = False) -> None:
    """A row: what comes with these fields is reused."""
    T.good(section, name, title, ask(ok(*lines)), ask(hit()), atoll_only=ours)


def not_reused(section: str, name: str, title: str, *lines: str, ours: bool = False) -> None:
    """A row: what comes with these fields is not."""
    T.must(section, name, title, ask(ok(*lines)), ask(ok(*lines), miss()), atoll_only=ours)


# --- precedence (§2.2)

reused("2.2", "cdn-over-max-age-0", "max-age for CDNs comes before max-age=0", f"{CDN}: max-age=3600", STALE)
reused("2.2", "cdn-over-no-store", "before no-store", f"{CDN}: max-age=3600", "Cache-Control: no-store")
reused("2.2", "cdn-over-private", "before private", f"{CDN}: max-age=3600", "Cache-Control: private")
reused("2.2", "cdn-over-no-cache", "before no-cache", f"{CDN}: max-age=3600", "Cache-Control: no-cache")
reused("2.2", "cdn-over-s-maxage", "before s-maxage", f"{CDN}: max-age=3600", "Cache-Control: s-maxage=0")
reused("2.2", "cdn-over-expires", "before Expires", f"{CDN}: max-age=3600", "Expires: {now-3600}")
reused("2.2", "cdn-alone", "it is enough by itself", f"{CDN}: max-age=3600")
reused("2.2", "cdn-s-maxage", "s-maxage is understood in it", f"{CDN}: s-maxage=3600, max-age=0", STALE)
not_reused("2.2", "cdn-max-age-0", "max-age=0 for CDNs comes before max-age", f"{CDN}: max-age=0", FRESH)
not_reused("2.2", "cdn-no-store", "no-store for CDNs", f"{CDN}: no-store", FRESH)
not_reused("2.2", "cdn-private", "private for CDNs", f"{CDN}: private", FRESH)
not_reused("2.2", "cdn-no-cache", "no-cache for CDNs", f"{CDN}: no-cache", FRESH)
not_reused(
    "2.2",
    "cdn-no-store-expires",
    "no-store for CDNs beside Expires",
    f"{CDN}: no-store",
    "Expires: {now+3600}",
)
not_reused(
    "2.2",
    "cdn-max-age-0-expires",
    "max-age=0 for CDNs beside Expires",
    f"{CDN}: max-age=0",
    "Expires: {now+3600}",
)
not_reused("2.2", "cdn-max-age-no-store", "both in one field", f"{CDN}: max-age=3600, no-store", FRESH)
not_reused("2.2", "cdn-age", "what came older than that is stale", f"{CDN}: max-age=3600", "Age: 7200", STALE)
not_reused("2.2", "cdn-shorter-age", "a shorter one", f"{CDN}: max-age=100", "Age: 200", FRESH)
not_reused("2.2", "cdn-date", "an old Date counts", f"{CDN}: max-age=3600", "Date: {now-7200}", FRESH)
reused("2.2", "cdn-longer-age", "a longer one", f"{CDN}: max-age=9000", "Age: 7200", FRESH)
reused("2.2", "cdn-unknown", "unknown directives beside it", f"{CDN}: foo, max-age=3600, bar=1", STALE)
reused(
    "2.2",
    "cdn-must-revalidate",
    "must-revalidate changes nothing while fresh",
    f"{CDN}: max-age=3600, must-revalidate",
    STALE,
)
reused(
    "2.2",
    "cdn-heuristic",
    "an unknown directive alone replaces Cache-Control",
    f"{CDN}: none",
    "Cache-Control: no-store",
    OLD,
)
T.must(
    "2.2",
    "cdn-unknown-alone",
    "an unknown directive alone replaces max-age as well",
    ask(ok(f"{CDN}: none", FRESH)),
    ask(ok(), miss()),
)
T.must(
    "2.2",
    "cdn-stale-after",
    "it is stale when max-age for CDNs is over",
    ask(ok(f"{CDN}: max-age=1", FRESH)),
    ask(ok(), miss(), wait_s=2.1),
)
T.must(
    "2.2",
    "cdn-age-shown",
    "its Age is as always",
    first(ok(f"{CDN}: max-age=9000", "Age: 100", STALE)),
    ask(hit(), between("Age", 100, 105)),
)
T.must(
    "2.2",
    "cdn-cache-control-kept",
    "Cache-Control reaches the client as it is",
    first(ok(f"{CDN}: max-age=3600", "Cache-Control: no-store, foo")),
    ask(hit(), equal("Cache-Control", "no-store, foo")),
)
T.note(
    "2.2",
    "cdn-kept",
    "the field for CDNs reaches the client as well",
    first(ok(f"{CDN}: max-age=3600", STALE)),
    ask(hit(), present(CDN)),
)
T.good(
    "2.2",
    "cdn-validated",
    "no-cache for CDNs: it is validated",
    first(ok(f"{CDN}: no-cache", FRESH, TAG)),
    ask(ok(validated=unchanged(f"{CDN}: no-cache", TAG)), revalidated(), origin_saw("If-None-Match", '"a"')),
)
T.good(
    "2.2",
    "cdn-304",
    "a 304's field for CDNs replaces the stored one",
    first(ok(f"{CDN}: max-age=0", FRESH, TAG)),
    first(ok(validated=unchanged(f"{CDN}: max-age=3600", TAG)), revalidated()),
    ask(hit(1)),
)
T.good(
    "2.2",
    "cdn-swr",
    "stale-while-revalidate is understood in it",
    first(ok(f"{CDN}: max-age=1, stale-while-revalidate=600", "Cache-Control: max-age=1", TAG)),
    ask(ok(FRESH, delay_s=1.0), stored_in(1), within(0.7), later(), wait_s=2.1),
)
T.good(
    "2.2",
    "cdn-sie",
    "stale-if-error is understood in it",
    first(ok(f"{CDN}: max-age=1, stale-if-error=600", "Cache-Control: max-age=1", TAG)),
    ask(ok(dropped=True), revalidated(), wait_s=2.1),
)
T.must(
    "2.2",
    "cdn-must-revalidate-unreachable",
    "must-revalidate in it forbids to stand in",
    ask(ok(f"{CDN}: max-age=1, must-revalidate", "Cache-Control: max-age=1, stale-if-error=600", TAG)),
    ask(ok(dropped=True), status(500, 502, 503, 504), wait_s=2.1),
)
T.good(
    "2.2",
    "cdn-authorization",
    "public in it lets a response to a request with credentials answer others",
    ask(ok(f"{CDN}: public, max-age=3600", FRESH), "Authorization: Basic YTpi"),
    ask(hit()),
)
T.must(
    "2.2",
    "cdn-authorization-public-elsewhere",
    "public in Cache-Control does not, beside it",
    ask(ok(f"{CDN}: max-age=3600", "Cache-Control: public, max-age=3600"), "Authorization: Basic YTpi"),
    ask(ok(FRESH), miss()),
)

# --- syntax (§2.1): a dictionary of structured fields; what is none is as if it were not there

for name, title, value in (
    ("uppercase-key", "a key in uppercase", "MAX-AGE=3600"),
    ("two-commas", "two commas", "max-age=3600,,"),
    ("trailing-comma", "a comma at the end", "max-age=3600,"),
    ("garbage", "no dictionary at all", "&&&"),
    ("unclosed", "a quote that is not closed", 'max-age=3600, foo="'),
    ("space-equals", "space around =", "max-age = 3600"),
    ("semicolon", "a semicolon at the end", "max-age=3600;"),
    ("empty", "nothing", ""),
):
    not_reused(
        "2.1",
        f"cdn-invalid-{name}",
        f"{title}: the field is ignored, Cache-Control counts",
        f"{CDN}: {value}",
        STALE,
    )
reused("2.1", "cdn-invalid-no-store", "an invalid no-store forbids nothing", f"{CDN}: no-store,,", FRESH)
reused(
    "2.1",
    "cdn-invalid-expires",
    "with Expires in place of Cache-Control",
    f"{CDN}: no-store&",
    "Expires: {now+3600}",
)
for name, title, value in (
    ("string", "a string", 'max-age="3600"'),
    ("decimal", "a decimal", "max-age=3600.5"),
    ("token", "a token", "max-age=long"),
    ("true", "a boolean", "max-age"),
    ("bytes", "a byte sequence", "max-age=:MzYwMA==:"),
    ("list", "an inner list", "max-age=(3600)"),
    ("negative", "a number below zero", "max-age=-3600"),
):
    T.must(
        "2.1",
        f"cdn-type-{name}",
        f"{title} is no value of max-age",
        ask(ok(f"{CDN}: {value}", STALE)),
        ask(ok(f"{CDN}: {value}", STALE), miss()),
    )
reused("2.1", "cdn-parameters", "parameters are ignored", f"{CDN}: max-age=3600;a=1;b", STALE)
reused("2.1", "cdn-last-wins", "of two the last counts", f"{CDN}: max-age=0, max-age=3600", STALE)
not_reused(
    "2.1",
    "cdn-last-wins-0",
    "of two the last counts, if it is shorter",
    f"{CDN}: max-age=3600, max-age=0",
    FRESH,
)
reused("2.1", "cdn-lines", "several lines are one dictionary", f"{CDN}: foo", f"{CDN}: max-age=3600", STALE)
not_reused(
    "2.1",
    "cdn-lines-no-store",
    "no-store in a second line",
    f"{CDN}: max-age=3600",
    f"{CDN}: no-store",
    FRESH,
)
reused("2.1", "cdn-false", "no-store=?0 is not no-store", f"{CDN}: max-age=3600, no-store=?0", STALE)

# --- the field of one cache alone (§2.2: its target list begins with it)

reused(
    "2.2",
    "ours-over-cdn",
    "Atoll's own field comes first",
    f"{OURS}: max-age=60",
    f"{CDN}: no-store",
    ours=True,
)
not_reused(
    "2.2", "ours-no-store", "whatever it says", f"{OURS}: no-store", f"{CDN}: max-age=60", FRESH, ours=True
)
reused(
    "2.2",
    "ours-invalid",
    "an invalid one leaves the next",
    f"{OURS}: &&",
    f"{CDN}: max-age=60",
    STALE,
    ours=True,
)
reused("2.2", "ours-empty", "an empty one too", f"{OURS}:", f"{CDN}: max-age=60", STALE, ours=True)

# --- immutable (RFC 8246 §2)

IMMUTABLE.good(
    "2", "immutable-fresh", "immutable and fresh: reused", first(ok(FRESH + ", immutable")), ask(hit())
)
IMMUTABLE.must(
    "2",
    "immutable-stale",
    "immutable does not make it fresh for longer",
    ask(ok("Cache-Control: max-age=3600, immutable", "Age: 7200", TAG)),
    ask(ok(FRESH), miss()),
)
IMMUTABLE.must(
    "2",
    "immutable-alone",
    "immutable alone is no freshness",
    ask(ok("Cache-Control: immutable", TAG)),
    ask(ok(FRESH), miss()),
)
IMMUTABLE.must(
    "2",
    "immutable-max-age-0",
    "nor beside max-age=0",
    ask(ok("Cache-Control: max-age=0, immutable", TAG)),
    ask(ok(FRESH), miss()),
)
IMMUTABLE.must(
    "2",
    "immutable-no-store",
    "nor does it lift no-store",
    ask(ok("Cache-Control: max-age=3600, immutable, no-store")),
    ask(ok(FRESH), miss()),
)
IMMUTABLE.good(
    "2",
    "immutable-no-cache",
    "who asks for the origin gets the origin",
    first(ok("Cache-Control: max-age=3600, immutable", TAG)),
    ask(ok(FRESH), "Cache-Control: no-cache", miss()),
)
IMMUTABLE.good(
    "2",
    "immutable-argument",
    "an argument of it is ignored",
    first(ok('Cache-Control: immutable="no", max-age=3600')),
    ask(hit()),
)
IMMUTABLE.note(
    "2",
    "immutable-reload",
    "a reload (max-age=0) is answered without the origin",
    first(ok("Cache-Control: max-age=3600, immutable", TAG)),
    ask(ok(FRESH), "Cache-Control: max-age=0", hit()),
)
