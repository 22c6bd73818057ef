"""The bound of the machine's cache, and which objects stay within it."""

from __future__ import annotations

import time
from pathlib import Path
from random import Random

import pytest
from disk_cache import audit, disk_usage, entry_of_body, open_store, seeded_body

from atoll.cache.disk import DiskStore

CAPACITY = 16 * 1024 * 1024


def put(store: DiskStore, number: int, length: int) -> bool:
    body = bytes(length)
    return store.put(b"http://a.example/%d" % number, [], entry_of_body(body), body)


def is_in(store: DiskStore, number: int) -> bool:
    return store.get(b"http://a.example/%d" % number, []) is not None


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [(0, 200, 30_000), (1000, 60_000, 2000), (70_000, 1_500_000, 300), (0, 2_000_000, 300)],
)
def test_the_bound_holds_whatever_is_stored(tmp_path: Path, low: int, high: int, count: int) -> None:
    random = Random(1)
    store = open_store(tmp_path, CAPACITY)
    stored = 0
    for number in range(count):
        stored += put(store, number, random.randrange(low, high + 1))
        if number % 3 == 0:
            is_in(store, random.randrange(number + 1))
        if number % (count // 20) == 0:
            assert store.stats.bytes_used <= CAPACITY
            assert disk_usage(tmp_path) <= CAPACITY + 512 * 1024
    assert stored == count, "room is always made"
    assert store.stats.evicted > count // 4
    audit(store)
    if high > 200:
        assert store.stats.bytes_used > CAPACITY * 0.8, "what there is is used"
    store.close()


def test_what_is_used_outlives_what_is_seen_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    hot = range(100)
    for number in hot:
        assert put(store, number, 20_000)
    for scan in range(3000):
        assert put(store, 1000 + scan, 20_000)
        if scan % 5 == 0:
            is_in(store, scan // 5 % 100)
    assert sum(is_in(store, number) for number in hot) > 80
    assert store.stats.promoted > 90
    store.close()


def test_what_comes_back_soon_is_remembered(tmp_path: Path) -> None:
    """Objects that are asked for again shortly after they had to leave enter the main queue at once."""
    store = open_store(tmp_path, CAPACITY)
    for number in range(1500):
        assert put(store, number, 20_000)
    gone = [number for number in range(1500) if not is_in(store, number)][-60:]
    for number in gone:
        assert put(store, number, 20_000)
    for scan in range(400):
        assert put(store, 10_000 + scan, 20_000)
    assert sum(is_in(store, number) for number in gone) > 50
    store.close()


def test_storing_the_same_again_and_again_evicts_nothing_else(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    for number in range(200):
        assert put(store, number, 20_000)
        assert is_in(store, number)
    for _ in range(3000):
        assert put(store, 7, 20_000)
    assert sum(is_in(store, number) for number in range(200)) == 200
    store.close()


def test_small_objects_that_fill_the_index_make_room_for_each_other(tmp_path: Path) -> None:
    store = open_store(tmp_path, 8 * 1024 * 1024)
    for number in range(40_000):
        assert put(store, number, 0)
    assert store.stats.objects > 5000
    parts = store.parts
    assert parts is not None
    assert parts.index.bytes_used < 3 * 1024 * 1024
    audit(store)
    store.close()


def test_an_object_above_the_largest_is_refused(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, CAPACITY, open_store(tmp_path / "other", CAPACITY).log, max_object=500_000)
    assert put(store, 1, 500_000)
    assert not put(store, 2, 500_001)
    assert not is_in(store, 2)
    assert is_in(store, 1)
    store.close()


def test_writers_together_do_not_exceed_the_bound(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    for number in range(700):
        assert put(store, number, 30_000)
    writers = [
        store.writer(b"http://b.example/%d" % number, [], entry_of_body(b""), None) for number in range(8)
    ]
    refused = 0
    for _ in range(14):
        for writer in writers:
            try:
                writer.write(bytes(100_000))
            except OSError:
                refused += 1
        assert disk_usage(tmp_path) <= CAPACITY + 512 * 1024
    assert refused > 0, "they may take a quarter of the capacity"
    done = sum(writer.commit() for writer in writers)
    assert done >= 2
    audit(store)
    store.close()


def test_a_store_with_many_objects_opens_at_once(tmp_path: Path) -> None:
    store = open_store(tmp_path, 256 * 1024 * 1024)
    body = seeded_body(b"", 100)
    entry = entry_of_body(body)
    for number in range(30_000):
        store.put(b"http://a.example/%d" % number, [], entry, body)
    store.close()
    began_s = time.process_time()
    store = open_store(tmp_path, 256 * 1024 * 1024)
    assert time.process_time() - began_s < 0.1
    assert store.stats.objects == 30_000
    store.close()
