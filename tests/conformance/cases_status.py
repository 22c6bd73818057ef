"""What the edge says it did: `Cache-Status`, RFC 9211. Peers say it in ways of their own."""

from __future__ import annotations

from typing import Any, Final

from conformance_case import (
    Chapter,
    Check,
    Step,
    ask,
    count,
    first,
    holds,
    later,
    ok,
    revalidated,
    said,
    status,
    stored_in,
    unchanged,
)

T: Final = Chapter("9211")
CHAPTERS: Final = (T,)
FRESH: Final = "Cache-Control: max-age=3600"
TAG: Final = 'ETag: "a"'
AGED: Final = "Age: 7200"


def row(section: str, name: str, title: str, *steps: Step) -> None:
    """A row that only Atoll is asked."""
    T.must(section, f"said-{name}", title, *steps, atoll_only=True)


def no_hit(fwd: str, **more: Any) -> Check:
    """Forwarded for this reason, and no hit."""
    return said(hit=None, fwd=fwd, **more)


row("2.1", "hit", "a hit is a hit", first(ok(FRESH)), ask(said(hit=True, fwd=None, fwd_status=None)))
row(
    "2.4",
    "hit-ttl",
    "and says how long it stays one",
    first(ok(FRESH)),
    ask(said(hit=True, ttl=(3590, 3600))),
)
row(
    "2.4", "hit-ttl-age", "less its age", first(ok(FRESH, "Age: 1000")), ask(said(hit=True, ttl=(2590, 2600)))
)
row(
    "2.4",
    "hit-ttl-expires",
    "also where Expires says so",
    first(ok("Expires: {now+1000}")),
    ask(said(hit=True, ttl=(990, 1001))),
)
row(
    "2.4",
    "hit-ttl-cdn",
    "also where a targeted field says so",
    first(ok("CDN-Cache-Control: max-age=100", FRESH)),
    ask(said(hit=True, ttl=(90, 100))),
)
row(
    "2.1",
    "hit-head",
    "a HEAD from the cache is a hit",
    first(ok(FRESH)),
    ask(said(hit=True, fwd=None), method="HEAD"),
)
row(
    "2.1",
    "hit-304",
    "a 304 from the cache is a hit",
    first(ok(FRESH, TAG)),
    ask('If-None-Match: "a"', status(304), said(hit=True, fwd=None)),
)
row(
    "2.1",
    "hit-206",
    "a 206 from the cache is a hit",
    first(ok(FRESH, TAG, body=b"0123456789")),
    ask(
        ok(FRESH, TAG, body=b"0123456789", ranged=True),
        "Range: bytes=0-3",
        status(206),
        said(hit=True, fwd=None),
    ),
)
row("2.1", "hit-404", "a stored 404 is a hit", first(ok(FRESH, status=404)), ask(status(404), said(hit=True)))
row("2.2", "miss", "nothing stored", ask(ok(FRESH), no_hit("uri-miss", fwd_status=200, stored=True)))
row(
    "2.2",
    "miss-404",
    "the origin's status",
    ask(ok(FRESH, status=404), no_hit("uri-miss", fwd_status=404, stored=True)),
)
row(
    "2.5",
    "miss-not-stored",
    "what is not stored",
    ask(ok("Cache-Control: no-store"), no_hit("uri-miss", stored=None)),
)
row(
    "2.5",
    "miss-private",
    "what is private",
    ask(ok("Cache-Control: private"), no_hit("uri-miss", stored=None)),
)
row(
    "2.5",
    "miss-ttl",
    "what has come and how long it stays",
    ask(ok(FRESH), said(fwd="uri-miss", ttl=(3590, 3600))),
)
row("2.2", "miss-head", "HEAD of what is not stored", ask(ok(FRESH), said(hit=None, fwd=...), method="HEAD"))
row(
    "2.2",
    "vary-miss",
    "another variant is stored",
    first(ok(FRESH, "Vary: X-A"), "X-A: 1"),
    ask(ok(FRESH, "Vary: X-A"), "X-A: 2", no_hit("vary-miss", fwd_status=200, stored=True)),
)
row(
    "2.2",
    "stale",
    "what is stored is stale",
    first(ok(FRESH, AGED, TAG)),
    ask(ok(FRESH, TAG), no_hit("stale", fwd_status=200, stored=True)),
)
row(
    "2.2",
    "stale-304",
    "what is stored was stale and is validated",
    first(ok(FRESH, AGED, TAG)),
    ask(ok(validated=unchanged(FRESH, TAG)), revalidated(), no_hit("stale", fwd_status=304)),
)
row(
    "2.2",
    "stale-no-cache",
    "no-cache of the response: stale as well",
    first(ok("Cache-Control: no-cache", TAG)),
    ask(ok(validated=unchanged("Cache-Control: no-cache", TAG)), no_hit("stale", fwd_status=304)),
)
row(
    "2.2",
    "method",
    "a method that is never cached",
    ask(ok(), no_hit("method", fwd_status=200), method="POST", body=b"x"),
)
row(
    "2.2", "method-put", "PUT", ask(ok(status=204), no_hit("method", fwd_status=204), method="PUT", body=b"x")
)
row("2.2", "method-delete", "DELETE", ask(ok(status=404), no_hit("method", fwd_status=404), method="DELETE"))
row(
    "2.2",
    "request",
    "the request asks for the origin",
    first(ok(FRESH)),
    ask(ok(FRESH), "Cache-Control: no-cache", no_hit("request", fwd_status=200)),
)
row(
    "2.2",
    "request-max-age",
    "the request limits the age",
    first(ok(FRESH, "Age: 1000")),
    ask(ok(FRESH), "Cache-Control: max-age=10", no_hit("request", fwd_status=200)),
)
row(
    "2.2",
    "partial-hit",
    "a part of what was asked for in parts is a hit",
    first(ok(FRESH, TAG, body=b"0123456789", ranged=True), "Range: bytes=0-3", status(206)),
    ask(
        ok(FRESH, TAG, body=b"0123456789", ranged=True),
        "Range: bytes=1-2",
        status(206),
        said(hit=True, fwd=None),
    ),
)
row(
    "2.2",
    "partial",
    "a part of it is stored, and another part asked for",
    first(
        ok(FRESH, TAG, body=b"0123456789" * 400_000, ranged=True),
        "Range: bytes=0-3",
        status(206),
    ),
    ask(
        ok(FRESH, TAG, body=b"0123456789" * 400_000, ranged=True),
        "Range: bytes=3000000-3000008",
        status(206),
        no_hit("partial", fwd_status=206),
    ),
)
row(
    "2.6",
    "collapsed",
    "who waited for another's fetch says so",
    ask(ok(FRESH, delay_s=0.8), behind=True),
    ask(ok(FRESH), count(0), said(hit=None, fwd="uri-miss", collapsed=True), wait_s=0.2),
)
row(
    "2.4",
    "stale-hit",
    "what is served stale says for how long",
    first(ok("Cache-Control: max-age=1, stale-while-revalidate=600", TAG)),
    ask(ok(FRESH), stored_in(1), said(hit=True, ttl=(-9, -1)), later(), wait_s=2.2),
)
row(
    "2.2",
    "stale-if-error",
    "what stands in for an error says what the origin answered",
    first(ok("Cache-Control: max-age=1, stale-if-error=600", TAG)),
    ask(ok(status=503), status(200), said(detail=...), wait_s=2.2),
)
row(
    "2.8",
    "only-if-cached",
    "a 504 of the cache's own has a reason",
    ask(ok(FRESH), "Cache-Control: only-if-cached", status(504), said(detail=...)),
)
row(
    "2.8",
    "unreachable",
    "so has an error page",
    ask(ok(dropped=True), status(502, 503, 504), said(hit=None, detail=...)),
)
row(
    "2",
    "appended",
    "what a cache behind us said comes first",
    ask(
        ok(FRESH, "Cache-Status: Behind; hit; ttl=7"),
        holds("Cache-Status", "Behind; hit; ttl=7, "),
        no_hit("uri-miss"),
    ),
)
row(
    "2",
    "appended-hit",
    "also on a hit",
    first(ok(FRESH, "Cache-Status: Behind; fwd=miss")),
    ask(holds("Cache-Status", "Behind; fwd=miss, "), said(hit=True)),
)
row(
    "2.2",
    "error-500",
    "an error of the origin",
    ask(ok(status=500), no_hit("uri-miss", fwd_status=500, stored=None)),
)
