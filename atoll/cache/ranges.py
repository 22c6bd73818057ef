"""Byte ranges: which are asked for, how they are framed, which belong together (RFC 9110 §14, §15.3.7).

`Range` is read in bytes or not at all. What §14.2 calls signs of a broken client or an attack is answered
with the whole response, as if nobody had asked for ranges: too long a field, too many ranges, more than two
that overlap, many that are not in order. What is left is coalesced where the gap is smaller than a part's
head, so that an answer is never much longer than the representation. Parts of a representation may be put
together when they have the same strong validator, and only then (§15.3.7.3, RFC 9111 §3.4).

Positions are bytes; ends are exclusive everywhere but inside the fields themselves. Nothing here touches
content: a `Partial` holds it, the caller sends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Final, NamedTuple

import msgspec

from atoll.cache.partial import Partial, Span
from atoll.cache.validation import if_range_holds, strong_validator, update_stored
from atoll.http.fields import Headers, get, get_all

__all__ = [
    "ContentRange",
    "Multipart",
    "Partial",
    "Span",
    "Spec",
    "Unmet",
    "begin",
    "combinable",
    "combined_headers",
    "completing_request",
    "format_content_range",
    "format_range",
    "headers_for_206",
    "multipart",
    "parse_content_range",
    "parse_range",
    "part_of",
    "requested",
    "satisfiable",
    "slice_span",
    "slices",
    "whole_headers",
]

MAX_FIELD: Final = 1024
"""Bytes of a `Range` field that are read: room for some forty ranges of a large file."""

MAX_RANGES: Final = 64
"""Ranges in a field, before coalescing."""

MAX_PARTS: Final = 16
"""Parts in an answer. Readers of documents and archives ask for a handful."""

MAX_OVERLAPS: Final = 1
"""Ranges that overlap one that begins before them."""

MAX_UNORDERED: Final = 8
"""So many ranges may come in any order."""

COALESCED_GAP: Final = 80
"""Bytes between two ranges that are sent along: a part's head is about as long (§15.3.7.2)."""

_MAX_POSITION: Final = 2**63 - 1
_UNIT: Final = re.compile(rb"bytes=", re.IGNORECASE)
_SPEC: Final = re.compile(rb"([0-9]*)-([0-9]*)")
_CONTENT_RANGE: Final = re.compile(
    rb"bytes (?:([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)|\*/([0-9]{1,19}))", re.IGNORECASE
)
_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,\-./:=?]{1,70}")


class Unmet(Enum):
    """Why there are no ranges to send."""

    UNSATISFIABLE = auto()  # 416 with `Content-Range: bytes */length`
    IGNORE = auto()  # the whole response, as if there were no `Range`


class Spec(NamedTuple):
    """One range as asked for, inclusive: `first` alone is "from there on", `last` alone "the last n"."""

    first: int | None
    last: int | None


class ContentRange(msgspec.Struct, frozen=True):
    """`Content-Range`: which bytes, of how many. Without `start` it is a 416's; `length` None is unknown."""

    start: int | None
    end: int | None  # exclusive
    length: int | None


# --- asking


def parse_range(value: bytes) -> tuple[Spec, ...] | None:
    """The ranges of a `Range` field (§14.1.2); None when it is to be ignored."""
    unit = _UNIT.match(value)
    if unit is None or len(value) > MAX_FIELD:
        return None
    specs: list[Spec] = []
    for member in value[unit.end() :].split(b","):
        text = member.strip(b" \t")
        if not text:  # a list may have empty members (§5.6.1.2)
            continue
        spec = _spec(text)
        if spec is None or len(specs) == MAX_RANGES:
            return None
        specs.append(spec)
    return tuple(specs) or None


def _spec(text: bytes) -> Spec | None:
    match = _SPEC.fullmatch(text)
    if match is None:
        return None
    first, last = _position(match[1]), _position(match[2])
    if first is None and last is None:
        return None
    if first is not None and last is not None and last < first:
        return None
    return Spec(first, last)


def _position(digits: bytes) -> int | None:
    """The number, or the largest position for any beyond it: thousands of digits are not computed with."""
    if not digits:
        return None
    digits = digits.lstrip(b"0") or b"0"
    return min(int(digits), _MAX_POSITION) if len(digits) < 20 else _MAX_POSITION


