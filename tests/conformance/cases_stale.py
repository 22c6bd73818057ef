"""Serving what is stale, and when not: RFC 9111 §4.2.4, §5.2.2; RFC 5861 §3 and §4."""

from __future__ import annotations

from typing import Final

from conformance_case import (
    GONE_STALE_S,
    Answer,
    Chapter,
    ask,
    between,
    count,
    equal,
    first,
    hit,
    later,
    miss,
    ok,
    revalidated,
    status,
    stored_in,
    unchanged,
    within,
)

T: Final = Chapter("9111")
EXTENSION: Final = Chapter("5861")
CHAPTERS: Final = (T, EXTENSION)
FRESH: Final = "Cache-Control: max-age=3600"
TAG: Final = 'ETag: "a"'
DOWN: Final = ok(dropped=True)
BAD: Final = (500, 502, 503, 504)

# --- an origin that fails, and what forbids to stand in for it (§4.2.4)

for name, section, directives in (
    ("must-revalidate", "5.2.2.2", "max-age=1, must-revalidate"),
    ("proxy-revalidate", "5.2.2.8", "max-age=1, proxy-revalidate"),
    ("s-maxage", "5.2.2.10", "s-maxage=1"),
    ("no-cache", "5.2.2.4", "max-age=3600, no-cache"),
    ("must-revalidate-0", "5.2.2.2", "max-age=0, must-revalidate"),
    ("must-revalidate-case", "5.2.2.2", "max-age=1, Must-Revalidate"),
    ("must-revalidate-swr", "5.2.2.2", "max-age=1, must-revalidate, stale-while-revalidate=600"),
    ("must-revalidate-sie", "5.2.2.2", "max-age=1, must-revalidate, stale-if-error=600"),
    ("proxy-revalidate-sie", "5.2.2.8", "max-age=1, proxy-revalidate, stale-if-error=600"),
    ("no-cache-sie", "5.2.2.4", "max-age=3600, no-cache, stale-if-error=600"),
):
    T.must(
        section,
        f"unreachable-{name}",
        f"no answer from the origin: {directives} is an error, not what is stale",
        ask(ok(f"Cache-Control: {directives}", TAG)),
        ask(DOWN, status(*BAD), wait_s=GONE_STALE_S),
    )
T.note(
    "4.2.4",
    "unreachable-max-age",
    "no answer from the origin: what is stale is served",
    first(ok("Cache-Control: max-age=1", TAG)),
    ask(DOWN, revalidated(), wait_s=GONE_STALE_S),
)
T.must(
    "4.2.4",
    "unreachable-nothing-stored",
    "no answer from the origin and nothing stored is an error",
    ask(DOWN, status(*BAD)),
)
T.must(
    "4.2.4",
    "unreachable-then-back",
    "an error is not kept: the origin is asked again",
    ask(DOWN, status(*BAD)),
    ask(ok(FRESH), miss()),
)
T.good(
    "5.2.2.2",
    "must-revalidate-fresh",
    "must-revalidate changes nothing while it is fresh",
    first(ok("Cache-Control: max-age=3600, must-revalidate")),
    ask(hit()),
)
T.must(
    "5.2.2.2",
    "must-revalidate-503",
    "a 503 to a revalidation is passed on where must-revalidate forbids anything else",
    ask(ok("Cache-Control: max-age=1, must-revalidate", TAG)),
    ask(ok(status=503), status(503, 504), wait_s=GONE_STALE_S),
)
T.note(
    "5.2.2.2",
    "must-revalidate-504",
    "an origin that cannot be asked is a 504 where must-revalidate is said",
    first(ok("Cache-Control: max-age=1, must-revalidate", TAG)),
    ask(DOWN, status(504), wait_s=GONE_STALE_S),
)

# --- stale-if-error (RFC 5861 §4)

SIE: Final = "Cache-Control: max-age=1, stale-if-error=600"


def stands_in(name: str, title: str, answer: Answer, line: str = SIE, *request: str) -> None:
    """A row: what is stale stands in for this answer of the origin."""
    EXTENSION.good(
        "4", name, title, first(ok(line, TAG)), ask(answer, *request, revalidated(), wait_s=GONE_STALE_S)
    )


