"""Traces: read back as written, refused when they are none, made the same from the same seed."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from atoll.errors import AtollError
from bench.traces import FAMILIES, Trace, read, synthetic, write

REQUESTS = st.lists(st.tuples(st.integers(0, 2**63), st.integers(1, 2**31)), min_size=1, max_size=60)


def trace(requests: list[tuple[int, int]]) -> Trace:
    return Trace("t", array("Q", (key for key, _ in requests)), array("Q", (size for _, size in requests)))


@given(REQUESTS)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, requests: list[tuple[int, int]]
) -> None:
    file = tmp_path_factory.mktemp("traces") / "t.oracleGeneral.bin"
    write(trace(requests), file)
    assert list(read(file)) == requests


def test_the_next_access_is_where_belady_looks_for_it(tmp_path: Path) -> None:
    file = tmp_path / "t.bin"
    write(trace([(7, 10), (8, 20), (7, 10), (7, 10)]), file)
    records = list(struct.iter_unpack("<IQIq", file.read_bytes()))
    assert [record[3] for record in records] == [3, -1, 4, -1]


def test_compressed_and_csv(tmp_path: Path) -> None:
    plain = tmp_path / "t.bin"
    write(trace([(7, 10), (8, 20)]), plain)
    packed = tmp_path / "t.bin.zst"
    packed.write_bytes(zstandard.compress(plain.read_bytes()))
    assert list(read(packed)) == [(7, 10), (8, 20)]
    table = tmp_path / "t.csv"
    table.write_text("time,object,size\n1,/a,10\n2,/b,20\n\n3,/a,10\n4,/c,0\n")
    assert list(read(table)) == [(0, 10), (1, 20), (0, 10), (2, 1)]
    assert read(table).footprint() == (3, 31)
    table.rename(tmp_path / "t.log")
    assert len(read(tmp_path / "t.log", "csv")) == 4


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.bin", b"x" * 25, "no oracleGeneral trace"),
        ("t.bin", b"", "no requests"),
        ("t.csv", b"time,object,size\n1,/a\n", "t.csv:2: expected time, object, size"),
        ("t.zst", b"x" * 24, "no trace to read"),
    ],
)
def test_what_is_no_trace_is_refused(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AtollError, match=says):
        read(tmp_path / name)


def test_a_missing_file_and_an_unknown_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AtollError, match="No such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(AtollError, match="'lis' is no format"):
        read(tmp_path / "none.lis", "lis")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_made_the_same_each_time_and_has_its_length(family: str) -> None:
    one, again, other = synthetic(family, 3000), synthetic(family, 3000), synthetic(family, 3000, seed=2)
    assert len(one) == 3000
    assert list(one) == list(again) != list(other)
    sizes: dict[int, set[int]] = {}
    for key, size in one:
        sizes.setdefault(key, set()).add(size)
    assert all(len(found) == 1 for found in sizes.values())


def test_families_have_what_they_are_named_after() -> None:
    once = {
        family: sum(times == 1 for times in Counter(synthetic(family, 6000).objects).values())
        for family in ("web", "drift")
    }
    assert once["drift"] > 1.2 * once["web"]
    loop = [key for key in synthetic("loop", 6000).objects if key >> 32]
    assert loop[:300] == loop[300:600]
    assert len(set(synthetic("equal", 3000).sizes)) == 1
    assert max(synthetic("video", 3000).sizes) >= 1_000_000
    with pytest.raises(AtollError, match="there are: web"):
        synthetic("none", 10)