def satisfiable(specs: Sequence[Spec], length: int) -> list[Span] | Unmet:
    """The bytes of a representation of `length` bytes that answer `specs`, in the order asked for."""
    spans = [span for spec in specs if (span := _span(spec, length)) is not None]
    if not spans:
        # "The last five" of nothing is satisfiable (§14.1.2), but no Content-Range can say so.
        suffix = length == 0 and any(spec.first is None and spec.last for spec in specs)
        return Unmet.IGNORE if suffix else Unmet.UNSATISFIABLE
    if _abusive(spans):
        return Unmet.IGNORE
    coalesced = _coalesced(spans)
    return coalesced if len(coalesced) <= MAX_PARTS else Unmet.IGNORE


def _span(spec: Spec, length: int) -> Span | None:
    if spec.first is None:
        start, end = max(0, length - (spec.last or 0)), length
    else:
        start, end = spec.first, length if spec.last is None else min(spec.last + 1, length)
    return Span(start, end) if start < end else None


def _abusive(spans: list[Span]) -> bool:
    """§14.2: many small ranges not in order, or more than two that overlap."""
    ordered = sorted(spans)
    if len(spans) > MAX_UNORDERED and spans != ordered:
        return True
    overlaps = reach = 0
    for span in ordered:
        overlaps += span.start < reach
        reach = max(reach, span.end)
    return overlaps > MAX_OVERLAPS


def _coalesced(spans: list[Span]) -> list[Span]:
    """Ranges that touch, overlap or nearly do become one, in the place of the first that was asked for."""
    merged: list[tuple[int, Span]] = []  # (place, span), ascending by start
    for span, place in sorted((span, place) for place, span in enumerate(spans)):
        if merged and span.start - merged[-1][1].end < COALESCED_GAP:
            first, before = merged[-1]
            merged[-1] = (min(first, place), Span(before.start, max(before.end, span.end)))
        else:
            merged.append((place, span))
    return [span for _, span in sorted(merged)]


def requested(
    method: bytes, request: Headers, stored: Headers, status: int, length: int
) -> list[Span] | Unmet:
    """Which bytes of a stored response of `length` bytes a request wants (§13.2.2 step 5, §14.2).

    Evaluated after all other preconditions. Only GET has ranges, only of a 200, and only in one field.
    """
    values = get_all(request, b"range")
    if method != b"GET" or status != 200 or len(values) != 1:
        return Unmet.IGNORE
    specs = parse_range(values[0])
    if specs is None or not if_range_holds(request, stored):
        return Unmet.IGNORE
    return satisfiable(specs, length)


# --- answering


def parse_content_range(value: bytes) -> ContentRange | None:
    """`Content-Range` (§14.4); None for another unit or when it contradicts itself."""
    match = _CONTENT_RANGE.fullmatch(value)
    if match is None:
        return None
    first, last, length, unsatisfied = match.groups()
    if unsatisfied is not None:
        return ContentRange(None, None, int(unsatisfied))
    start, end = int(first), int(last) + 1
    whole = None if length == b"*" else int(length)
    if end <= start or (whole is not None and whole < end):
        return None
    return ContentRange(start, end, whole)


def format_content_range(span: Span | None, length: int | None) -> bytes:
    """`Content-Range` of `span`, or of a 416 without one; `length` None is unknown."""
    whole = b"*" if length is None else b"%d" % length
    if span is None:
        return b"bytes */" + whole
    return b"bytes %d-%d/%b" % (span.start, span.end - 1, whole)


def format_range(spans: Sequence[Span]) -> bytes:
    """A `Range` field that asks for `spans`."""
    return b"bytes=" + b", ".join(b"%d-%d" % (span.start, span.end - 1) for span in spans)


def headers_for_206(stored: Headers, spans: Sequence[Span], length: int, boundary: bytes) -> Headers:
    """The fields of a 206 with `spans` of a stored response, its length aside (§15.3.7).

    One range is sent as it is; several as `multipart/byteranges` with `boundary`, see `Multipart`.
    """
    drop = {b"content-range", b"content-length"}
    if len(spans) == 1:
        own = (b"content-range", format_content_range(spans[0], length))
    else:
        drop.add(b"content-type")
        own = (b"content-type", b'multipart/byteranges; boundary="%b"' % boundary)
    return [*(field for field in stored if field[0] not in drop), own]