stands_in("sie-unreachable", "stale-if-error: no answer from the origin", DOWN)
for code in BAD:
    stands_in(f"sie-{code}", f"stale-if-error: the origin answers {code}", ok(status=code))
stands_in(
    "sie-s-maxage", "stale-if-error beside s-maxage", DOWN, "Cache-Control: s-maxage=1, stale-if-error=600"
)
stands_in("sie-quoted", "a quoted number", DOWN, 'Cache-Control: max-age=1, stale-if-error="600"')
stands_in("sie-case", "in any case of letters", DOWN, "Cache-Control: max-age=1, Stale-If-Error=600")
EXTENSION.note(
    "4",
    "sie-request",
    "stale-if-error in a request",
    first(ok("Cache-Control: max-age=1", TAG)),
    ask(ok(status=500), "Cache-Control: stale-if-error=600", revalidated(), wait_s=GONE_STALE_S),
)
EXTENSION.note(
    "4",
    "sie-over",
    "what has been stale for longer than stale-if-error says does not stand in",
    first(ok("Cache-Control: max-age=1, stale-if-error=1", TAG)),
    ask(ok(status=500), status(500), wait_s=3.2),
)
for code in (404, 410, 403):
    EXTENSION.must(
        "4",
        f"sie-not-{code}",
        f"a {code} is no error that stale-if-error speaks of",
        first(ok(SIE, TAG)),
        ask(ok(status=code), miss(code), wait_s=GONE_STALE_S),
    )
EXTENSION.must(
    "4",
    "sie-fresh-first",
    "an origin that answers is believed: stale-if-error changes nothing then",
    first(ok(SIE, TAG)),
    ask(ok(FRESH), miss(), wait_s=GONE_STALE_S),
)
EXTENSION.must(
    "4",
    "sie-age",
    "what stands in shows its age",
    first(ok(SIE, TAG)),
    ask(DOWN, stored_in(1), status(200), between("Age", 2, 9), wait_s=GONE_STALE_S),
)
EXTENSION.good(
    "4",
    "sie-back",
    "once the origin is back its answer is served",
    first(ok(SIE, TAG)),
    ask(ok(status=503), revalidated(), wait_s=GONE_STALE_S),
    ask(ok(FRESH), miss(), wait_s=0.3),
)
EXTENSION.good(
    "4",
    "sie-kept",
    "an error does not push out what is stale",
    first(ok(SIE, TAG)),
    ask(ok(status=503), revalidated(), wait_s=GONE_STALE_S),
    ask(ok(status=503), status(200)),
)
# --- stale-while-revalidate (RFC 5861 §3)

SWR: Final = "Cache-Control: max-age=1, stale-while-revalidate=600"
SLOW_S: Final = 1.0
AT_ONCE: Final = within(0.7)


def at_once(name: str, title: str, line: str, *request: str) -> None:
    """A row: what is stale is served without waiting, and the origin asked behind."""
    EXTENSION.good(
        "3",
        name,
        title,
        first(ok(line, TAG)),
        ask(ok(FRESH, delay_s=SLOW_S), *request, stored_in(1), AT_ONCE, later(), wait_s=GONE_STALE_S),
    )


