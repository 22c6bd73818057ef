"""S3-FIFO: its rules one by one, the byte bound under any history, and its worth against LRU."""

from __future__ import annotations

import bisect
import itertools
import random
from collections import OrderedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.eviction import MAX_FREQ, S3Fifo

UNIT = 1000  # bytes of an object; a queue of 100 objects unless a test says otherwise


def _cache(objects: int = 100, max_object: int | None = None) -> S3Fifo[str]:
    return S3Fifo(objects * UNIT, max_object)


def _fill(cache: S3Fifo[str], prefix: str, count: int, size: int = UNIT) -> list[str]:
    evicted: list[str] = []
    for number in range(count):
        gone = cache.admit(f"{prefix}{number}", size)
        assert gone is not None
        evicted += gone
    return evicted


def test_takes_in_until_it_is_full() -> None:
    cache = _cache()
    assert _fill(cache, "a", 100) == []
    assert (len(cache), cache.bytes_used) == (100, 100 * UNIT)
    assert cache.admit("b", UNIT)
    assert "b" in cache


def test_the_oldest_unused_leaves_first() -> None:
    cache = _cache()
    _fill(cache, "a", 100)
    cache.touch("a0")
    cache.touch("absent")
    assert (cache.admit("b", UNIT) or [])[0] == "a1"
    assert "a0" in cache
    assert "a1" not in cache


def test_a_scan_leaves_what_is_used() -> None:
    cache = _cache()
    _fill(cache, "kept", 50)
    for number in range(50):
        cache.touch(f"kept{number}")
    _fill(cache, "scan", 1000)
    assert all(f"kept{number}" in cache for number in range(50))


def test_what_comes_back_enters_the_main_queue() -> None:
    cache = _cache()
    _fill(cache, "a", 101)
    assert "a0" not in cache
    cache.admit("a0", UNIT)  # the ghost remembers it
    _fill(cache, "scan", 300)
    assert "a0" in cache
    cache.remove("a0")
    cache.admit("a0", UNIT)  # removed is not remembered
    _fill(cache, "more", 300)
    assert "a0" not in cache


def test_rounds_in_the_main_queue_are_bounded() -> None:
    """However often it was used, an object outlives the main queue's turns by `MAX_FREQ` at most."""
    cache = _cache(20)
    _fill(cache, "a", 20)
    for number in range(20):
        node = cache.node(f"a{number}")
        assert node is not None
        node.freq = 1_000_000
    turns = 0
    while any(f"a{number}" in cache for number in range(20)):
        cache.admit(f"b{turns}", UNIT)
        cache.touch(f"b{turns}")  # so that newcomers press into the main queue
        turns += 1
        assert turns < 20 * (MAX_FREQ + 3)


def _press(cache: S3Fifo[str], until_gone: str) -> list[str]:
    """Newcomers, each used once, until a key has left: who left, in order."""
    left: list[str] = []
    for number in range(2000):
        left += cache.admit(f"press{number}", UNIT) or []
        cache.touch(f"press{number}")
        if until_gone in left:
            return left
    raise AssertionError(f"{until_gone} stays for ever")


def test_of_two_used_alike_the_larger_leaves_first() -> None:
    cache = _cache()
    for key, size in (("usual", UNIT), ("large", 8 * UNIT)):
        cache.admit(key, size)
        cache.touch(key)
    left = _press(cache, "usual")
    assert left.index("large") < left.index("usual")


def test_the_more_use_the_longer_it_stays() -> None:
    stays = {}
    for uses in (1, 3):
        cache = _cache()
        cache.admit("a", UNIT)
        for _ in range(uses):
            cache.touch("a")
        stays[uses] = len(_press(cache, "a"))
    assert stays[3] > 2 * stays[1]


def test_little_ones_that_were_not_used_get_a_trial() -> None:
    cache = _cache(200)
    _fill(cache, "large", 30, 5 * UNIT)
    _fill(cache, "little", 20, UNIT)
    _fill(cache, "more", 12, 5 * UNIT)
    assert all(f"little{number}" in cache for number in range(20))
    assert "large0" not in cache
    left = _press(cache, "little19")
    assert not any(f"little{number}" in cache for number in range(20))
    assert left.index("little0") < left.index("little19")


