"""How long a response is fresh, how old it is, and how directives are read: RFC 9111 §4.2, §5.1 to §5.3."""

from __future__ import annotations

from typing import Final

from conformance_case import Chapter, ask, between, equal, first, hit, miss, ok, present

T: Final = Chapter("9111")
CHAPTERS: Final = (T,)
FRESH: Final = "Cache-Control: max-age=3600"
STALE: Final = "Cache-Control: max-age=0"
OLD: Final = "Last-Modified: {start-864000}"


def reused(section: str, name: str, title: str, *lines: str, dated: bool = True) -> None:
    """A row: what comes with these fields is reused."""
    T.good(section, name, title, ask(ok(*lines, dated=dated)), ask(hit()))


def not_reused(section: str, name: str, title: str, *lines: str) -> None:
    """A row: what comes with these fields is not reused."""
    T.must(section, name, title, ask(ok(*lines)), ask(ok(*lines), miss()))


def better_not(section: str, name: str, title: str, *lines: str) -> None:
    """A row: what comes with these fields should not be reused."""
    T.good(section, name, title, ask(ok(*lines)), ask(ok(*lines), miss()))


def noted(section: str, name: str, title: str, *lines: str) -> None:
    """A row about a choice: whether what comes with these fields is reused."""
    T.note(section, name, title, ask(ok(*lines)), ask(hit()))


# --- which of them says so (§4.2.1)

reused("4.2.1", "fresh-max-age", "max-age makes it fresh", FRESH)
reused("4.2.1", "fresh-s-maxage", "s-maxage makes it fresh", "Cache-Control: s-maxage=3600")
reused("4.2.1", "fresh-expires", "Expires makes it fresh", "Expires: {now+3600}")
not_reused("4.2.1", "stale-max-age-0", "max-age=0 is stale at once", STALE)
not_reused("4.2.1", "stale-max-age-0-old", "also when it has not changed for long", STALE, OLD)
not_reused("4.2.1", "stale-s-maxage-0", "s-maxage=0 is stale", "Cache-Control: s-maxage=0", OLD)
not_reused("4.2.1", "stale-expires-past", "an Expires that has passed is stale", "Expires: {now-3600}")
not_reused(
    "4.2.1", "stale-expires-past-old", "also when it has not changed for long", "Expires: {now-1}", OLD
)
not_reused(
    "4.2.1", "stale-expires-is-date", "an Expires equal to Date is stale", "Expires: {now}", "Date: {now}"
)
reused(
    "4.2.1", "s-maxage-over-max-age", "s-maxage comes before max-age", "Cache-Control: s-maxage=60, max-age=0"
)
not_reused(
    "4.2.1", "s-maxage-0-over-max-age", "a shorter s-maxage too", "Cache-Control: s-maxage=0, max-age=3600"
)
reused("4.2.1", "max-age-over-expires", "max-age comes before Expires", FRESH, "Expires: {now-3600}")
not_reused("4.2.1", "max-age-0-over-expires", "a shorter max-age too", STALE, "Expires: {now+3600}")
reused(
    "4.2.1",
    "s-maxage-over-expires",
    "s-maxage comes before Expires",
    "Cache-Control: s-maxage=60",
    "Expires: 0",
)
not_reused(
    "4.2.1",
    "s-maxage-0-over-expires",
    "a shorter one too",
    "Cache-Control: s-maxage=0",
    "Expires: {now+3600}",
)
reused(
    "4.2.1",
    "max-age-over-bad-expires",
    "an invalid Expires does not matter beside max-age",
    FRESH,
    "Expires: 0",
)
T.must(
    "4.2.1",
    "stale-after-max-age",
    "it is not reused once max-age is over",
    ask(ok("Cache-Control: max-age=1")),
    ask(ok(), miss(), wait_s=2.1),
)
T.must(
    "4.2.1",
    "stale-after-expires",
    "it is not reused once Expires has passed",
    ask(ok("Expires: {now+1}")),
    ask(ok(), miss(), wait_s=2.1),
)

# --- Expires (§5.3; RFC 9110 §5.6.7)

