"""The machine's cache when processes that use it are killed, stopped, or find it as others left it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from disk_cache import audit, entry_of_body, open_store, seeded_body
from disk_cache_chaos import CAPACITY, FORK

from atoll.cache.blocks import BLOCK, path_of
from atoll.cache.disk import DiskStore
from atoll.cache.purge import PurgeLog

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}"}
URL = b"http://a.example/page"


def test_a_hundred_kills_serve_no_wrong_byte_and_lose_no_room(tmp_path: Path) -> None:
    program = ROOT / "tests/support/disk_cache_chaos.py"
    command = [sys.executable, str(program), str(tmp_path), "7", "110"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "it neither started empty nor stumbled"
    report = json.loads(done.stdout)
    assert report["kills"] >= 110
    assert report["died"] == 0, "nobody ended by itself"
    assert report["wrong"] == 0
    assert report["broken"] == 0, "a kill leaves nothing half-written to be found"
    assert report["hits"] > 300
    assert report["puts"] > 100
    assert report["long_puts"] > 30

    store = DiskStore(tmp_path, CAPACITY, PurgeLog())
    assert store.sweep(60_000)
    audit(store)
    parts = store.parts
    assert parts is not None
    assert parts.index.totals().writing_bytes == 0
    store.close()


def _begin_long(folder: Path, started: int) -> None:
    store = open_store(folder, CAPACITY)
    writer = store.writer(URL, [], entry_of_body(b""), None)
    writer.write(bytes(700_000))
    os.write(started, b"x")
    signal.pause()


def test_a_killed_writers_file_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    ready, started = os.pipe()
    process = FORK.Process(target=_begin_long, args=(tmp_path, started), daemon=True)
    process.start()
    assert os.read(ready, 1) == b"x"

    store = open_store(tmp_path, CAPACITY)
    parts = store.parts
    assert parts is not None
    (name,) = parts.index.keys(b"w", b"", 10)
    path = path_of(parts.claim.bodies, name)
    assert store.sweep(10_000)
    assert path.exists(), "somebody is writing it"
    assert parts.index.totals().writing_bytes > 2 * BLOCK
    process.kill()
    process.join()
    assert store.sweep(10_000)
    assert not path.exists()
    assert store.stats.leftovers == 1
    audit(store)
    assert parts.index.totals().writing_bytes == 0
    store.close()


def _hold_the_lock(folder: Path, started: int) -> None:
    store = open_store(folder, CAPACITY)
    assert store.parts is not None
    store.parts.index.begin()
    os.write(started, b"x")
    signal.pause()


def test_a_stopped_writer_holds_nobody_up(tmp_path: Path) -> None:
    ready, started = os.pipe()
    process = FORK.Process(target=_hold_the_lock, args=(tmp_path, started), daemon=True)
    process.start()
    assert os.read(ready, 1) == b"x"
    store = open_store(tmp_path, CAPACITY)
    begin_s = time.monotonic()
    for _ in range(50):
        assert not store.put(URL, [], entry_of_body(b"x"), b"x")
    assert time.monotonic() - begin_s < 1.0, "one of them waited, the others did not"
    assert store.stats.refused_busy == 50
    process.kill()
    process.join()
    time_out_s = time.monotonic() + 5
    while not store.put(URL, [], entry_of_body(b"x"), b"x"):
        assert time.monotonic() < time_out_s
        time.sleep(0.01)
    assert store.get(URL, []) is not None
    store.close()


def _store_many(folder: Path, first: int) -> None:
    store = open_store(folder, CAPACITY)
    for number in range(first, first + 300):
        body = seeded_body(b"%d" % number, 20_000)
        assert store.put(URL + b"%d" % number, [], entry_of_body(body), body)
    os._exit(0)  # without closing


def test_processes_see_what_the_others_store(tmp_path: Path) -> None:
    processes = [FORK.Process(target=_store_many, args=(tmp_path, first)) for first in (0, 300)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    store = open_store(tmp_path, CAPACITY)
    for number in range(600):
        found = store.get(URL + b"%d" % number, [])
        assert found is not None
        assert found.body == seeded_body(b"%d" % number, 20_000)
    assert store.stats.objects == 600
    store.close()


EVICT_ALL = f"""
import sys
from pathlib import Path
from disk_cache import entry_of_body, open_store
store = open_store(Path(sys.argv[1]), {CAPACITY})
for number in range(1200):
    body = bytes(60_000)
    store.put(b"http://b.example/%d" % number, [], entry_of_body(body), body)
store.close()
"""


def test_space_that_another_process_frees_is_given_back(tmp_path: Path) -> None:
    store = open_store(tmp_path, CAPACITY)
    for number in range(300):
        body = seeded_body(b"%d" % number, 60_000)
        assert store.put(URL + b"%d" % number, [], entry_of_body(body), body)
        assert store.get(URL + b"%d" % number, []) is not None
    subprocess.run([sys.executable, "-c", EVICT_ALL, str(tmp_path)], env=ENVIRONMENT, check=True, timeout=60)
    assert _removed_segments_held_open()
    store.get(URL, [])
    assert not _removed_segments_held_open()
    audit(store)
    store.close()


def _removed_segments_held_open() -> list[str]:
    links = Path("/proc/self/fd").iterdir()
    held = [os.readlink(link) for link in links if os.path.lexists(link)]
    return [path for path in held if "/segments/" in path and path.endswith("(deleted)")]
