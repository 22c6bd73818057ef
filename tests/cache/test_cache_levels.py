"""Memory and disk as one cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from atoll.cache.disk import DiskStore
from atoll.cache.levels import IN_MEMORY, Levels
from atoll.cache.partial import Partial
from atoll.cache.purge import PurgeLog, place_of
from atoll.cache.store import Entry, Store
from atoll.config.purge import Selector
from atoll.http.fields import Headers, parse_cache_control

URL = b"https://shop.example/a"
GZIP: Headers = [(b"accept-encoding", b"gzip")]


def entry(body: bytes = b"x", seq: int = 0, partial: Partial | None = None, *, vary: bool = False) -> Entry:
    return Entry(
        status=200,
        headers=[(b"etag", b'"1"')],
        body=body,
        request_time_s=1.0,
        response_time_s=2.0,
        date_s=2.0,
        lifetime_s=60.0,
        initial_age_s=0.0,
        cc=parse_cache_control([b"max-age=60"]),
        vary=(b"accept-encoding",) if vary else (),
        place=place_of(URL, ()),
        purge_seq=seq,
        partial=partial,
    )


def opened(folder: Path) -> Levels:
    log = PurgeLog()
    disk = DiskStore(folder, 64 * 1024 * 1024, log)
    disk.load_purges()
    return Levels(Store(8 * 1024 * 1024, log=log), disk)


@pytest.fixture
def levels(tmp_path: Path) -> Iterator[Levels]:
    made = opened(tmp_path / "cache")
    yield made
    made.disk.close()


def read(found: Entry | None) -> bytes | None:
    if found is None:
        return None
    return found.body if isinstance(found.body, bytes) else found.body.read(0, len(found.body))


def test_what_memory_has_let_go_of_comes_back_from_the_disk(levels: Levels) -> None:
    levels.put(URL, [], entry(b"kept"))
    levels.memory.purge_all()
    assert read(levels.get(URL, [])) == b"kept"
    assert read(levels.memory.get(URL, [])) == b"kept"


def test_another_worker_and_a_restart_find_it(levels: Levels, tmp_path: Path) -> None:
    levels.put(URL, GZIP, entry(b"kept", vary=True))
    levels.disk.close()
    again = opened(tmp_path / "cache")
    assert read(again.get(URL, GZIP)) == b"kept"
    assert again.get(URL, []) is None
    again.disk.close()


def test_long_content_is_on_disk_alone(levels: Levels) -> None:
    content = bytes(range(256)) * (IN_MEMORY // 256 + 1)
    writer = levels.writer(URL, [], entry(), len(content))
    assert writer is not None
    for start in range(0, len(content), 100_000):
        writer.write(content[start : start + 100_000])
    assert writer.read(5, 105) == content[5:105]
    assert writer.commit(levels.purge_epoch)
    assert writer.read(5, 105) == content[5:105]  # who lags behind reads on
    found = levels.get(URL, [])
    assert found is not None
    assert not found.in_memory
    assert read(found) == content
    assert levels.memory.get(URL, []) is None


def test_what_was_dropped_while_it_was_written_is_not_kept(levels: Levels) -> None:
    writer = levels.writer(URL, [], entry(), 200_000)
    assert writer is not None
    epoch = levels.purge_epoch
    writer.write(b"x" * 200_000)
    levels.purge(URL)
    assert not writer.commit(epoch)
    assert levels.get(URL, []) is None
    assert not levels.put(URL, [], entry(), epoch)


def test_dropping_takes_it_from_both(levels: Levels) -> None:
    levels.put(URL, [], entry())
    assert levels.purge(URL) == 1
    assert levels.get(URL, []) is None
    assert levels.disk.get(URL, []) is None


def test_a_purge_holds_for_both_and_after_a_restart(levels: Levels, tmp_path: Path) -> None:
    levels.put(URL, [], entry())
    assert levels.apply_purge(7, Selector(kind="host", value="shop.example"))
    assert not levels.apply_purge(7, Selector(kind="all"))
    assert levels.get(URL, []) is None
    assert not levels.put(URL, [], entry(b"old", seq=6))
    assert levels.put(URL, [], entry(b"new", seq=7))
    levels.disk.close()
    again = opened(tmp_path / "cache")
    assert again.log.applied == 7
    assert read(again.get(URL, [])) == b"new"
    again.disk.close()


def test_unknown_purges_make_what_is_older_stale(levels: Levels, tmp_path: Path) -> None:
    levels.put(URL, [], entry())
    levels.behind(9)
    found = levels.get(URL, [])
    assert found is not None
    assert found.softened
    levels.disk.close()
    again = opened(tmp_path / "cache")
    assert again.log.applied == 9
    found = again.get(URL, [])
    assert found is not None
    assert found.softened
    again.disk.close()


def test_new_fields_for_the_same_content(levels: Levels) -> None:
    levels.put(URL, [], entry(b"same"))
    before = levels.get(URL, [])
    assert before is not None
    after = entry(b"same")
    after.lifetime_s = 600.0
    assert levels.renew(URL, before.variant, after)
    levels.memory.purge_all()
    found = levels.get(URL, [])
    assert found is not None
    assert (found.lifetime_s, read(found)) == (600.0, b"same")


def test_parts_stay_in_memory(levels: Levels) -> None:
    part = Partial(100, b'"1"').add(0, b"0123456789")
    assert levels.put(URL, [], entry(b"", partial=part))
    found = levels.get(URL, [])
    assert found is not None
    assert found.partial == part
    assert levels.disk.get(URL, []) is None
    levels.memory.purge_all()
    assert levels.get(URL, []) is None


def test_the_whole_is_better_than_parts(levels: Levels) -> None:
    levels.put(URL, [], entry(b"whole"))
    levels.memory.purge_all()
    part = Partial(5, b'"1"').add(0, b"wh")
    levels.memory.put(URL, [], entry(b"", partial=part))
    assert read(levels.get(URL, [])) == b"whole"