for name, value in (
    ("zero", "0"),
    ("minus-one", "-1"),
    ("word", "never"),
    ("number", "3600"),
    ("iso", "2099-01-01T00:00:00Z"),
    ("zone", "{now+3600|zone}"),
    ("cut", "Thu, 01 Jan 2099"),
    ("day-32", "Thu, 32 Jan 2099 00:00:00 GMT"),
    ("hour-25", "Thu, 01 Jan 2099 25:00:00 GMT"),
):
    not_reused(
        "5.3", f"expires-invalid-{name}", f"Expires: {value} is a time in the past", f"Expires: {value}", OLD
    )
for form in ("rfc850", "asctime"):
    reused(
        "5.3", f"expires-{form}", f"an Expires in {form} form is understood", f"Expires: {{now+3600|{form}}}"
    )
    not_reused(
        "5.3",
        f"expires-past-{form}",
        f"one in {form} form that has passed too",
        f"Expires: {{now-3600|{form}}}",
    )
noted("5.3", "expires-lowercase", "an Expires in lowercase is understood", "Expires: {now+3600|lower}")
noted("5.3", "expires-two-lines", "of two Expires the later counts", "Expires: 0", "Expires: {now+3600}")
not_reused("5.3", "expires-empty", "an empty Expires is a time in the past", "Expires:", OLD)
reused("4.2.1", "expires-from-date", "Expires counts from Date", "Date: {now-7200}", "Expires: {now+3600}")
not_reused(
    "4.2.1", "expires-before-date", "an Expires before Date is stale although it is to come",
    "Date: {now+7200}", "Expires: {now+3600}",
)  # fmt: skip
not_reused(
    "4.2.3", "expires-passed-since-date", "an Expires that was to come at Date and has passed",
    "Date: {now-7200}", "Expires: {now-3600}",
)  # fmt: skip

# --- age (§4.2.3, §5.1)

not_reused("4.2.3", "age-exceeds-max-age", "what came older than max-age is stale", FRESH, "Age: 7200")
not_reused(
    "4.2.3", "age-exceeds-s-maxage", "older than s-maxage", "Cache-Control: s-maxage=3600", "Age: 7200"
)
not_reused(
    "4.2.3", "age-exceeds-expires", "older than Expires", "Expires: {now+3600}", "Date: {now}", "Age: 7200"
)
not_reused("4.2.3", "age-equals-max-age", "as old as max-age is stale", FRESH, "Age: 3600")
reused("4.2.3", "age-below-max-age", "what came younger than max-age is fresh", FRESH, "Age: 1800")
not_reused("4.2.3", "age-huge", "an age beyond any number is old", FRESH, "Age: 99999999999999999999")
not_reused("4.2.3", "age-2-31", "an age of 2^31 is old", FRESH, "Age: 2147483648")
not_reused("4.2.3", "apparent-age", "an old Date makes it as old", FRESH, "Date: {now-7200}")
not_reused(
    "4.2.3", "apparent-age-over-age", "the older of Date and Age counts", FRESH, "Date: {now-7200}", "Age: 5"
)
not_reused("4.2.3", "age-over-apparent-age", "whichever it is", FRESH, "Date: {now}", "Age: 7200")
not_reused("4.2.3", "apparent-age-rfc850", "a Date in rfc850 form counts", FRESH, "Date: {now-7200|rfc850}")
reused("4.2.3", "date-ahead", "a Date ahead of our clock does no harm", FRESH, "Date: {now+7200}")
reused("4.2.3", "date-invalid", "an invalid Date does no harm beside max-age", FRESH, "Date: yesterday")
reused("4.2.3", "date-missing", "a missing Date does no harm", FRESH, dated=False)
reused("5.1", "age-zero", "an Age of 0 does no harm", FRESH, "Age: 0")
reused("5.1", "age-list-first", "of a list of ages the first counts", FRESH, "Age: 0, 7200")
better_not(
    "5.1", "age-list-first-old", "of a list of ages the first counts, if it is old", FRESH, "Age: 7200, 0"
)
better_not(
    "5.1", "age-lines-first-old", "of several lines of Age the first counts", FRESH, "Age: 7200", "Age: 0"
)
for name, value in (("word", "abc"), ("negative", "-7200"), ("empty", ""), ("quoted", '"7200"')):
    reused("5.1", f"age-invalid-{name}", f"an Age of {value or 'nothing'} is ignored", FRESH, f"Age: {value}")
