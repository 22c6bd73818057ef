"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.policy_units import parse_duration_s, parse_size, say_duration, say_size


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1.5s", 1.5),
        ("5m", 300),
        ("5min", 300),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("1w", 604_800),
        ("1m30s500ms", 90.5),
        ("0s", 0),
    ],
)
def test_durations(text: str, duration_s: float) -> None:
    assert parse_duration_s(text) == duration_s


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 s", "30m1h", "1s1s", "1x", "1h30", "1e3s", "٣s"])
def test_no_durations(text: str) -> None:
    assert parse_duration_s(text) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("64k", 65_536),
        ("64KB", 65_536),
        ("64KiB", 65_536),
        ("10m", 10 * 1024**2),
        ("256 MB", 256 * 1024**2),
        ("1.5GB", 1536 * 1024**2),
        ("2T", 2 * 1024**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1 0MB", "0.3B", "1.0001KB", "1iB", "1XB", "1MBB"])
def test_no_sizes(text: str) -> None:
    assert parse_size(text) is None


@given(st.integers(0, 10**9))
def test_what_is_said_of_a_size_is_read_as_it(size: int) -> None:
    assert parse_size(say_size(size)) == size


@given(st.integers(1, 10**7))
def test_what_is_said_of_a_duration_is_read_as_it(milliseconds: int) -> None:
    duration_s = milliseconds if milliseconds % 7 else milliseconds / 1000
    said = parse_duration_s(say_duration(duration_s))
    assert said is not None
    assert said == pytest.approx(duration_s, rel=1e-5)
