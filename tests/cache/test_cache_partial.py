"""`Partial` beside a model that remembers every byte; its bounds."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.partial import MAX_SEGMENTS, Partial, Segment, Span


def test_nothing_is_there_at_first() -> None:
    empty = Partial(10, b'"1"')
    assert empty.size == 0
    assert empty.missing(0, 10) == [Span(0, 10)]
    assert not empty.covers(0, 1)
    assert empty.covers(3, 3)
    assert not empty.complete()
    assert list(empty.pieces(0, 10)) == []


def test_an_empty_representation_is_complete() -> None:
    assert Partial(0).complete()
    assert not Partial(None).complete()


def test_segments_grow_together() -> None:
    one = Partial(10, b'"1"').add(0, b"0123")
    two = one.add(8, b"89")
    assert two.missing(0, 10) == [Span(4, 8)]
    assert two.missing(5, 7) == [Span(5, 7)]
    assert two.missing(2, 9) == [Span(4, 8)]
    assert two.covers(8, 10)
    assert not two.covers(3, 5)
    whole = two.add(4, b"4567")
    assert whole.complete()
    assert list(whole.pieces(0, 10)) == [b"0123", b"4567", b"89"]
    assert list(whole.pieces(3, 5)) == [b"3", b"4"]
    assert whole.size == 10
    assert whole.validator == b'"1"'
    assert one.size == 4  # a value: what was there before is as it was


def test_what_is_there_stays() -> None:
    first = Partial(10).add(2, b"cde")
    assert first.add(2, b"XYZ") is first
    assert b"".join(first.add(0, b"ABCDEFGHIJ").pieces(0, 10)) == b"ABcdeFGHIJ"
    assert first.add(5, b"") is first


def test_content_is_shared() -> None:
    data = b"x" * 100
    assert Partial(200).add(0, data).segments[0].data is data


@pytest.mark.parametrize(
    ("start", "data", "segments"),
    [
        (8, b"89ab", (Segment(8, b"89"),)),
        (10, b"ab", ()),
        (50, b"ab", ()),
        (-2, b"yz01", (Segment(0, b"01"),)),
        (-5, b"yz", ()),
    ],
)
def test_what_lies_outside_is_dropped(start: int, data: bytes, segments: tuple[Segment, ...]) -> None:
    assert Partial(10).add(start, data).segments == segments


def test_an_unknown_length_has_no_end() -> None:
    partial = Partial(None).add(5, b"567")
    assert partial.missing(0, 10) == [Span(0, 5), Span(8, 10)]
    assert not partial.complete()
    assert partial.covers(5, 8)


def test_beyond_the_end_nothing_is_missing() -> None:
    partial = Partial(10).add(0, b"0123456789")
    assert partial.missing(0, 50) == []
    assert partial.covers(-5, 50)


def test_gaps_are_bounded() -> None:
    partial = Partial(None)
    for at in range(MAX_SEGMENTS):
        partial = partial.add(at * 2, b"x")
    assert len(partial.segments) == MAX_SEGMENTS
    assert partial.add(MAX_SEGMENTS * 2, b"x") is partial
    assert partial.add(1, b"y").size == MAX_SEGMENTS + 1
    assert partial.add(1, b"y").segments[0] == Segment(0, b"xyx")


def test_neighbours_do_not_count() -> None:
    partial = Partial(None)
    for at in range(MAX_SEGMENTS * 4):
        partial = partial.add(at, b"%c" % (at % 256))
        assert len(partial.segments) <= MAX_SEGMENTS
    assert b"".join(partial.pieces(0, 1000)) == bytes(at % 256 for at in range(MAX_SEGMENTS * 4))
    assert partial.segments[0].start == 0


def test_joining_keeps_apart_what_has_gaps() -> None:
    partial = Partial(None)
    for at in range(MAX_SEGMENTS + 1):
        partial = partial.add(at + (10 if at > 20 else 0), b"x")
    assert partial.missing(0, MAX_SEGMENTS + 11) == [Span(21, 31)]
    assert len(partial.segments) < MAX_SEGMENTS / 2
    assert b"".join(partial.pieces(0, 100)) == b"x" * (MAX_SEGMENTS + 1)


def test_joining_ends_where_a_piece_is_large_enough() -> None:
    partial = Partial(None)
    for at in range(MAX_SEGMENTS):
        partial = partial.add(at, b"x")
    partial = partial.add(MAX_SEGMENTS, b"y" * 16)  # 80 bytes by now: a sixteenth of them is 5
    assert [len(segment.data) for segment in partial.segments] == [*[5] * 12, 4 + 16]


def test_joining_leaves_large_pieces_alone() -> None:
    large = bytes(1000)
    partial = Partial(None).add(0, large)
    for at in range(MAX_SEGMENTS * 2):
        partial = partial.add(1000 + at, b"x")
    assert partial.segments[0].data is large


def test_arriving_in_pieces_takes_little_time() -> None:
    began_s = time.perf_counter()
    partial = Partial(None)
    for at in range(4096):
        partial = partial.add(at * 4096, bytes(4096))
    assert partial.covers(0, 4096 * 4096)
    assert time.perf_counter() - began_s < 2.0


_adds = st.lists(st.tuples(st.integers(-5, 60), st.binary(max_size=20)), max_size=12)


@given(_adds, st.one_of(st.none(), st.integers(0, 60)), st.integers(0, 70), st.integers(0, 70))
def test_like_a_model_that_remembers_every_byte(
    adds: list[tuple[int, bytes]], length: int | None, start: int, end: int
) -> None:
    partial, model = Partial(length), dict[int, int]()
    for at, data in adds:
        partial = partial.add(at, data)
        for offset, byte in enumerate(data, at):
            if offset >= 0 and (length is None or offset < length):
                model.setdefault(offset, byte)
    inside = range(start, end if length is None else min(end, length))
    assert partial.size == len(model)
    assert partial.covers(start, end) is all(at in model for at in inside)
    assert b"".join(partial.pieces(start, end)) == bytes(model[at] for at in inside if at in model)
    gaps = [at for gap in partial.missing(start, end) for at in range(gap.start, gap.end)]
    assert gaps == [at for at in inside if at not in model]
    assert partial.complete() is (length is not None and len(model) == length)
    ends = [(segment.start, segment.end) for segment in partial.segments]
    assert all(low < high for low, high in ends)
    assert all(before[1] <= after[0] for before, after in pairwise(ends))
