"""The purges that a machine keeps, and what a sweep does about them."""

from __future__ import annotations

import threading
from pathlib import Path

from disk_cache import audit, entry_of_body, open_store, seeded_body

from atoll.cache import purge_disk
from atoll.cache.disk import DiskStore
from atoll.cache.purge import Place, PurgeLog
from atoll.config.purge import Selector

CAPACITY = 16 * 1024 * 1024


def url_of(number: int) -> bytes:
    return b"http://a.example/%d" % number


def loaded(store: DiskStore) -> PurgeLog:
    assert store.parts is not None
    log = PurgeLog()
    purge_disk.load(store.parts.index, log)
    return log


def keep(store: DiskStore, seq: int, selector: Selector, limit: int = 100) -> None:
    assert store.write(lambda change, parts: purge_disk.keep(change, 5, seq, selector, limit), False)


def test_purges_come_back_in_their_order_and_with_their_kind(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    selectors = [
        Selector(kind="url", value="a.example/ü?x"),
        Selector(kind="prefix", value="a.example/p"),
        Selector(kind="tag", value="t", tenant="one"),
        Selector(kind="tag", value="t", tenant="two", soft=True),
        Selector(kind="host", value="a.example"),
        Selector(kind="all", soft=True),
    ]
    for seq in (3, 1, 5, 2, 6, 4):
        keep(store, seq, selectors[seq - 1])
    assert loaded(store).remembered() == list(enumerate(selectors, 1))
    store.close()


def test_the_same_selector_again_takes_no_room_and_the_last_number_counts(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    for seq in (4, 9, 7):
        keep(store, seq, Selector(kind="host", value="a.example"))
    log = loaded(store)
    assert log.remembered() == [(9, Selector(kind="host", value="a.example"))]
    assert log.floor == 0
    store.close()


def test_beyond_the_limit_the_oldest_become_the_floor(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    for seq in range(1, 301):
        keep(store, seq, Selector(kind="url", value=f"a.example/{seq}"))
        log = loaded(store)
        assert len(log.remembered()) <= 100
        assert log.applied == seq
        assert [each for each, _ in log.remembered()] == list(range(log.floor + 1, seq + 1))
    store.close()


def test_a_sweep_frees_what_purges_have_made_void(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    for number in range(400):
        body = bytes(100_000 if number % 10 == 0 else 10_000)
        place = Place(b"a.example/%d" % number, b"a.example", (b"default\0even",) if number % 2 == 0 else ())
        assert store.put(url_of(number), [], entry_of_body(body, place=place), body)
    used = store.stats.bytes_used
    store.log.add(1, Selector(kind="tag", value="even"))
    store.log.add(2, Selector(kind="all", soft=True))
    while not store.sweep(1):
        pass
    store.sweep(1000)
    assert store.stats.objects == 200
    assert store.stats.gone == 200
    assert store.stats.bytes_used < used - 3_000_000
    audit(store)
    found = store.get(url_of(1), [])
    assert found is not None
    assert found.stale
    store.close()


def test_one_sweep_of_a_purge_is_enough_for_all_processes(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    assert store.put(url_of(1), [], entry_of_body(b""), b"")
    store.log.add(1, Selector(kind="all"))
    assert store.sweep(1000)
    store.sweep(1000)
    assert store.stats.objects == 0
    store.close()
    other = open_store(tmp_path, CAPACITY)
    assert other.put(url_of(1), [], entry_of_body(b""), b"")
    other.log.add(1, Selector(kind="all"))
    assert other.sweep(1000)
    other.sweep(1000)
    assert other.stats.objects == 1, "what was stored since is judged when it is asked for"
    assert other.get(url_of(1), []) is None
    other.close()


def test_threads_may_share_a_store(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    wrong: list[int] = []

    def work(first: int) -> None:
        for round_ in range(150):
            number = first + round_ % 15
            body = seeded_body(b"%d" % number, 3000 if round_ % 3 else 200_000)
            store.put(url_of(number), [], entry_of_body(body), body)
            found = store.get(url_of(number), [])
            if found is None or found.body is None:
                continue
            stored = found.body if isinstance(found.body, bytes) else found.body.read(0, found.length)
            if stored != seeded_body(b"%d" % number, len(stored)):
                wrong.append(number)
            store.sweep(0.1)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.stats.hits > 300
    assert store.stats.broken == 0
    while not store.sweep(1000):
        pass
    audit(store)
    store.close()
