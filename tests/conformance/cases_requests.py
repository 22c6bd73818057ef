"""What a request may ask of the cache: RFC 9111 §5.2.1, and Pragma (§5.4). Caches need not listen."""

from __future__ import annotations

from typing import Final

from conformance_case import (
    Chapter,
    absent,
    ask,
    count,
    first,
    hit,
    miss,
    ok,
    origin_saw,
    revalidated,
    stale,
    status,
    unchanged,
)

T: Final = Chapter("9111")
CHAPTERS: Final = (T,)
FRESH: Final = "Cache-Control: max-age=3600"
AGED: Final = "Age: 1800"
TAG: Final = 'ETag: "a"'


def asks(section: str, name: str, title: str, request: str, *stored: str) -> None:
    """A row: with this request field the origin is asked although something is stored."""
    T.good(section, name, title, first(ok(*stored)), ask(ok(FRESH), request, miss()))


def served(section: str, name: str, title: str, request: str, *stored: str) -> None:
    """A row: with this request field what is stored is served."""
    T.good(section, name, title, first(ok(*stored)), ask(request, hit()))


asks("5.2.1.4", "request-no-cache", "no-cache: the origin is asked", "Cache-Control: no-cache", FRESH)
asks("5.2.1.4", "request-no-cache-case", "No-Cache too", "Cache-Control: foo, No-Cache", FRESH)
asks("5.2.1.1", "request-max-age-0", "max-age=0: the origin is asked", "Cache-Control: max-age=0", FRESH)
asks("5.2.1.1", "request-max-age-older", "it is older than asked", "Cache-Control: max-age=600", FRESH, AGED)
asks("5.2.1.1", "request-max-age-quoted", "a quoted number", 'Cache-Control: max-age="600"', FRESH, AGED)
served(
    "5.2.1.1",
    "request-max-age-younger",
    "it is younger than asked",
    "Cache-Control: max-age=3000",
    FRESH,
    AGED,
)
asks(
    "5.2.1.3",
    "request-min-fresh-short",
    "it is not fresh for long enough",
    "Cache-Control: min-fresh=3000",
    FRESH,
    AGED,
)
served(
    "5.2.1.3",
    "request-min-fresh-long",
    "it is fresh for long enough",
    "Cache-Control: min-fresh=600",
    FRESH,
    AGED,
)
served(
    "5.2.1.5",
    "request-no-store-served",
    "no-store says nothing of what is stored",
    "Cache-Control: no-store",
    FRESH,
)
served("5.2.1", "request-unknown", "an unknown directive means nothing", "Cache-Control: foo=1, bar", FRESH)
served(
    "5.2.1.6",
    "request-no-transform",
    "no-transform says nothing of what is stored",
    "Cache-Control: no-transform",
    FRESH,
)
served("5.2.1", "request-like-no-cache", "x-no-cache is not no-cache", "Cache-Control: x-no-cache", FRESH)
served(
    "5.2.1",
    "request-quoted-no-cache",
    "what is in quotes is no directive",
    'Cache-Control: foo="a, no-cache"',
    FRESH,
)
T.good(
    "5.2.1.4",
    "request-no-cache-updates",
    "what no-cache brings answers later requests",
    first(ok(FRESH)),
    ask(ok(FRESH), "Cache-Control: no-cache", miss()),
    ask(hit(2)),
)
T.good(
    "5.2.1.4",
    "request-no-cache-validates",
    "no-cache lets what is stored be validated",
    first(ok(FRESH, TAG)),
    ask(
        ok(validated=unchanged(FRESH, TAG)),
        "Cache-Control: no-cache",
        revalidated(),
        origin_saw("If-None-Match", '"a"'),
    ),
)
T.good(
    "5.2.1.5",
    "request-no-store-keeps-out",
    "what no-store brings answers nobody, also where something stale is stored",
    stale(TAG),
    ask(ok(FRESH), "Cache-Control: no-store", miss()),
    ask(ok(FRESH), miss()),
)

# --- only-if-cached (§5.2.1.7)

