"""The machine's cache on a real folder: what is stored comes back whole, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from disk_cache import entry_of_body, open_store, seeded_body

from atoll.cache.blocks import BLOCK, StoredBody, TornBody
from atoll.cache.disk import DiskStore
from atoll.cache.purge import Place, PurgeLog
from atoll.cache.stored import entry_of
from atoll.config.purge import Selector
from atoll.errors import AtollError
from atoll.http.fields import Headers

CAPACITY = 16 * 1024 * 1024
URL = b"http://a.example/page"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DiskStore]:
    opened = open_store(tmp_path, CAPACITY)
    yield opened
    opened.close()


def put(store: DiskStore, url: bytes, body: bytes, request: Headers | None = None, **fields: Any) -> bool:
    return store.put(url, request or [], entry_of_body(body, **fields), body)


def body_of(store: DiskStore, url: bytes, request: Headers | None = None) -> bytes | None:
    found = store.get(url, request or [])
    if found is None or found.body is None:
        return None
    return found.body if isinstance(found.body, bytes) else found.body.read(0, found.length)


@pytest.mark.parametrize("length", [0, 1, 100, 65_536, 65_537, BLOCK, BLOCK + 1, 3 * BLOCK + 77, 1_900_000])
def test_a_body_comes_back_as_it_was(store: DiskStore, length: int) -> None:
    body = seeded_body(URL, length)
    assert put(store, URL, body)
    found = store.get(URL, [])
    assert found is not None
    assert found.length == length
    assert isinstance(found.body, bytes) == (length <= store.max_inline)
    assert body_of(store, URL) == body
    assert (found.status, found.stale) == (200, False)


def test_every_field_of_an_entry_survives(store: DiskStore) -> None:
    entry = entry_of_body(
        b"text", vary=(b"accept",), purge_seq=4, place=Place(b"a.example/page", b"a.example", (b"t\0tag",))
    )
    assert store.put(URL + b"#slice=1", [(b"accept", b"text/html")], entry, b"text")
    found = store.get(URL + b"#slice=1", [(b"accept", b"text/html")])
    assert found is not None
    back = entry_of(found)
    names = set(type(entry).__slots__) - {"node", "live", "variant", "stored_seq", "judged"}
    assert {name: getattr(back, name) for name in names} == {name: getattr(entry, name) for name in names}


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 10), (BLOCK - 3, BLOCK + 3), (BLOCK, 2 * BLOCK), (5, 900_000), (899_999, 10**9), (7, 7)],
)
def test_a_part_of_a_long_body(store: DiskStore, start: int, end: int) -> None:
    body = seeded_body(URL, 900_000)
    assert put(store, URL, body)
    found = store.get(URL, [])
    assert found is not None
    assert isinstance(found.body, StoredBody)
    assert found.body.read(start, end) == body[start:end]
    assert b"".join(found.body.blocks(start, end)) == body[start:end]


def test_variants_are_selected_by_what_they_vary_by_and_the_newest_wins(store: DiskStore) -> None:
    german, french = [(b"accept-language", b"de")], [(b"accept-language", b"fr")]
    assert put(store, URL, b"deutsch", german, vary=(b"accept-language",), date_s=10.0)
    assert put(store, URL, b"francais", french, vary=(b"accept-language",), date_s=10.0)
    assert body_of(store, URL, german) == b"deutsch"
    assert body_of(store, URL, french) == b"francais"
    assert body_of(store, URL, [(b"accept-language", b"it")]) is None
    assert put(store, URL, b"for all", date_s=20.0)
    assert body_of(store, URL, german) == b"for all"
    assert put(store, URL, b"neu", german, vary=(b"accept-language",), date_s=30.0)
    assert body_of(store, URL, german) == b"neu"
    assert sorted(each.meta.selection for each in store.variants(URL)) == [b"", b"2:de;", b"2:fr;"]
    assert store.remove(URL) == 3
    assert body_of(store, URL, german) is None
    assert store.stats.objects == 0


def test_one_url_has_so_many_variants_and_no_more(store: DiskStore) -> None:
    for number in range(70):
        assert put(store, URL, b"%d" % number, [(b"x", b"%d" % number)], vary=(b"x",))
    assert len(store.variants(URL)) == 64
    assert body_of(store, URL, [(b"x", b"5")]) is None
    assert body_of(store, URL, [(b"x", b"6")]) == b"6"


@pytest.mark.parametrize("length", [100, 500_000])
def test_an_update_changes_the_fields_and_keeps_the_body(store: DiskStore, length: int) -> None:
    body = seeded_body(URL, length)
    assert put(store, URL, body, date_s=10.0)
    entry = entry_of_body(body, date_s=50.0, extra=[(b"x-new", b"1")])
    assert store.update(URL, [], entry)
    found = store.get(URL, [])
    assert found is not None
    assert (b"x-new", b"1") in found.headers
    assert found.meta.date_s == 50.0
    assert body_of(store, URL) == body
    assert store.stats.objects == 1


def test_an_update_is_refused_when_something_else_is_stored(store: DiskStore) -> None:
    assert not store.update(URL, [], entry_of_body(b"one"))
    assert put(store, URL, b"one")
    seq = store.variants(URL)[0].seq
    assert not store.update(URL, [], entry_of_body(b"two"))  # another ETag
    assert put(store, URL, b"one")
    assert not store.update(URL, [], entry_of_body(b"one"), seq)
    assert store.update(URL, [], entry_of_body(b"one"), seq + 1)


def test_a_body_that_comes_in_pieces_is_seen_when_it_is_whole(store: DiskStore) -> None:
    body = seeded_body(URL, 1_000_000)
    writer = store.writer(URL, [], entry_of_body(body), None)
    for start in range(0, len(body), 70_001):
        writer.write(body[start : start + 70_001])
        assert writer.read(start, start + 100_000) == body[start : start + 70_001]
    assert writer.read(200_000, 300_001) == body[200_000:300_001]
    assert store.get(URL, []) is None
    assert writer.commit()
    assert body_of(store, URL) == body
    assert not writer.commit()


def test_a_writer_that_gives_up_leaves_nothing(store: DiskStore, tmp_path: Path) -> None:
    for length, written in [(None, 500_000), (500_000, 499_999), (10, 9)]:
        writer = store.writer(URL, [], entry_of_body(b""), length)
        writer.write(bytes(written))
        if length is None:
            writer.abandon()
        assert not writer.commit()
    with pytest.raises(OSError, match="longer"):
        store.writer(URL, [], entry_of_body(b""), 10).write(bytes(11))
    with pytest.raises(OSError, match="longer"):
        store.writer(URL, [], entry_of_body(b""), None).write(bytes(store.max_object + 1))
    assert store.get(URL, []) is None
    assert not [path for path in (tmp_path / "v1/bodies").rglob("*") if path.is_file()]
    parts = store.parts
    assert parts is not None
    assert parts.index.totals().writing_bytes == 0


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    long = seeded_body(b"long", 400_000)
    assert put(store, URL, b"short")
    assert put(store, URL + b"2", long)
    store.close()
    store = open_store(tmp_path, CAPACITY)
    assert body_of(store, URL) == b"short"
    assert body_of(store, URL + b"2") == long
    store.close()


def test_purges_apply_to_what_was_stored_before_them(tmp_path: Path) -> None:
    log = PurgeLog()
    store = DiskStore(tmp_path, CAPACITY, log)
    place = Place(b"a.example/page", b"a.example", (b"default\0news",))
    assert put(store, URL, b"old", place=place, purge_seq=0)
    assert put(store, URL + b"2", b"other")
    log.add(7, Selector(kind="tag", value="news", soft=True))
    assert store.keep_purge(7, Selector(kind="tag", value="news", soft=True))
    found = store.get(URL, [])
    assert found is not None
    assert found.stale
    assert entry_of(found).softened
    log.add(8, Selector(kind="tag", value="news"))
    assert store.keep_purge(8, Selector(kind="tag", value="news"))
    assert store.get(URL, []) is None
    assert body_of(store, URL + b"2") == b"other"
    assert not put(store, URL, b"fetched before", place=place, purge_seq=7)
    assert put(store, URL, b"fetched after", place=place, purge_seq=8)
    assert (store.stats.gone, store.stats.refused_purged) == (1, 1)
    store.close()

    restarted = PurgeLog()
    store = DiskStore(tmp_path, CAPACITY, restarted)
    store.load_purges()
    assert restarted.applied == 8
    assert restarted.remembered() == log.remembered()
    assert body_of(store, URL) == b"fetched after"
    store.close()


def test_the_floor_of_the_purges_survives(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    assert store.keep_floor(90)
    assert store.keep_floor(20)
    assert store.keep_purge(95, Selector(kind="all"))
    store.close()
    log = PurgeLog()
    store = DiskStore(tmp_path, CAPACITY, log)
    store.load_purges()
    assert (log.floor, log.applied) == (90, 95)
    store.close()


def test_clearing_leaves_the_purges_and_room(store: DiskStore, tmp_path: Path) -> None:
    for number in range(50):
        assert put(store, URL + b"%d" % number, seeded_body(URL, 100_000 if number % 2 else 3000))
    assert store.keep_purge(3, Selector(kind="all"))
    assert store.clear()
    assert store.stats.objects == 0
    assert body_of(store, URL + b"1") is None
    assert not [path for path in (tmp_path / "v1/bodies").rglob("*") if path.is_file()]
    assert put(store, URL, b"again")
    assert body_of(store, URL) == b"again"
    store.load_purges()
    assert store.log.applied == 3


def test_a_damaged_block_is_found_and_the_rest_still_read(store: DiskStore, tmp_path: Path) -> None:
    body = seeded_body(URL, 3 * BLOCK)
    assert put(store, URL, body)
    found = store.get(URL, [])
    assert found is not None
    assert isinstance(found.body, StoredBody)
    (path,) = [path for path in (tmp_path / "v1/bodies").rglob("*") if path.is_file()]
    with path.open("r+b") as file:
        file.seek(BLOCK + 10)
        file.write(bytes([body[BLOCK + 10] ^ 1]))
    assert found.body.read(0, BLOCK) == body[:BLOCK]
    with pytest.raises(TornBody):
        found.body.read(BLOCK - 1, BLOCK + 1)
    assert store.get(URL, []) is None
    assert store.stats.broken == 1
    assert put(store, URL, b"new")
    assert body_of(store, URL) == b"new"


@pytest.mark.parametrize("harm", ["missing", "short", "long", "index"])
def test_a_file_that_is_not_what_was_written_is_a_miss(store: DiskStore, tmp_path: Path, harm: str) -> None:
    assert put(store, URL, seeded_body(URL, 600_000))
    (path,) = [path for path in (tmp_path / "v1/bodies").rglob("*") if path.is_file()]
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    elif harm == "short":
        path.write_bytes(data[:-1])
    elif harm == "long":
        path.write_bytes(data + b"x")
    else:
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    assert store.get(URL, []) is None
    assert store.stats.broken == 1
    assert store.sweep(1000)
    assert store.stats.objects == 0


def test_too_small_a_capacity_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AtollError, match="too small"):
        DiskStore(tmp_path, 1000, PurgeLog())