noted("5.1", "age-decimal", "an Age of 7200.5 is ignored", FRESH, "Age: 7200.5")
noted("5.1", "age-parameter", "an Age of 7200;a=1 is ignored", FRESH, "Age: 7200;a=1")
T.must(
    "5.1",
    "age-shown",
    "what comes from the cache has an Age",
    first(ok(FRESH)),
    ask(hit(), between("Age", 0, 5)),
)
T.must(
    "5.1",
    "age-shown-after-wait",
    "the Age grows while it is stored",
    first(ok(FRESH)),
    ask(hit(), between("Age", 2, 7), wait_s=2.1),
)
T.must(
    "4.2.3",
    "age-shown-adds",
    "the Age it came with is added",
    first(ok(FRESH, "Age: 1000")),
    ask(hit(), between("Age", 1002, 1007), wait_s=2.1),
)
T.must(
    "4.2.3",
    "age-shown-apparent",
    "the Age is at least the time since Date",
    first(ok(FRESH, "Date: {now-1000}")),
    ask(hit(), between("Age", 1000, 1005)),
)
T.must(
    "4.2.3",
    "age-shown-date-ahead",
    "a Date ahead of our clock makes no age below zero",
    first(ok(FRESH, "Date: {now+1000}")),
    ask(hit(), between("Age", 0, 5)),
)
T.good(
    "4.2.3",
    "age-shown-delay",
    "the time the origin took is part of the age",
    first(ok(FRESH, "Age: 100", delay_s=2.1)),
    ask(hit(), between("Age", 102, 107)),
)
T.must(
    "5.1",
    "age-shown-once",
    "an Age that came is replaced",
    first(ok(FRESH, "Age: 7")),
    ask(hit(), between("Age", 7, 12)),
)
T.must(
    "4.2.3",
    "date-kept",
    "the Date of a stored response stays the origin's",
    first(ok(FRESH, "Date: {start-900}")),
    ask(hit(), equal("Date", "{start-900}")),
)
T.good(
    "4.2.3",
    "date-added",
    "a response without Date gets one",
    first(ok(FRESH, dated=False)),
    ask(hit(), present("Date")),
)

# --- heuristics (§4.2.2)

T.good(
    "4.2.2",
    "heuristic-query",
    "a target with a query is no exception",
    ask(ok(OLD), suffix="?a=1"),
    ask(hit(), suffix="?a=1"),
)
noted("4.2.2", "heuristic-etag-alone", "an entity tag without Last-Modified makes it fresh", 'ETag: "a"')
not_reused("4.2.2", "heuristic-not-beside-max-age", "max-age=0 beside a Last-Modified long ago", STALE, OLD)
not_reused(
    "4.2.2", "heuristic-just-modified", "what has just changed is not fresh for long", "Last-Modified: {now}"
)
not_reused(
    "4.2.2",
    "heuristic-modified-ahead",
    "a Last-Modified to come makes nothing fresh",
    "Last-Modified: {now+9000}",
)
not_reused(
    "5.2.2.4",
    "heuristic-no-cache",
    "no-cache beside a Last-Modified long ago",
    "Cache-Control: no-cache",
    OLD,
)
noted("5.4", "pragma-in-response", "Pragma in a response means nothing", "Pragma: no-cache", FRESH)
noted(
    "5.4", "pragma-in-response-alone", "Pragma in a response without Cache-Control", "Pragma: no-cache", OLD
)

# --- no-cache (§5.2.2.4)

not_reused("5.2.2.4", "no-cache", "no-cache is not reused unasked", "Cache-Control: no-cache, max-age=3600")
not_reused("5.2.2.4", "no-cache-etag", "also with an entity tag", "Cache-Control: no-cache", 'ETag: "a"')
not_reused("5.2.2.4", "no-cache-s-maxage", "nor beside s-maxage", "Cache-Control: s-maxage=60, no-cache")
not_reused("5.2.2.4", "no-cache-case", "in any case of letters", "Cache-Control: max-age=3600, No-Cache")
not_reused("5.2.2.4", "no-cache-second-line", "in a second line", FRESH, "Cache-Control: no-cache")
noted(
    "5.2.2.4", "no-cache-empty-list", 'no-cache="" names no field', 'Cache-Control: max-age=3600, no-cache=""'
)

