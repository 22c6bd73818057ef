"""The histogram of latencies: how wrong may it be, and does adding lose anything."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.lab.histogram import Histogram

VALUES = st.lists(st.integers(0, 10**12), min_size=1, max_size=200)


def histogram(values: list[int]) -> Histogram:
    found = Histogram()
    for value in values:
        found.record(value)
    return found


@given(VALUES, st.sampled_from([0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]))
def test_percentiles_are_right_to_less_than_a_percent(values: list[int], percent: float) -> None:
    rank = max(1, ceil(len(values) * percent / 100))
    exact = sorted(values)[rank - 1]
    assert exact <= histogram(values).percentile(percent) <= exact * (1 + 1 / 127)


@given(VALUES, VALUES)
def test_the_sum_of_two_is_the_histogram_of_both(one: list[int], other: list[int]) -> None:
    added = histogram(one)
    added.add(histogram(other))
    both = histogram(one + other)
    assert list(added.buckets()) == list(both.buckets())
    assert (added.count, added.total, added.min, added.max) == (both.count, both.total, both.min, both.max)
    assert added.mean == pytest.approx(sum(one + other) / len(one + other))


def test_small_values_are_exact_and_repeated_ones_count() -> None:
    found = Histogram()
    found.record(255, times=98)
    found.record(-3)
    found.record(100_000)
    assert (found.percentile(1), found.percentile(50), found.percentile(99)) == (0, 255, 255)
    assert found.percentile(100) == found.max == 100_000


def test_nothing_counted_is_zero_everywhere() -> None:
    empty = Histogram()
    empty.add(Histogram())
    assert (empty.percentile(99), empty.mean, empty.max, list(empty.buckets())) == (0, 0.0, 0, [])
