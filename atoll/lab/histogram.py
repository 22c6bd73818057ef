"""A histogram of durations with a bounded relative error, as HdrHistogram keeps them. Pure.

A value's bucket is its exponent and its first bits after the leading one: 2^7 buckets for each power of two,
so what is read back is wrong by less than 0.8 %. Recording is one shift and one addition, and the number of
buckets does not grow with the number of values; histograms can be added.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Final

_BITS: Final = 7
_EXACT: Final = 1 << (_BITS + 1)  # values below have a bucket of their own


class Histogram:
    """Counts of non-negative integers, whatever their unit."""

    __slots__ = ("_counts", "count", "max", "min", "total")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.min = 0
        self.max = 0

    def record(self, value: int, times: int = 1) -> None:
        """Count `value`; a negative one counts as 0."""
        value = max(value, 0)
        bucket = _bucket(value)
        self._counts[bucket] = self._counts.get(bucket, 0) + times
        self.min = min(self.min, value) if self.count else value
        self.max = max(self.max, value)
        self.count += times
        self.total += value * times

    def add(self, other: Histogram) -> None:
        """Count everything that `other` has counted."""
        if not other.count:
            return
        for bucket, times in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + times
        self.min = min(self.min, other.min) if self.count else other.min
        self.max = max(self.max, other.max)
        self.count += other.count
        self.total += other.total

    @property
    def mean(self) -> float:
        """The average, 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> int:
        """The smallest value that `percent` % of those counted are not above; 0 of nothing."""
        wanted = max(1, ceil(self.count * percent / 100))
        seen = 0
        for highest, times in self.buckets():
            seen += times
            if seen >= wanted:
                return min(highest, self.max)
        return self.max

    def buckets(self) -> Iterator[tuple[int, int]]:
        """The highest value of each bucket in use and its count, upwards."""
        for bucket in sorted(self._counts):
            yield _highest(bucket), self._counts[bucket]


def _bucket(value: int) -> int:
    if value < _EXACT:
        return value
    shift = value.bit_length() - _BITS - 1
    return (shift << _BITS) + (value >> shift)


def _highest(bucket: int) -> int:
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _BITS) - 1
    mantissa = bucket - (shift << _BITS)
    return ((mantissa + 1) << shift) - 1