# --- how directives are read (§5.2, §4.2.1)

for name, value in (
    ("name-case", "MaX-AgE=3600"),
    ("quoted", 'max-age="3600"'),
    ("quoted-s-maxage", 's-maxage="3600", max-age=0'),
    ("unknown-before", "foo, bar=1, max-age=3600"),
    ("unknown-after", "max-age=3600, foo, bar=1"),
    ("empty-members", ", ,max-age=3600,, ,"),
    ("tabs", "public\t,\tmax-age=3600"),
    ("no-space", "public,max-age=3600,foo"),
    ("leading-zeros", "max-age=0003600"),
    ("two-31", "max-age=2147483648"),
    ("huge", "max-age=99999999999999999999"),
    ("quoted-no-store", 'foo="no-store", max-age=3600'),
    ("quoted-comma-no-store", 'foo="a, no-store, b", max-age=3600'),
    ("quoted-private", 'foo="bar, private", max-age=3600'),
    ("quoted-max-age-0", 'foo="max-age=0", max-age=3600'),
    ("escaped-quote", 'foo="\\", no-store, \\"", max-age=3600'),
    ("immutable", "max-age=3600, immutable"),
    ("no-transform", "max-age=3600, no-transform"),
    ("like-no-store", "max-age=3600, no-stored"),
    ("like-private", "max-age=3600, x-private"),
):
    reused(
        "5.2",
        f"directive-{name}",
        f"{value!r} makes it fresh".replace("\\t", "tab"),
        f"Cache-Control: {value}",
    )
for name, value in (
    ("name-case-0", "MAX-AGE=0"),
    ("quoted-0", 'max-age="0"'),
    ("in-quotes", 'foo="max-age=3600"'),
    ("in-quotes-comma", 'foo="a, max-age=3600"'),
    ("in-quotes-escaped", 'foo="\\", max-age=3600, \\""'),
    ("like-max-age", "x-max-age=3600"),
    ("like-max-age-after", "max-age-x=3600"),
):
    not_reused(
        "5.2",
        f"directive-stale-{name}",
        f"{value!r} makes nothing fresh",
        f"Cache-Control: {value}",
        "Expires: 0",
    )
for name, value in (
    ("word", "max-age=abc"),
    ("negative", "max-age=-1"),
    ("empty", "max-age="),
    ("no-value", "max-age"),
    ("decimal", "max-age=3600.5"),
    ("unit", "max-age=3600s"),
    ("list", "max-age=3600;x=1"),
    ("spaces", "max-age = 3600"),
):
    better_not(
        "4.2.1", f"max-age-invalid-{name}", f"{value!r} is taken as stale", f"Cache-Control: {value}", OLD
    )
better_not(
    "4.2.1",
    "max-age-twice-first",
    "of two max-age the first, or none",
    "Cache-Control: max-age=0, max-age=3600",
)
better_not(
    "4.2.1",
    "max-age-twice-lines",
    "the same in two lines",
    "Cache-Control: max-age=0",
    "Cache-Control: max-age=60",
)
noted(
    "4.2.1",
    "max-age-twice-second",
    "max-age=3600, max-age=0 is fresh",
    "Cache-Control: max-age=3600, max-age=0",
)
noted("4.2.1", "max-age-single-quotes", "max-age='3600' is fresh", "Cache-Control: max-age='3600'", OLD)
reused(
    "5.2",
    "lines-joined",
    "directives may be in several lines",
    "Cache-Control: foo",
    "Cache-Control: max-age=60",
)
reused("5.2", "lines-s-maxage", "s-maxage in a second line counts", STALE, "Cache-Control: s-maxage=3600")
reused("5.2", "field-name-case", "the field's name is in any case of letters", "cAcHe-CoNtRoL: max-age=3600")
reused("5.2", "field-no-space", "no space is needed after the colon", "Cache-Control:max-age=3600")
reused("5.2", "field-spaces", "spaces around the value mean nothing", "Cache-Control:  \t max-age=3600 \t ")
