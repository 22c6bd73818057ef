"""Parts asked for, stored and put together: RFC 9110 §13.1.5, §14, §15.3.7; RFC 9111 §3.3, §3.4."""

from __future__ import annotations

from typing import Final

from conformance_case import (
    Chapter,
    Check,
    Step,
    absent,
    ask,
    between,
    body,
    count,
    equal,
    first,
    hit,
    matches,
    ok,
    part_or_whole,
    parts,
    stale,
    status,
    unchanged,
)

T: Final = Chapter("9110")
STORE: Final = Chapter("9111")
CHAPTERS: Final = (T, STORE)
FRESH: Final = "Cache-Control: max-age=3600"
TAG: Final = 'ETag: "a"'
MODIFIED: Final = "Last-Modified: {start-864000}"
BODY: Final = bytes(48 + number % 75 for number in range(100))
WHOLE: Final = ok(FRESH, TAG, MODIFIED, "Content-Type: text/odd", body=BODY, ranged=True)
SIZE: Final = len(BODY)


def part(begin: int, end: int) -> tuple[Check, ...]:
    """A 206 with these bytes, the last one included."""
    content_range = f"bytes {begin}-{end}/{SIZE}"
    return (status(206), equal("Content-Range", content_range), body(BODY[begin : end + 1]))


def part_if(begin: int, end: int) -> Check:
    """These bytes, or all of them: Range may be ignored (RFC 9110 §14.2)."""
    return part_or_whole(begin, end, BODY)


def cached(name: str, title: str, wanted: str, *checks: Check) -> None:
    """A row: a range of what is stored whole is answered from there."""
    T.good("14.2", name, title, first(WHOLE), ask(WHOLE, f"Range: {wanted}", count(0), *checks))


def invalid(name: str, title: str, wanted: str) -> None:
    """A row: a Range that is none is ignored or refused (§14.2), and gets no part."""
    T.must("14.1.1", name, title, first(WHOLE), ask(WHOLE, f"Range: {wanted}", status(200, 400, 416)))


# --- from what is stored whole (§14.1.2, §14.2)

cached("range-first", "the first bytes", "bytes=0-9", *part(0, 9))
cached("range-middle", "bytes in the middle", "bytes=40-59", *part(40, 59))
cached("range-open", "from a byte to the end", "bytes=90-", *part(90, 99))
cached("range-suffix", "the last bytes", "bytes=-10", *part(90, 99))
cached("range-suffix-longer", "more last bytes than there are", "bytes=-500", *part(0, 99))
cached("range-one-byte", "the first byte", "bytes=0-0", *part(0, 0))
cached("range-last-byte", "the last byte", "bytes=99-99", *part(99, 99))
cached("range-over-end", "beyond the end", "bytes=95-200", *part(95, 99))
cached("range-all", "all of it", "bytes=0-", *part(0, 99))
cached("range-huge", "a number beyond any size", "bytes=90-99999999999999999999", *part(90, 99))
for name, wanted in (
    ("after-end", "bytes=100-110"),
    ("after-end-open", "bytes=100-"),
    ("suffix-0", "bytes=-0"),
):
    T.good(
        "15.5.17",
        f"range-416-{name}",
        f"{wanted} of 100 bytes: nothing of it is there",
        first(WHOLE),
        ask(WHOLE, f"Range: {wanted}", status(416), equal("Content-Range", f"bytes */{SIZE}")),
    )
