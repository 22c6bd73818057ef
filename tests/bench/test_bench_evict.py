"""The comparison of eviction policies: its sizes, its own simulation, and life without libCacheSim."""

from __future__ import annotations

import sys
from array import array
from pathlib import Path

import pytest

from atoll.cli.bench_evict import shares
from atoll.errors import AtollError
from bench import evict
from bench.evict import Options, run, simulate, table
from bench.traces import Trace


def quiet(_what: str, _share: float) -> None:
    pass


def test_sizes_are_percentages() -> None:
    assert shares("0.1%, 1%,100%") == pytest.approx((0.001, 0.01, 1.0))
    for wrong in ("1", "0%", "101%", "x%"):
        with pytest.raises(AtollError, match="no size of a cache"):
            shares(wrong)


def test_hits_are_counted_by_objects_and_by_bytes() -> None:
    requests = [(1, 1000), (2, 3000), (1, 1000), (2, 3000), (3, 1000)]
    trace = Trace("t", array("Q", [key for key, _ in requests]), array("Q", [size for _, size in requests]))
    hits, byte_hits, _ = simulate(trace, 100_000)
    assert (hits, byte_hits) == (2 / 5, 4000 / 9000)
    assert simulate(trace, 16_000)[0] == 1 / 5  # an object above an eighth never enters


def test_without_the_library_the_rest_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    said: list[str] = []
    report = run(Options(families=("web",), requests=2000), said.append, quiet)
    assert list(report.means) == ["atoll"]
    assert "cannot be installed" in report.left_out["libcachesim"]
    assert any("left out" in line for line in said)
    columns, rows = table(report)
    assert columns == ["trace", ">size", ">atoll"]
    assert [row[:2] for row in rows] == [["web", "0.1%"], ["web", "1.0%"], ["web", "10.0%"], ["mean", ""]]


def test_peers_that_fail_on_a_trace_are_left_out_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the library's Python that prints one result, then an error."""
    told = '{"policy": "LRU", "bytes": %s, "object_hits": 0.5, "byte_hits": 0.25}'
    python = tmp_path / "python"
    python.write_text(
        f"#!/bin/sh\necho words of its own\nprintf '{told}\\n' \"$4\"\necho broken >&2\nexit 1\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(evict, "_peers_python", lambda *_: python)
    seen: list[float] = []
    report = run(
        Options(families=("equal",), requests=2000, shares=(0.1,)),
        lambda _: None,
        lambda _what, share: seen.append(share),
    )
    assert report.means["lru"] == (0.5, 0.25)
    assert report.left_out == {"libcachesim/equal": "broken"}
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(AtollError, match="share of the trace"):
        run(Options(shares=(0.0,)), lambda _: None, quiet)
