"""What is there of a representation that came in parts, as one value (RFC 9110 §15.3.7.3).

A `Partial` is a value: adding makes a new one, and content is shared, not copied, until there are so many
segments that neighbours are joined. Which responses may be put together is `atoll.cache.ranges.combinable`'s
to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

MAX_SEGMENTS: Final = 64
"""Pieces with gaps between them that are kept: beyond, the caller fetches the whole."""

_SHARES: Final = (1 / 16, 1.0)
"""Pieces below this share of the content are joined with their neighbours, first few of them, then all.

So a byte is copied each time that the content doubles, not each time that a piece arrives.
"""


class Span(NamedTuple):
    """Bytes from `start` up to and without `end`."""

    start: int
    end: int


class Segment(msgspec.Struct, frozen=True):
    """Bytes of a representation from `start` on."""

    start: int
    data: bytes

    @property
    def end(self) -> int:
        """Where it ends, exclusive."""
        return self.start + len(self.data)


class Partial(msgspec.Struct, frozen=True):
    """What is there of a representation of `length` bytes (None as long as nobody has said).

    `validator` is the strong one that all parts share, None when there is none: then nothing may be added
    from another response. Segments are sorted, do not overlap and are not empty.
    """

    length: int | None = None
    validator: bytes | None = None
    segments: tuple[Segment, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return sum(len(segment.data) for segment in self.segments)

    def add(self, start: int, data: bytes) -> Partial:
        """With `data` at `start`. What is there stays; what lies outside the representation is dropped.

        When it would leave too many gaps, the value is unchanged.
        """
        gaps = self.missing(start, start + len(data))
        new = [Segment(gap.start, data[gap.start - start : gap.end - start]) for gap in gaps]
        if not new:
            return self
        segments = sorted((*self.segments, *new), key=_start)
        for share in _SHARES:
            if len(segments) > MAX_SEGMENTS:
                segments = list(_joined(segments, share * (self.size + len(data))))
        if len(segments) > MAX_SEGMENTS:
            return self
        return Partial(self.length, self.validator, tuple(segments))

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte from `start` to `end` is there."""
        return not self.missing(start, end)

    def missing(self, start: int, end: int) -> list[Span]:
        """The gaps between `start` and `end`, as far as that is inside the representation."""
        start = max(start, 0)
        end = end if self.length is None else min(end, self.length)
        gaps: list[Span] = []
        for segment in self.segments:
            if segment.end <= start:
                continue
            if segment.start >= end:
                break
            if segment.start > start:
                gaps.append(Span(start, segment.start))
            start = segment.end
        if start < end:
            gaps.append(Span(start, end))
        return gaps

    def complete(self) -> bool:
        """Whether the whole representation is there."""
        return self.length is not None and self.covers(0, self.length)

    def pieces(self, start: int, end: int) -> Iterator[bytes]:
        """What is there between `start` and `end`, in order; without a gap when `covers` says so."""
        for segment in self.segments:
            low, high = max(start, segment.start), min(end, segment.end)
            if low < high:
                yield segment.data[low - segment.start : high - segment.start]


def _start(segment: Segment) -> int:
    return segment.start


def _joined(segments: list[Segment], enough: float) -> Iterator[Segment]:
    """Neighbours without a gap as one, until it has `enough` bytes."""
    run: list[Segment] = []
    size = 0
    for segment in segments:
        if run and (run[-1].end != segment.start or size >= enough):
            yield _one(run)
            run, size = [], 0
        run.append(segment)
        size += len(segment.data)
    yield _one(run)


def _one(run: list[Segment]) -> Segment:
    return run[0] if len(run) == 1 else Segment(run[0].start, b"".join(part.data for part in run))