T.good(
    "15.5.17",
    "range-416-not-kept",
    "a 416 changes nothing of what is stored",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=100-110", status(416)),
    ask(hit()),
)
invalid("range-backwards", "last before first is invalid", "bytes=20-10")
T.must(
    "14.2",
    "range-unit",
    "an unknown unit is ignored",
    first(WHOLE),
    ask(WHOLE, "Range: items=0-9", status(200), body(BODY)),
)
invalid("range-letters", "letters are invalid", "bytes=a-b")
invalid("range-no-dash", "a number alone is invalid", "bytes=5")
invalid("range-empty", "nothing at all is invalid", "bytes=")
invalid("range-dash", "a dash alone is invalid", "bytes=-")
invalid("range-negative", "a negative one is invalid", "bytes=--5")
invalid("range-one-invalid", "one invalid of two", "bytes=0-9,b")
T.must(
    "14.2",
    "range-head",
    "Range means nothing to HEAD",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9", status(200), absent("Content-Range"), method="HEAD"),
)
T.must(
    "14.2",
    "range-post",
    "Range means nothing to POST",
    first(WHOLE),
    ask(ok(body=b"posted"), "Range: bytes=0-2", status(200), body(b"posted"), method="POST"),
)
T.must(
    "14.2",
    "range-404",
    "Range means nothing where the answer is no success",
    first(ok(FRESH, status=404, body=BODY)),
    ask(ok(status=404), "Range: bytes=0-9", status(404), absent("Content-Range")),
)
T.good(
    "13.2.2",
    "range-not-modified",
    "a condition that holds comes first: 304",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9", 'If-None-Match: "a"', status(304), count(0)),
)
T.good(
    "13.2.2",
    "range-modified",
    "a condition that does not hold lets the range through",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9", 'If-None-Match: "b"', count(0), *part(0, 9)),
)

# --- several (§14.6)

BIG: Final = bytes(range(256)) * 12_288  # 3 MiB: what lies between two ranges is worth leaving out
LARGE: Final = ok(FRESH, TAG, body=BIG, ranged=True)


def in_parts(name: str, title: str, wanted: str, *ranges: tuple[int, int]) -> None:
    """A row: several ranges of what is stored come as parts, in this order."""
    pieces = [(f"bytes {begin}-{end}/{len(BIG)}", BIG[begin : end + 1]) for begin, end in ranges]
    T.good(
        "14.6",
        name,
        title,
        first(LARGE),
        ask(LARGE, f"Range: {wanted}", status(206), absent("Content-Range"), parts(*pieces), count(0)),
    )


END: Final = len(BIG) - 1
in_parts(
    "ranges-two", "two ranges come as two parts", "bytes=0-9,2000000-2000009", (0, 9), (2_000_000, 2_000_009)
)
in_parts("ranges-space-suffix", "space around them, and a suffix", "bytes= 0-4 , -5", (0, 4), (END - 4, END))
in_parts("ranges-open", "one that is open", "bytes=0-4,3145720-", (0, 4), (3_145_720, END))
in_parts("ranges-order-kept", "they come as asked for", "bytes=900000-900009,0-9", (900_000, 900_009), (0, 9))
in_parts(
    "ranges-three", "three of them", "bytes=0-9,900000-900009,2000000-2000009", (0, 9), (900_000, 900_009),
    (2_000_000, 2_000_009),
)  # fmt: skip
T.good(
    "14.6",
    "ranges-one-there",
    "of two the one that is there",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9,200-210", status(206), count(0)),
)
T.good(
    "15.5.17",
    "ranges-none-there",
    "two that are not there: 416",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=200-210,300-", status(416), equal("Content-Range", f"bytes */{SIZE}")),
)
T.must(
    "14.6",
    "ranges-length",
    "a response of several parts is whole for its client",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9,50-59", status(200, 206), matches(rb".*" + BODY[:10] + rb".*")),
)
T.note(
    "14.6",
    "ranges-many",
    "two hundred small ranges are refused or answered with the whole",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=" + ",".join("0-0" for _ in range(200)), status(200, 416, 400)),
)
T.note(
    "14.6",
    "ranges-overlapping",
    "two that overlap are answered as one",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9,5-14", *part(0, 14)),
)

# --- If-Range (§13.1.5)


def if_range(name: str, title: str, condition: str, *checks: Check, stored: Step | None = None) -> None:
    """A row: `If-Range` decides between a part and the whole, as MUST be."""
    step = stored or first(WHOLE)
    T.must("13.1.5", name, title, step, ask(WHOLE, "Range: bytes=0-9", f"If-Range: {condition}", *checks))