class Multipart(msgspec.Struct, frozen=True):
    """`multipart/byteranges` (RFC 9110 §14.6) around spans: `heads[i]`, the bytes of span i, …, then `tail`.

    `total` is the length of the whole content, so that `Content-Length` is known before the first byte.
    """

    heads: tuple[bytes, ...]
    tail: bytes
    total: int


def multipart(spans: Sequence[Span], length: int, stored: Headers, boundary: bytes) -> Multipart:
    """The frame around `spans` of a stored response of `length` bytes.

    The caller makes `boundary` up, at random, so that no content can hold it.
    """
    assert _BOUNDARY.fullmatch(boundary), "a boundary is 1 to 70 characters that need no escape"
    kind = get(stored, b"content-type")
    typed = b"" if kind is None else b"Content-Type: %b\r\n" % kind
    heads: list[bytes] = []
    for span in spans:
        opening = b"\r\n--" if heads else b"--"
        part = format_content_range(span, length)
        heads.append(b"%b%b\r\n%bContent-Range: %b\r\n\r\n" % (opening, boundary, typed, part))
    tail = b"\r\n--%b--\r\n" % boundary
    content = sum(span.end - span.start for span in spans)
    return Multipart(tuple(heads), tail, sum(map(len, heads)) + content + len(tail))


# --- combining (§15.3.7.3)


def part_of(response: Headers) -> ContentRange | None:
    """Which bytes a 206 holds; None when it does not say, says it twice, or holds several ranges."""
    values = get_all(response, b"content-range")
    part = parse_content_range(values[0]) if len(values) == 1 else None
    return part if part is not None and part.start is not None else None


def begin(response: Headers) -> Partial | None:
    """An empty `Partial` for a 206's content; None when it does not say which bytes it holds."""
    part = part_of(response)
    return None if part is None else Partial(part.length, strong_validator(response))


def combinable(stored: Headers, partial: Partial, fresh206: Headers) -> bool:
    """Whether the content of `fresh206` may be added to `partial`, whose fields are `stored` (§15.3.7.3).

    Both need the same strong validator, and lengths that do not contradict each other.
    """
    part = part_of(fresh206)
    if part is None or partial.validator is None:
        return False
    if partial.validator != strong_validator(stored) or partial.validator != strong_validator(fresh206):
        return False
    return partial.length is None or part.length is None or partial.length == part.length


def combined_headers(stored: Headers, fresh206: Headers) -> Headers:
    """The stored fields after a part has been added: the new ones replace theirs (RFC 9111 §3.4)."""
    return update_stored(stored, fresh206)


def whole_headers(stored: Headers) -> Headers:
    """The fields of the 200 that a complete set of parts is (§15.3.7.3)."""
    return [field for field in stored if field[0] not in (b"content-range", b"content-length")]


def completing_request(partial: Partial, start: int, end: int) -> Headers:
    """The fields that ask for what is missing between `start` and `end`; [] when nothing is or may be added.

    `If-Range` makes the origin answer with the whole representation when it is another one by now. One range
    is asked for, from the first gap to the end of the last: parts of a multipart answer are not combined.
    """
    gaps = partial.missing(start, end)
    if not gaps or partial.validator is None:
        return []
    first, last = gaps[0].start, gaps[-1].end
    rest = b"" if last == partial.length else b"%d" % (last - 1)
    return [(b"range", b"bytes=%d-%b" % (first, rest)), (b"if-range", partial.validator)]


# --- slices


def slices(start: int, end: int, size: int) -> range:
    """The indexes of the slices of `size` bytes that hold the bytes from `start` to `end`."""
    if start >= end:
        return range(0)
    return range(start // size, (end - 1) // size + 1)


def slice_span(index: int, size: int, length: int | None = None) -> Span:
    """The bytes of a slice; the last one of a representation of `length` bytes may be shorter."""
    start, end = index * size, (index + 1) * size
    return Span(start, end if length is None else max(start, min(end, length)))
