"""`EdgeOriginCache`: what its example promises, and the mistakes it does not make."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from atoll.cache import CacheStrategy, EdgeOriginCache, Fetched
from atoll.errors import RemoteError

EXAMPLE = Path(__file__).parents[2] / "examples/edge-origin-cache/main.py"


class Origin:
    """An origin that counts, holds and fails as the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.hold: asyncio.Event | None = None
        self.down = False
        self.data: object = {"value": 1}
        self.unchanged = False

    async def __call__(self, key: str, etag: str) -> Fetched:
        self.asked.append((key, etag))
        if self.hold is not None:
            await self.hold.wait()
        if self.down:
            raise RemoteError("the origin is down")
        if self.unchanged and etag:
            return Fetched(None, etag, unchanged=True)
        return Fetched(self.data, '"1"', 100)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def origin() -> Origin:
    return Origin()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(origin: Origin, clock: Clock) -> EdgeOriginCache:
    return EdgeOriginCache("edge-test", fetch=origin, clock=clock, stale_s=1000)


async def test_ten_callers_of_a_cold_key_are_one_question(cache: EdgeOriginCache, origin: Origin) -> None:
    origin.hold = asyncio.Event()
    asking = [asyncio.ensure_future(cache.get("k")) for _ in range(10)]
    await asyncio.sleep(0)
    origin.hold.set()
    answers = await asyncio.gather(*asking)
    assert len(origin.asked) == 1
    assert [a.data for a in answers] == [{"value": 1}] * 10
    assert sorted({a.source for a in answers}) == ["edge_cache_after_wait", "origin"]
    assert cache.get_stats()["total_requests"] == 10


async def test_the_origin_is_asked_for_the_key_itself(cache: EdgeOriginCache, origin: Origin) -> None:
    await cache.get("user:12345")
    assert origin.asked == [("user:12345", "")]


@pytest.mark.parametrize(
    ("later_s", "source", "asked"),
    [
        (0, "edge_cache_fresh", 1),
        (47, "edge_cache_fresh", 1),
        (49, "edge_cache_refreshing", 2),
        (59, "edge_cache_refreshing", 2),
        (61, "edge_cache_stale_revalidating", 2),
        (71, "origin", 2),
    ],
)
async def test_how_old_an_entry_is_says_what_happens(
    cache: EdgeOriginCache, origin: Origin, clock: Clock, later_s: float, source: str, asked: int
) -> None:
    await cache.get("k", ttl_s=60)
    clock.now_s += later_s
    assert (await cache.get("k", ttl_s=60, stale_while_revalidate_s=10)).source == source
    await cache.settle()
    assert len(origin.asked) == asked


async def test_a_renewal_is_conditional_and_keeps_the_data(
    cache: EdgeOriginCache, origin: Origin, clock: Clock
) -> None:
    await cache.get("k", ttl_s=60)
    origin.unchanged, origin.data = True, None
    clock.now_s += 55
    await cache.get("k", ttl_s=60)
    await cache.settle()
    assert origin.asked[-1] == ("k", '"1"')
    answer = await cache.get("k", ttl_s=60)
    assert (answer.source, answer.data, answer.age_s) == ("edge_cache_fresh", {"value": 1}, 0.0)


async def test_what_is_stale_stands_in_for_so_long(
    cache: EdgeOriginCache, origin: Origin, clock: Clock
) -> None:
    await cache.get("k", ttl_s=60)
    origin.down = True
    clock.now_s += 1059
    answer = await cache.get("k", ttl_s=60)
    assert (answer.source, answer.data, answer.warning) == (
        "edge_cache_stale_fallback",
        {"value": 1},
        "the origin is down",
    )
    clock.now_s += 2
    assert (await cache.get("k")).source == "failed"


@pytest.mark.parametrize("data", [[], 0, "", None, {}])
async def test_nothing_is_data_too(cache: EdgeOriginCache, origin: Origin, data: object) -> None:
    origin.data = data
    assert (await cache.get("k")).source == "origin"
    answer = await cache.get("k")
    assert (answer.source, answer.data) == ("edge_cache_fresh", data)


async def test_edge_only_never_asks(cache: EdgeOriginCache, origin: Origin, clock: Clock) -> None:
    assert (await cache.get("k", CacheStrategy.EDGE_ONLY)).source == "not_cached"
    assert origin.asked == []
    await cache.get("k", ttl_s=60)
    assert (await cache.get("k", CacheStrategy.EDGE_ONLY)).source == "edge_cache_fresh"
    clock.now_s += 61
    assert (await cache.get("k", CacheStrategy.EDGE_ONLY)).source == "not_cached"


async def test_origin_first_asks_every_time_and_falls_back(cache: EdgeOriginCache, origin: Origin) -> None:
    for _ in range(2):
        assert (await cache.get("k", CacheStrategy.ORIGIN_FIRST)).source == "origin"
    assert len(origin.asked) == 2
    origin.down = True
    assert (await cache.get("k", CacheStrategy.ORIGIN_FIRST)).source == "edge_cache_stale_fallback"


async def test_a_caller_that_leaves_takes_nothing_from_the_others(
    cache: EdgeOriginCache, origin: Origin
) -> None:
    origin.hold = asyncio.Event()
    first, second = (asyncio.ensure_future(cache.get("k")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    origin.hold.set()
    assert (await second).data == {"value": 1}
    assert len(origin.asked) == 1


async def test_what_is_invalidated_does_not_come_back_with_an_older_fetch(
    cache: EdgeOriginCache, origin: Origin
) -> None:
    origin.hold = asyncio.Event()
    asking = asyncio.ensure_future(cache.get("k"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cache.invalidate("k")
    origin.hold.set()
    await asking
    assert (await cache.get("k", CacheStrategy.EDGE_ONLY)).source == "not_cached"


async def test_bytes_are_bounded(origin: Origin) -> None:
    cache = EdgeOriginCache("edge-test", fetch=origin, capacity=20_000)
    for number in range(200):
        await cache.get(f"k{number}")
    kept = [n for n in range(200) if (await cache.get(f"k{n}", CacheStrategy.EDGE_ONLY)).data]
    assert 0 < len(kept) < 40


async def test_a_defect_of_the_fetch_is_no_answer(cache: EdgeOriginCache, origin: Origin) -> None:
    async def broken(key: str, etag: str) -> Fetched:
        raise ZeroDivisionError

    cache = EdgeOriginCache("edge-test", fetch=broken)
    with pytest.raises(ZeroDivisionError):
        await cache.get("k")


def test_the_example_prints_what_it_promises() -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)], check=False, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert "origin requests made: 1 (should be 1)" in done.stdout
    for source in ("edge_cache_refreshing", "edge_cache_stale_revalidating", "edge_cache_stale_fallback"):
        assert source in done.stdout