ALL: Final = (status(200), body(BODY))
if_range("if-range-other-etag", "another entity tag: the whole", '"b"', *ALL)
if_range("if-range-weak-asked", "a weak entity tag never holds", 'W/"a"', *ALL)
if_range("if-range-earlier", "an earlier date: the whole", "{start-999999}", *ALL)
if_range("if-range-later", "a later date: the whole, it has to be the same", "{start-1000}", *ALL)
if_range("if-range-invalid", "what is neither never holds", "soon", *ALL)
if_range(
    "if-range-weak-both", "a weak one never holds, also if the stored one is the same", 'W/"a"', *ALL,
    stored=first(ok(FRESH, 'ETag: W/"a"', body=BODY)),
)  # fmt: skip
for name, title, condition in (
    ("same-etag", "the same entity tag: the part", '"a"'),
    ("same-date", "the same date: the part", "{start-864000}"),
):
    T.good(
        "13.1.5",
        f"if-range-{name}",
        title,
        first(WHOLE),
        ask(WHOLE, "Range: bytes=0-9", f"If-Range: {condition}", count(0), *part(0, 9)),
    )
T.must(
    "13.1.5",
    "if-range-alone",
    "without Range it means nothing",
    first(WHOLE),
    ask(WHOLE, 'If-Range: "b"', *ALL),
)

T.must(
    "13.1.5",
    "if-range-miss-other",
    "also where nothing is stored: another entity tag gets the whole",
    ask(WHOLE, "Range: bytes=0-9", 'If-Range: "b"', *ALL),
)
T.must(
    "13.1.5",
    "if-range-miss-same",
    "and the same one the part",
    ask(WHOLE, "Range: bytes=0-9", 'If-Range: "a"', part_if(0, 9)),
)
T.must(
    "13.1.5",
    "if-range-partial-other",
    "and where a part of something older is stored",
    ask(ok(FRESH, 'ETag: "old"', body=b"x" * SIZE, ranged=True), "Range: bytes=0-49", status(200, 206)),
    ask(WHOLE, "Cache-Control: no-cache", "Range: bytes=50-59", 'If-Range: "old"', status(200), body(BODY)),
)

# --- fields of a 206 (§15.3.7)

for field, value in (
    ("Cache-Control", "max-age=3600"),
    ("Content-Location", "/elsewhere"),
    ("Date", "{start-7}"),
    ("ETag", '"a"'),
    ("Expires", "{start+9000}"),
    ("Vary", "X-A"),
):
    T.must(
        "15.3.7",
        f"206-has-{field.lower()}",
        f"a 206 from the cache has {field}",
        first(
            ok(
                *([FRESH] if field != "Cache-Control" else []),
                *([TAG] if field != "ETag" else []),
                f"{field}: {value}",
                body=BODY,
            )
        ),
        ask(WHOLE, "Range: bytes=0-9", equal(field, value), part_if(0, 9)),
    )
T.good(
    "15.3.7",
    "206-has-length",
    "its Content-Length is the part's",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9", equal("Content-Length", "10"), *part(0, 9)),
)
T.must(
    "15.3.7",
    "206-has-type",
    "its Content-Type is the representation's",
    first(WHOLE),
    ask(WHOLE, "Range: bytes=0-9", equal("Content-Type", "text/odd"), part_if(0, 9)),
)
STORE.must(
    "5.1",
    "206-has-age",
    "a 206 from the cache has an Age",
    first(ok(FRESH, TAG, "Age: 100", body=BODY)),
    ask(WHOLE, "Range: bytes=0-9", count(0), between("Age", 100, 105), part_if(0, 9)),
)
T.note(
    "14.3",
    "accept-ranges",
    "what is stored whole is said to be there in parts",
    first(ok(FRESH, TAG, body=BODY)),
    ask(hit(), equal("Accept-Ranges", "bytes")),
)

# --- stale, variants, sizes