T.good(
    "5.2.1.7",
    "only-if-cached-absent",
    "only-if-cached: 504 when nothing is stored",
    ask(ok(FRESH), "Cache-Control: only-if-cached", status(504), count(0)),
)
served(
    "5.2.1.7",
    "only-if-cached-fresh",
    "only-if-cached: what is fresh is served",
    "Cache-Control: only-if-cached",
    FRESH,
)
T.good(
    "5.2.1.7",
    "only-if-cached-stale",
    "only-if-cached: 504 when what is stored is stale",
    stale(TAG),
    ask(ok(FRESH), "Cache-Control: only-if-cached", status(504), count(0)),
)
T.good(
    "5.2.1.7",
    "only-if-cached-vary",
    "only-if-cached: 504 when another variant is stored",
    first(ok(FRESH, "Vary: X-A"), "X-A: 1"),
    ask(ok(FRESH), "Cache-Control: only-if-cached", "X-A: 2", status(504), count(0)),
)
T.good(
    "5.2.1.7",
    "only-if-cached-head",
    "only-if-cached: HEAD likewise",
    ask(ok(FRESH), "Cache-Control: only-if-cached", status(504), count(0), method="HEAD"),
)
T.good(
    "5.2.1.7",
    "only-if-cached-not-kept",
    "the 504 is not kept",
    ask(ok(FRESH), "Cache-Control: only-if-cached", status(504), count(0)),
    ask(ok(FRESH), miss(), absent("Age")),
)

# --- max-stale (§5.2.1.2), and what forbids it (§4.2.4, §5.2.2)

SHORT: Final = "max-age=1"


def stale_served(name: str, title: str, request: str) -> None:
    """A row: with this request what has become stale is served."""
    T.good(
        "5.2.1.2",
        name,
        title,
        first(ok(f"Cache-Control: {SHORT}")),
        ask(ok(FRESH), request, hit(), wait_s=2.1),
    )


def stale_refused(section: str, name: str, title: str, directive: str, request: str = "max-stale") -> None:
    """A row: this response is not served stale whatever the request says."""
    T.must(
        section,
        name,
        title,
        ask(ok(f"Cache-Control: {directive}")),
        ask(ok(FRESH), f"Cache-Control: {request}", miss(), wait_s=2.1),
    )


stale_served("max-stale-any", "max-stale takes anything stale", "Cache-Control: max-stale")
stale_served(
    "max-stale-enough", "max-stale=1000 takes what is stale for 2 s", "Cache-Control: max-stale=1000"
)
stale_served(
    "max-stale-only-if-cached", "beside only-if-cached", "Cache-Control: max-stale=1000, only-if-cached"
)
T.good(
    "5.2.1.2",
    "max-stale-exceeded",
    "max-stale=1 does not take what is stale for longer",
    first(ok(f"Cache-Control: {SHORT}")),
    ask(ok(FRESH), "Cache-Control: max-stale=1", miss(), wait_s=3.2),
)
stale_refused(
    "5.2.2.2", "max-stale-must-revalidate", "must-revalidate forbids it", f"{SHORT}, must-revalidate"
)
stale_refused(
    "5.2.2.8", "max-stale-proxy-revalidate", "proxy-revalidate forbids it", f"{SHORT}, proxy-revalidate"
)
stale_refused("5.2.2.10", "max-stale-s-maxage", "s-maxage forbids it", "s-maxage=1")
stale_refused("5.2.2.4", "max-stale-no-cache", "no-cache forbids it", f"{SHORT}, no-cache")
T.note(
    "5.2.1.1",
    "max-stale-max-age",
    "max-age of a request beside max-stale takes what is stale and young enough",
    first(ok(f"Cache-Control: {SHORT}")),
    ask(ok(FRESH), "Cache-Control: max-age=1000, max-stale=1000", hit(), wait_s=2.1),
)

# --- Pragma (§5.4)

T.note(
    "5.4",
    "pragma-no-cache",
    "Pragma: no-cache alone asks the origin",
    first(ok(FRESH)),
    ask(ok(FRESH), "Pragma: no-cache", miss()),
)
T.note(
    "5.4",
    "pragma-beside-cache-control",
    "beside Cache-Control Pragma means nothing",
    first(ok(FRESH)),
    ask("Pragma: no-cache", "Cache-Control: max-age=3000", hit()),
)
