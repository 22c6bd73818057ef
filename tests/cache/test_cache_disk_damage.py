"""The machine's cache when its disk lies, is full, cannot be written, or holds something else."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import lmdb
import msgspec
import pytest
from disk_cache import audit, disk_usage, entry_of_body, open_store
from disk_cache_chaos import CAPACITY, FORK, body_of, check

from atoll.cache.claim import Marker
from atoll.cache.disk import DiskStore
from atoll.cache.purge import PurgeLog

ROOT = Path(__file__).parents[2]
KEYS = [b"http://a.example/%d" % number for number in range(60)]


def fill(folder: Path) -> None:
    """Short and long bodies under `KEYS`."""
    store = open_store(folder, CAPACITY)
    for number, key in enumerate(KEYS):
        body = body_of(key, number, 120_000 if number % 6 == 0 else 2000)
        assert store.put(key, [], entry_of_body(body), body)
    store.close()


def right(store: DiskStore) -> int:
    """How many of `KEYS` the store serves. What it serves is right."""
    found = [check(store, key, []) for key in KEYS]
    assert False not in found, "wrong bytes were served"
    return sum(each is True for each in found)


def still_works(store: DiskStore) -> None:
    """Everything can be stored anew."""
    for key in KEYS:
        body = body_of(key, 99, 3000)
        assert store.put(key, [], entry_of_body(body), body)
    assert right(store) == len(KEYS)
    assert store.stats.bytes_used <= CAPACITY


@pytest.mark.parametrize("kind", [b"u", b"q", b"f", b"t", b"s"])
def test_flipped_bits_in_values_of_the_index_are_found(tmp_path: Path, kind: bytes) -> None:
    fill(tmp_path)
    random = Random(3)
    with lmdb.open(str(tmp_path / "v1/index"), map_size=1 << 28) as env, env.begin(write=True) as txn:
        values = [(bytes(key), bytearray(value)) for key, value in txn.cursor() if key.startswith(kind)]
        for key, value in values:
            value[random.randrange(len(value))] ^= 1 << random.randrange(8)
            txn.put(key, bytes(value))
    assert values
    store = open_store(tmp_path, CAPACITY)
    served = right(store)
    assert served == 0 if kind == b"u" else served == len(KEYS)
    still_works(store)
    while not store.sweep(1000):
        pass
    if kind in {b"q", b"t"}:
        assert store.stats.broken > 0
    store.close()


def test_flipped_bits_in_records_are_found_dropped_and_counted(tmp_path: Path) -> None:
    fill(tmp_path)
    (segment,) = (tmp_path / "v1/segments").iterdir()
    whole = segment.read_bytes()
    random = Random(4)
    for _ in range(40):
        harmed = bytearray(whole)
        harmed[random.randrange(len(whole))] ^= 1 << random.randrange(8)
        segment.write_bytes(harmed)
        store = open_store(tmp_path, CAPACITY)
        for _ in range(2):
            assert right(store) == len(KEYS) - 1
            assert store.stats.broken == 1
        store.close()
    store = open_store(tmp_path, CAPACITY)
    (lost,) = [key for key in KEYS if store.get(key, []) is None]
    store.sweep(1000)
    assert store.stats.objects == len(KEYS) - 1
    still_works(store)
    assert store.get(lost, []) is not None
    audit(store)
    store.close()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_segment_is_found(tmp_path: Path, share: float) -> None:
    fill(tmp_path)
    (segment,) = (tmp_path / "v1/segments").iterdir()
    os.truncate(segment, int(segment.stat().st_size * share))
    store = open_store(tmp_path, CAPACITY)
    served = right(store)
    assert abs(served - share * len(KEYS)) < 8
    assert store.stats.broken == len(KEYS) - served
    still_works(store)
    store.close()


def test_a_segment_that_is_missing_is_found(tmp_path: Path) -> None:
    fill(tmp_path)
    (segment,) = (tmp_path / "v1/segments").iterdir()
    segment.unlink()
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == 0
    assert store.stats.broken == len(KEYS)
    store.sweep(1000)
    assert store.stats.objects == 0
    store.close()


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _scribble(path: Path) -> None:
    path.write_bytes(b"\x5a" * path.stat().st_size)


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("harm", [_empty, _scribble, _a_folder])
def test_an_index_that_can_not_be_opened_is_replaced_by_an_empty_one(
    tmp_path: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    harm(tmp_path / "v1/index/data.mdb")
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == 0
    still_works(store)
    assert disk_usage(tmp_path) < 8_000_000, "what the old index pointed to is gone"
    store.close()
    if harm is not _empty:  # LMDB makes a new one of an empty file, and the sweep removes the rest
        assert "starts empty: it can not be opened" in caplog.text


def test_a_truncated_index_starts_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = open_store(tmp_path, CAPACITY)
    for number in range(20_000):
        assert store.put(b"http://b.example/%d" % number, [], entry_of_body(b""), b"")
    store.close()
    _halve(tmp_path / "v1/index/data.mdb")
    store = open_store(tmp_path, CAPACITY)
    assert "starts empty: it can not be opened" in caplog.text
    still_works(store)
    store.close()


def marker(folder: Path) -> Marker:
    return msgspec.json.decode((folder / "v1/marker").read_bytes(), type=Marker)


def set_marker(folder: Path, **fields: object) -> None:
    changed = msgspec.structs.replace(marker(folder), **fields)
    (folder / "v1/marker").write_bytes(msgspec.json.encode(changed))


@pytest.mark.parametrize("where", ["boot", "machine"])
def test_a_system_that_went_down_while_the_store_was_open_starts_it_empty(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    assert not marker(tmp_path).in_use
    set_marker(tmp_path, **{where: "another"})
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == len(KEYS), "it had been closed in good order"
    assert marker(tmp_path).in_use
    store.close()
    set_marker(tmp_path, in_use=True, **{where: "another"})
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == 0
    assert "starts empty: the system went down while it was in use" in caplog.text
    still_works(store)
    store.close()


def test_a_store_without_a_marker_starts_empty(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "v1/marker").write_text("{")
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == 0
    still_works(store)
    store.close()


def test_orderly_ends_in_between_are_no_excuse(tmp_path: Path) -> None:
    fill(tmp_path)
    for count in (1, 2):
        set_marker(tmp_path, in_use=True)
        store = open_store(tmp_path, CAPACITY)
        store.close()
        assert marker(tmp_path).disorderly == count
    store = open_store(tmp_path, CAPACITY)
    assert store.parts is not None
    store.parts.claim.trust()
    store.close()
    assert marker(tmp_path).disorderly == 0


def test_an_index_is_verified_when_it_has_not_been_closed_again_and_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    set_marker(tmp_path, in_use=True, disorderly=2)
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == len(KEYS), "nothing is wrong with it"
    assert marker(tmp_path).disorderly == 0
    store.close()
    set_marker(tmp_path, in_use=True, disorderly=2)
    data = bytearray((tmp_path / "v1/index/data.mdb").read_bytes())
    for page in range(2, len(data) // 4096):
        data[page * 4096 : page * 4096 + 8] = b"\xff" * 8  # each page says its own number
    (tmp_path / "v1/index/data.mdb").write_bytes(data)
    store = open_store(tmp_path, CAPACITY)
    assert "starts empty: its index is damaged" in caplog.text
    still_works(store)
    store.close()


def test_what_damages_the_index_while_it_is_open_ends_in_an_empty_store(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path)
    store = open_store(tmp_path, CAPACITY)
    parts = store.parts
    assert parts is not None
    size = (tmp_path / "v1/index/data.mdb").stat().st_size
    with (tmp_path / "v1/index/data.mdb").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * (size - 2 * 4096))
    assert right(store) == 0
    assert not store.put(KEYS[0], [], entry_of_body(b""), b"")
    assert "is damaged" in caplog.text
    working = [store.stats.working, store.sweep(1000), store.stats.working]
    assert working == [False, True, True]
    still_works(store)
    store.close()


def _full_disk(folder: Path) -> None:
    """Files may not grow beyond 200 kB in this process: as good as a full disk."""
    logging.disable(logging.CRITICAL)
    store = open_store(folder, CAPACITY)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    before = right(store)
    refused = 0
    for number in range(200):
        key = b"http://c.example/%d" % number
        body = body_of(key, 1, 9000 if number % 2 else 100_000)
        refused += not store.put(key, [], entry_of_body(body), body)
        store._paused_until_s = 0.0  # each one tries
    assert refused > 100
    assert store.stats.refused_full > 100
    assert right(store) == before == len(KEYS), "reads go on"
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    still_works(store)
    while not store.sweep(1000):
        pass
    audit(store)
    store.close()


def _run(act: Callable[[Path], None], folder: Path) -> None:
    process = FORK.Process(target=act, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_full_disk_refuses_writes_and_harms_nothing(tmp_path: Path) -> None:
    fill(tmp_path)
    _run(_full_disk, tmp_path)
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == len(KEYS)
    audit(store)
    store.close()


def test_after_a_refusal_by_the_disk_the_next_ones_are_not_tried(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        assert not store.put(KEYS[0], [], entry_of_body(bytes(2000)), bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert not store.put(KEYS[0], [], entry_of_body(b""), b"")
    assert store.stats.refused_full == 2
    store.close()


def _read_only(folder: Path) -> None:
    if os.geteuid() == 0:  # permissions do not bind root
        os.setuid(65534)
    store = open_store(folder, CAPACITY)
    assert not store.stats.writable
    assert right(store) == len(KEYS)
    assert not store.put(KEYS[0], [], entry_of_body(b""), b"")
    assert not store.put(KEYS[0], [], entry_of_body(b""), bytes(200_000))
    assert not store.update(KEYS[0], [], entry_of_body(b""))
    assert store.remove(KEYS[1]) == 1
    assert store.get(KEYS[1], []) is None, "removed, as far as this process is concerned"
    assert not store.sweep(100)
    store.close()


def test_a_store_that_can_not_be_written_is_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder)
        paths = [folder, *folder.rglob("*")]
        for path in paths:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            _run(_read_only, folder)
        finally:
            for path in paths:
                path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_folder_that_can_not_be_used_stores_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    store = DiskStore(tmp_path / "file", CAPACITY, PurgeLog())
    assert "is not used" in caplog.text
    assert not store.put(KEYS[0], [], entry_of_body(b""), b"")
    assert store.get(KEYS[0], []) is None
    assert (store.variants(KEYS[0]), store.remove(KEYS[0]), store.clear()) == ([], 0, False)
    assert not store.sweep(100)
    store.load_purges()
    assert not store.stats.working
    store.close()


DAMAGE = f"""
import sys
from pathlib import Path
from disk_cache import open_store
store = open_store(Path(sys.argv[1]), {CAPACITY})
print("open", flush=True)
sys.stdin.readline()
store.get({KEYS[0]!r}, [])
store.sweep(1000)
print(store.stats.working, flush=True)
sys.stdin.readline()
store.close()
"""


def test_a_damaged_index_that_others_use_is_emptied_by_the_last_of_them(tmp_path: Path) -> None:
    fill(tmp_path)
    store = open_store(tmp_path, CAPACITY)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "tests/support"]))}
    command = [sys.executable, "-c", DAMAGE, str(tmp_path)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        index = tmp_path / "v1/index/data.mdb"
        with index.open("r+b") as file:
            file.seek(2 * 4096)
            file.write(b"\xff" * (index.stat().st_size - 2 * 4096))
        assert store.get(KEYS[0], []) is None
        working = [store.stats.working, store.sweep(1000), store.stats.working]
        assert working == [False, False, False], "the other one still uses it"
        other.stdin.write("\n")
        other.stdin.flush()
        assert other.stdout.readline() == "True\n", "it was the last, and has emptied it"
        store._open_again_s = 0.0
        assert store.sweep(1000)
        still_works(store)
        other.stdin.write("\n")
        other.stdin.flush()
    store.close()


def test_a_folder_that_comes_back_is_used(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    store = open_store(tmp_path / "cache", CAPACITY)
    assert not store.sweep(100)
    (tmp_path / "cache").unlink()
    assert not store.sweep(100), "it has just been tried"
    store._open_again_s = 0.0
    assert store.sweep(1000)
    still_works(store)
    store.close()
    assert not store.sweep(1000)


def test_a_store_of_another_format_is_left_alone_while_it_is_used(tmp_path: Path) -> None:
    other = tmp_path / "v0"
    other.mkdir()
    (other / "users.lock").write_text("")
    store = open_store(tmp_path, CAPACITY)
    assert not other.exists()
    store.close()


def test_long_bodies_on_a_bad_disk(tmp_path: Path) -> None:
    fill(tmp_path)
    random = Random(5)
    bodies = [path for path in (tmp_path / "v1/bodies").rglob("*") if path.is_file()]
    assert len(bodies) == 10
    for path in bodies:
        data = bytearray(path.read_bytes())
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
    store = open_store(tmp_path, CAPACITY)
    assert right(store) == len(KEYS) - 10
    assert store.stats.broken == 10
    store.sweep(1000)
    assert store.stats.objects == len(KEYS) - 10
    audit(store)
    store.close()
