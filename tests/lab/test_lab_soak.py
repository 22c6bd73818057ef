"""What a soak says of its samples, by table, and that its mix finds every wrong answer."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from atoll.control.certificates import ensure_leaves
from atoll.errors import AtollError
from atoll.lab import soak_mix
from atoll.lab.content import content
from atoll.lab.lab_origin import Answer, Door, LabOrigin
from atoll.lab.soak import GROWTH_MB_H, Facts, Interval, Plan, Sample, judge, steered
from atoll.lab.soak_fit import drift, slope, sparkline
from atoll.lab.soak_mix import ROOT, SHARES, Mix, Place
from atoll.lab.watch import Ledger

FINITE = st.floats(-1e6, 1e6)


# --- what numbers say


@given(st.lists(st.integers(-1000, 1000), min_size=3, max_size=30, unique=True), FINITE, FINITE)
def test_a_line_has_its_slope(xs: list[int], rise: float, start: float) -> None:
    found = slope([(float(x), start + rise * x) for x in xs])
    assert found == pytest.approx(rise, rel=1e-6, abs=1e-3)


def test_too_little_has_no_slope() -> None:
    assert slope([(0.0, 1.0), (1.0, 2.0)]) is None
    assert slope([(1.0, 1.0)] * 5) is None


def test_a_drift_compares_the_last_third_with_the_first() -> None:
    assert drift([1.0, 1.0, 9.0, 9.0, 2.0, 2.0]) == 2.0
    assert drift([1.0, 2.0]) is None
    assert drift([0.0, 1.0, 2.0]) is None


@given(st.lists(st.floats(0, 1e9), max_size=500))
def test_a_curve_fits_in_its_line(values: list[float]) -> None:
    drawn = sparkline(values, 40)
    assert len(drawn) == min(40, len(values))
    if values and max(values) > min(values):
        assert "█" in drawn


def samples(minutes: float, mb_h: float, cache_mb_h: float = 0.0) -> list[Sample]:
    return [
        Sample(
            at_s=float(at_s),
            heap_mb=100 + (mb_h + cache_mb_h) * at_s / 3600,
            cache_mb=cache_mb_h * at_s / 3600,
            cpu_s=at_s * 0.8,
            descriptors=50,
            connections=10,
            gc_s=at_s * 0.001,
        )
        for at_s in range(0, int(minutes * 60), 10)
    ]


def intervals(minutes: float, p99_last_ms: float = 10.0) -> list[Interval]:
    count = int(minutes * 6)
    return [
        Interval(
            at_s=number * 10.0, requests=100, p50_ms=1.0, errors=0, p999_ms=20.0,
            p99_ms=10.0 + (p99_last_ms - 10.0) * number / count,
        )
        for number in range(count)
    ]  # fmt: skip


def facts(**errors: int) -> Facts:
    return Facts(
        pop="lhr", rate=100.0, cpu_us_per_request=200.0, requests=1000, held_back=0, purges=10,
        gc_longest_ms=5.0, errors=errors, latency_ms={"p50": 1.0},
    )  # fmt: skip


def test_a_worker_that_stays_as_it_was() -> None:
    outcome = judge(Plan(seconds=1200, load=0.8), samples(20, 1.0, 90.0), intervals(20), facts())
    assert outcome.ok
    assert outcome.growth_mb_h == pytest.approx(1.0)
    assert outcome.full_after_s is None  # and may grow until it is
    assert (outcome.load, outcome.gc_share) == (0.8, 0.001)


def test_a_cache_that_is_full_ends_the_warm_up() -> None:
    whole = samples(60, 2.0)
    for index, sample in enumerate(whole):
        filled = min(256.0, sample.at_s / 2)
        burst = 80.0 if index % 7 == 3 else 0.0  # what passes through is no growth
        whole[index] = msgspec.structs.replace(
            sample, cache_mb=filled, heap_mb=sample.heap_mb + 1.4 * filled + burst
        )
    outcome = judge(Plan(seconds=3600, load=0.8), whole, intervals(60), facts())
    assert outcome.full_after_s == pytest.approx(500.0)
    assert outcome.growth_mb_h == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("growth", "p99_last_ms", "errors", "complaint"),
    [
        (GROWTH_MB_H + 1, 10.0, {}, "MB an hour"),
        (0.0, 40.0, {}, "the p99"),
        (0.0, 10.0, {"wrong bytes": 1}, "1 times wrong bytes"),
    ],
)
def test_what_it_may_not_do(
    growth: float, p99_last_ms: float, errors: dict[str, int], complaint: str
) -> None:
    plan = Plan(seconds=1200, load=0.8)
    outcome = judge(plan, samples(20, growth), intervals(20, p99_last_ms), facts(**errors))
    assert not outcome.ok
    assert any(complaint in text for text in outcome.complaints)


def test_a_worker_that_has_too_little_to_do_gets_more() -> None:
    half_busy = [msgspec.structs.replace(s, cpu_s=s.at_s * 0.5) for s in samples(5, 0.0)]
    assert steered(100.0, 0.8, half_busy, 0.0) == pytest.approx(125.0)  # by steps
    assert steered(100.0, 0.55, half_busy, 100.0) == pytest.approx(110.0)
    assert steered(100.0, 0.1, half_busy, 0.0) == pytest.approx(80.0)
    assert steered(100.0, 0.8, [], 0.0) == 100.0
    assert steered(100.0, 0.8, half_busy, 0.0, held_back=0.5) == 100.0  # whoever asks can no more
    assert steered(100.0, 0.1, half_busy, 0.0, held_back=0.5) == pytest.approx(80.0)


def test_a_short_run_says_nothing_of_growth() -> None:
    assert judge(Plan(seconds=60, load=0.8), samples(1, 500.0), intervals(1), facts()).ok
    with pytest.raises(AtollError, match="too short"):
        judge(Plan(seconds=5, load=0.8), samples(0.1, 0.0), [], facts())


# --- what is asked for


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[tuple[LabOrigin, tuple[str, int]]]:
    """The lab's origin in this process, in place of a PoP in front of it."""
    origin = LabOrigin()
    door = Door(origin)
    server = await asyncio.start_server(door.serve, "127.0.0.1", 0)
    yield origin, server.sockets[0].getsockname()[:2]
    server.close()
    door.close()