def test_removals_do_not_pile_up() -> None:
    """The oldest of a main queue leaves a trace when it is removed, for a while."""
    cache = _cache()
    _fill(cache, "a", 101)
    for turn in range(2000):
        key = f"b{turn}"
        cache.admit(key, UNIT)
        cache.touch(key)
        cache.admit(f"c{turn}", 2 * UNIT)
        cache.remove(key)
    assert len(cache._oldest) <= 4 * len(cache._main) + 65
    assert len(cache._main) <= 64


@pytest.mark.parametrize(
    ("max_object", "size", "admitted"),
    [
        (None, 12_500, True),
        (None, 12_501, False),
        (5000, 5000, True),
        (5000, 5001, False),
        (99_999, 12_501, False),
    ],
)
def test_size_limits(max_object: int | None, size: int, admitted: bool) -> None:
    cache = _cache(max_object=max_object)
    assert cache.admits(size) is admitted
    assert (cache.admit("a", size) is not None) is admitted
    assert ("a" in cache) is admitted
    assert not cache.admits(0)


def test_a_new_size_keeps_the_standing() -> None:
    cache = _cache()
    cache.admit("a", UNIT)
    node = cache.node("a")
    assert node is not None
    node.freq = 2
    assert cache.admit("a", 3 * UNIT) == []
    assert cache.node("a") is node
    assert (node.freq, node.size, cache.bytes_used, len(cache)) == (2, 3 * UNIT, 3 * UNIT, 1)
    assert cache.admit("a", 13 * UNIT) is None
    assert "a" not in cache
    assert cache.bytes_used == 0


def test_remove_and_clear() -> None:
    cache = _cache()
    _fill(cache, "a", 150)
    present = [f"a{number}" for number in range(150) if f"a{number}" in cache]
    assert cache.remove(present[0])
    assert not cache.remove(present[0])
    assert not cache.remove("a0")
    assert len(cache) == len(present) - 1
    cache.clear()
    assert (len(cache), cache.bytes_used) == (0, 0)
    assert cache.node(present[1]) is None


_steps = st.lists(
    st.tuples(st.sampled_from(["admit", "touch", "remove"]), st.integers(0, 30), st.integers(200, 4000)),
    max_size=200,
)


@given(_steps)
def test_any_history_stays_within_bounds(steps: list[tuple[str, int, int]]) -> None:
    """The model is a plain dictionary of sizes: who is in, and what they weigh."""
    cache: S3Fifo[int] = S3Fifo(20_000)
    model: dict[int, int] = {}
    for action, key, size in steps:
        if action == "touch":
            cache.touch(key)
        elif action == "remove":
            assert cache.remove(key) is (model.pop(key, None) is not None)
        else:
            evicted = cache.admit(key, size)
            model.pop(key, None)
            if evicted is not None:
                assert key not in evicted
                for gone in evicted:
                    del model[gone]
                model[key] = size
            assert (evicted is None) is (size > cache.max_object)
        assert len(cache) == len(model)
        assert all(inside in cache for inside in model)
        assert sum(model.values()) <= cache.bytes_used <= cache.capacity


def _zipf_trace(seed: int, objects: int, length: int) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    weights = list(itertools.accumulate(1 / (rank + 1) ** 0.9 for rank in range(objects)))
    sizes = [1500 + int(rng.lognormvariate(8.0, 1.2)) for _ in range(objects)]
    picks = (bisect.bisect_left(weights, rng.random() * weights[-1]) for _ in range(length))
    return [(pick, sizes[pick]) for pick in picks]


def _hits_s3fifo(trace: list[tuple[int, int]], capacity: int) -> int:
    cache: S3Fifo[int] = S3Fifo(capacity)
    hits = 0
    for key, size in trace:
        node = cache.node(key)
        if node is None:
            cache.admit(key, size)
        else:
            node.freq += 1
            hits += 1
    return hits


def _hits_lru(trace: list[tuple[int, int]], capacity: int) -> int:
    lru: OrderedDict[int, int] = OrderedDict()
    used = hits = 0
    for key, size in trace:
        if key in lru:
            lru.move_to_end(key)
            hits += 1
        elif size <= capacity // 8:
            while used + size > capacity:
                used -= lru.popitem(last=False)[1]
            lru[key] = size
            used += size
    return hits


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_beats_lru_on_a_web_like_trace(share: float) -> None:
    trace = _zipf_trace(seed=7, objects=5000, length=40_000)
    capacity = int(sum(dict(trace).values()) * share)
    assert _hits_s3fifo(trace, capacity) > 1.05 * _hits_lru(trace, capacity)