STORE.good(
    "4.3",
    "range-validated",
    "a range of what is stale is served once a 304 has come",
    stale(TAG, body=BODY),
    ask(
        ok(FRESH, TAG, body=BODY, ranged=True, validated=unchanged(FRESH, TAG)),
        "Range: bytes=0-9",
        *part(0, 9),
    ),
)
STORE.must(
    "4.3",
    "range-replaced",
    "a range of what is stale is not served from it once something else has come",
    stale(TAG, body=b"x" * SIZE),
    ask(WHOLE, "Range: bytes=0-9", status(200, 206), matches(BODY[:10] + rb".*")),
)
STORE.must(
    "4.1",
    "range-variant",
    "a range of one variant is not cut from another",
    first(ok(FRESH, TAG, "Vary: X-A", body=b"x" * SIZE), "X-A: 1"),
    ask(
        ok(FRESH, 'ETag: "b"', "Vary: X-A", body=BODY, ranged=True),
        "X-A: 2",
        "Range: bytes=0-9",
        part_if(0, 9),
    ),
)
for name, begin, end in (
    ("slice-edge", 1_048_570, 1_048_585),
    ("two-slices", 500_000, 2_600_000),
    ("end", 3_145_700, 3_145_727),
):
    T.good(
        "14.2",
        f"range-big-{name}",
        f"bytes {begin}-{end} of 3 MiB",
        first(ok(FRESH, TAG, body=BIG)),
        ask(
            ok(FRESH, TAG, body=BIG, ranged=True),
            f"Range: bytes={begin}-{end}",
            status(206),
            count(0),
            body(BIG[begin : end + 1]),
            equal("Content-Range", f"bytes {begin}-{end}/{len(BIG)}"),
        ),
    )

# --- what is asked for in parts from the start (RFC 9111 §3.3, §3.4)

STORE.must(
    "3.3",
    "partial-right-bytes",
    "a range of what is not stored is the right one",
    ask(WHOLE, "Range: bytes=10-19", part_if(10, 19)),
)
STORE.must(
    "3.3",
    "partial-not-whole",
    "a part that is stored is not the whole",
    ask(WHOLE, "Range: bytes=0-9", part_if(0, 9)),
    ask(WHOLE, status(200), body(BODY)),
)
STORE.must(
    "3.3",
    "partial-not-other",
    "a part that is stored is not another part",
    ask(WHOLE, "Range: bytes=0-9", part_if(0, 9)),
    ask(WHOLE, "Range: bytes=50-59", part_if(50, 59)),
)
STORE.must(
    "3.3",
    "partial-not-longer",
    "a part that is stored is not a longer one",
    ask(WHOLE, "Range: bytes=0-9", part_if(0, 9)),
    ask(WHOLE, "Range: bytes=0-19", part_if(0, 19)),
)
STORE.good(
    "3.3",
    "partial-again",
    "the same part again comes from the cache",
    ask(WHOLE, "Range: bytes=10-19", *part(10, 19)),
    ask(WHOLE, "Range: bytes=10-19", count(0), *part(10, 19)),
)
STORE.good(
    "3.3",
    "partial-within",
    "a part of a part comes from the cache",
    ask(WHOLE, "Range: bytes=10-49", *part(10, 49)),
    ask(WHOLE, "Range: bytes=20-29", count(0), *part(20, 29)),
)
STORE.good(
    "3.3",
    "partial-suffix-again",
    "the last bytes again come from the cache",
    ask(WHOLE, "Range: bytes=-10", *part(90, 99)),
    ask(WHOLE, "Range: bytes=95-99", count(0), *part(95, 99)),
)
STORE.good(
    "3.4",
    "combined",
    "two parts that meet are one",
    ask(WHOLE, "Range: bytes=0-49", *part(0, 49)),
    ask(WHOLE, "Range: bytes=50-99", *part(50, 99)),
    ask(WHOLE, "Range: bytes=40-59", count(0), *part(40, 59)),
)
STORE.good(
    "3.4",
    "combined-whole",
    "two parts that are all are the whole",
    ask(WHOLE, "Range: bytes=0-49", *part(0, 49)),
    ask(WHOLE, "Range: bytes=50-99", *part(50, 99)),
    ask(WHOLE, status(200), count(0), body(BODY)),
)
STORE.good(
    "3.4",
    "combined-with-whole",
    "a whole response takes the place of parts",
    ask(WHOLE, "Range: bytes=0-49", *part(0, 49)),
    ask(WHOLE, status(200), body(BODY)),
    ask(WHOLE, "Range: bytes=40-59", count(0), *part(40, 59)),
)
for name, title, one, other in (
    ("other-etag", "another entity tag", 'ETag: "a"', 'ETag: "b"'),
    ("weak", "weak entity tags", 'ETag: W/"a"', 'ETag: W/"a"'),
    ("none", "none", "X-A: 1", "X-A: 1"),
    ("other-date", "another Last-Modified", "Last-Modified: {start-5000}", "Last-Modified: {start-100}"),
):
    STORE.must(
        "3.4",
        f"combined-not-{name}",
        f"parts are not put together: {title}",
        ask(ok(FRESH, one, body=b"a" * 100, ranged=True), "Range: bytes=0-49", status(200, 206)),
        ask(ok(FRESH, other, body=b"b" * 100, ranged=True), "Range: bytes=50-99", status(200, 206)),
        ask(ok(FRESH, 'ETag: "c"', body=b"c" * 100, ranged=True), status(200), matches(rb"a+|b+|c+")),
        ask(
            ok(FRESH, 'ETag: "c"', body=b"c" * 100, ranged=True),
            "Range: bytes=40-59",
            status(200, 206),
            matches(rb"a+|b+|c+"),
        ),
    )