@pytest_asyncio.fixture
async def mix(origin: tuple[LabOrigin, tuple[str, int]], tmp_path: Path) -> AsyncIterator[Mix]:
    found = Mix(Place(origin[1], origin[1], _authority(tmp_path)), Ledger(), 1)
    yield found
    found.close()


def test_shares_are_of_everything() -> None:
    assert sum(SHARES.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["hit", "miss", "conditional", "large", "range"])
async def test_right_answers_are_right(
    mix: Mix, origin: tuple[LabOrigin, tuple[str, int]], kind: str
) -> None:
    origin[0]._set_answers(soak_mix.ANSWERS)
    if kind != "range":  # the origin knows no ranges and sends the whole: fine as well
        assert [await mix.ask(kind) for _ in range(20)] == [""] * 20
    assert await mix.ask(kind) == ""


async def test_a_304_comes_for_what_is_known(mix: Mix, origin: tuple[LabOrigin, tuple[str, int]]) -> None:
    for _ in range(300):
        assert await mix.ask("conditional") == ""
    assert max(origin[0]._counts.values()) > 1  # the popular ones came again


async def test_old_wrong_and_uncompressed_answers_are_told(
    mix: Mix, origin: tuple[LabOrigin, tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await mix.ask("compressed")).startswith("not ")
    mix._ledger.acknowledged([(f"{ROOT}/hot/{number}", 1) for number in range(soak_mix.HOT)], 0.0)
    assert await mix.ask("hit") == "stale"
    monkeypatch.setattr("atoll.lab.lab_origin.content", lambda path, version, size: content("/x", 1, size))
    assert await mix.ask("miss") == "wrong bytes"


async def test_a_slow_reader_gets_all_of_it(
    mix: Mix, origin: tuple[LabOrigin, tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    origin[0]._set_answers((Answer(prefix=f"{ROOT}/large/", size=200_000),))
    monkeypatch.setattr(soak_mix, "SLOW_BYTES_S", 5_000_000)
    assert await asyncio.wait_for(mix.read_slowly(), 20) == ""


def test_popular_names_are_asked_for_more_often(tmp_path: Path) -> None:
    async def names() -> list[str]:
        mix = Mix(Place(("127.0.0.1", 1), ("127.0.0.1", 1), _authority(tmp_path)), Ledger(), 1)
        return [mix.purgeable()[0] for _ in range(2000)]

    found = asyncio.run(names())
    assert found.count(f"{ROOT}/hot/0") > 5 * found.count(f"{ROOT}/hot/100")
    assert all(int(name.rpartition("/")[2]) < soak_mix.HOT for name in found)


def _authority(folder: Path) -> Path:
    ensure_leaves(folder, ["lab.example.com"], dt.datetime.now(dt.UTC))
    return folder / "ca.pem"