at_once("swr", "stale-while-revalidate: nobody waits", SWR)
at_once("swr-s-maxage", "beside s-maxage", "Cache-Control: s-maxage=1, stale-while-revalidate=600")
at_once("swr-quoted", "a quoted number", 'Cache-Control: max-age=1, stale-while-revalidate="600"')
at_once("swr-case", "in any case of letters", "Cache-Control: max-age=1, Stale-While-Revalidate=600")
at_once("swr-expires", "beside Expires", "Expires: {now+1}\r\nCache-Control: stale-while-revalidate=600")
EXTENSION.good(
    "3",
    "swr-renewed",
    "what the origin answers behind is served next",
    first(ok(SWR, TAG)),
    first(ok(FRESH), stored_in(1), later(), wait_s=GONE_STALE_S),
    ask(hit(2)),
)
EXTENSION.good(
    "3",
    "swr-validated",
    "a 304 behind makes it fresh again",
    first(ok(SWR, TAG)),
    first(ok(validated=unchanged(FRESH, TAG)), stored_in(1), later(), wait_s=GONE_STALE_S),
    ask(hit(1), between("Age", 0, 2)),
)
EXTENSION.good(
    "3",
    "swr-once",
    "ten readers bring about one revalidation",
    first(ok(SWR, TAG)),
    ask(
        ok(FRESH, delay_s=SLOW_S),
        stored_in(1),
        AT_ONCE,
        count(1),
        later(),
        times=10,
        wait_s=GONE_STALE_S,
    ),
)
EXTENSION.good(
    "3",
    "swr-error",
    "an error behind is no reason to stop",
    first(ok(SWR, TAG)),
    first(ok(status=500), status(200), stored_in(1), later(), wait_s=GONE_STALE_S),
    ask(ok(status=500), status(200), stored_in(1)),
)
EXTENSION.good(
    "3",
    "swr-variant",
    "one variant is renewed, another is not touched",
    first(ok(SWR, TAG, "Vary: X-A"), "X-A: 1"),
    first(ok(FRESH, TAG, "Vary: X-A"), "X-A: 2"),
    first(ok(FRESH, "Vary: X-A"), "X-A: 1", stored_in(1), later(), wait_s=GONE_STALE_S),
    ask(hit(3), "X-A: 1"),
    ask(hit(2), "X-A: 2"),
)
EXTENSION.must(
    "3",
    "swr-age",
    "what is served stale shows its age",
    first(ok(SWR, TAG)),
    ask(ok(SWR, TAG), status(200), between("Age", 2, 9), stored_in(1), wait_s=GONE_STALE_S),
)
EXTENSION.must(
    "3",
    "swr-over",
    "what has been stale for longer than that is not served unasked",
    first(ok("Cache-Control: max-age=1, stale-while-revalidate=1", TAG)),
    ask(ok(FRESH), miss(), wait_s=3.2),
)
for name, directives in (
    ("must-revalidate", "max-age=1, must-revalidate, stale-while-revalidate=600"),
    ("proxy-revalidate", "max-age=1, proxy-revalidate, stale-while-revalidate=600"),
    ("no-cache", "max-age=1, no-cache, stale-while-revalidate=600"),
    ("zero", "max-age=1, stale-while-revalidate=0"),
    ("no-number", "max-age=1, stale-while-revalidate"),
    ("word", "max-age=1, stale-while-revalidate=soon"),
):
    EXTENSION.must(
        "3",
        f"swr-not-{name}",
        f"{directives}: nothing stale is served unasked",
        ask(ok(f"Cache-Control: {directives}", TAG)),
        ask(ok(FRESH), miss(), wait_s=GONE_STALE_S),
    )
EXTENSION.good(
    "3",
    "swr-request-no-cache",
    "who asks for the origin gets the origin",
    first(ok(SWR, TAG)),
    ask(ok(FRESH), "Cache-Control: no-cache", miss(), wait_s=GONE_STALE_S),
)
EXTENSION.good(
    "3",
    "swr-request-max-age",
    "who limits the age gets nothing older",
    first(ok(SWR, TAG)),
    ask(ok(FRESH), "Cache-Control: max-age=1", miss(), wait_s=GONE_STALE_S),
)
EXTENSION.good(
    "3",
    "swr-head",
    "HEAD is answered without waiting too",
    first(ok(SWR, TAG, "X-A: old")),
    ask(ok(FRESH, delay_s=SLOW_S), AT_ONCE, equal("X-A", "old"), later(), method="HEAD", wait_s=GONE_STALE_S),
)
EXTENSION.good(
    "3",
    "swr-conditional",
    "who has what is stale is told so without waiting",
    first(ok(SWR, TAG)),
    ask(ok(FRESH, delay_s=SLOW_S), 'If-None-Match: "a"', status(304), AT_ONCE, later(), wait_s=GONE_STALE_S),
)