STORE.must(
    "3.3",
    "partial-no-store",
    "a part with no-store is not kept",
    ask(
        ok("Cache-Control: no-store", TAG, body=b"a" * 100, ranged=True), "Range: bytes=0-9", status(200, 206)
    ),
    ask(
        ok(FRESH, 'ETag: "b"', body=b"b" * 100, ranged=True),
        "Range: bytes=0-9",
        status(200, 206),
        matches(rb"b+"),
    ),
)
STORE.must(
    "3.3",
    "partial-stale",
    "a part that is stale is not served",
    ask(ok(FRESH, "Age: 7200", TAG, body=b"a" * 100, ranged=True), "Range: bytes=0-9", status(200, 206)),
    ask(
        ok(FRESH, 'ETag: "b"', body=b"b" * 100, ranged=True),
        "Range: bytes=0-9",
        status(200, 206),
        matches(rb"b+"),
    ),
)
STORE.good(
    "3.3",
    "partial-origin-whole",
    "an origin that sends the whole makes the next part a hit",
    ask(ok(FRESH, TAG, body=BODY), "Range: bytes=0-9", status(200, 206)),
    ask(WHOLE, "Range: bytes=20-29", count(0), *part(20, 29)),
)
STORE.must(
    "3.3",
    "partial-unasked",
    "a 206 that nobody asked for is not kept as the whole",
    ask(ok(FRESH, TAG, "Content-Range: bytes 0-9/100", status=206, body=BODY[:10]), status(206, 502)),
    ask(WHOLE, status(200), body(BODY)),
)
STORE.must(
    "3.3",
    "partial-416",
    "an origin's 416 to a range is not an answer to those who want all",
    ask(WHOLE, "Range: bytes=500-", status(416, 200)),
    ask(WHOLE, status(200), body(BODY)),
)
STORE.must(
    "3.3",
    "partial-of-cut",
    "of a response that was cut no missing byte is made up",
    ask(ok(FRESH, TAG, body=BODY, cut=40), status(0, 200, 500, 502, 503, 504)),
    ask(WHOLE, "Range: bytes=30-59", part_if(30, 59)),
)
T.must(
    "15.3.7",
    "range-unknown-length",
    "an origin's part of a whole of unknown length reaches the client as it is",
    ask(
        ok(FRESH, TAG, "Content-Range: bytes 0-9/*", status=206, body=BODY[:10]),
        "Range: bytes=0-9",
        status(200, 206),
        body(BODY[:10]),
    ),
)
