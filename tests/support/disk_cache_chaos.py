"""Processes that share a store's folder and are killed while they write; a program that prints what it saw.

    python disk_cache_chaos.py FOLDER SEED KILLS

Each body begins with its key, its version and its length, from which the rest follows: whoever reads one can
tell whether these bytes were ever stored for that key. Now and then all processes are killed at once, and the
next ones find the store as it was left.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import signal
import sys
import time
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path
from random import Random

from disk_cache import entry_of_body, open_store

from atoll.cache.disk import DiskStore
from atoll.http.fields import Headers

FORK = get_context("fork")  # with everything imported, the next process is there at once
CAPACITY = 24 * 1024 * 1024
KEYS = 300
WORKERS = 3
COUNTERS = ("gets", "hits", "puts", "long_puts", "updates", "removes", "wrong", "broken", "starts")


class Counters:
    """Numbers in memory that survives the processes that count."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, 8 * len(COUNTERS) * (WORKERS + 1))
        self._view = memoryview(self._map).cast("Q")

    def add(self, worker: int, name: str, count: int = 1) -> None:
        self._view[worker * len(COUNTERS) + COUNTERS.index(name)] += count

    def sums(self) -> dict[str, int]:
        size = len(COUNTERS)
        return {name: sum(self._view[at::size]) for at, name in enumerate(COUNTERS)}


def body_of(key: bytes, version: int, length: int) -> bytes:
    """What is stored for `key` under `version`."""
    head = b"%s|%d|%d|" % (key, version, length)
    return head + Random(head).randbytes(length)


def is_right(key: bytes, body: bytes) -> bool:
    """Whether `body` was once stored for `key`."""
    stored_for, version, length, _ = body.split(b"|", 3)
    return stored_for == key and body == body_of(key, int(version), int(length))


def check(store: DiskStore, key: bytes, request: Headers) -> bool | None:
    """Whether the store says the truth about `key`; None when it says nothing."""
    found = store.get(key, request)
    if found is None or found.body is None:
        return None
    try:
        body = found.body if isinstance(found.body, bytes) else found.body.read(0, found.length)
    except OSError:
        return None
    same_fields = entry_of_body(body).etag == dict(found.headers)[b"etag"]
    return len(body) == found.length and is_right(key, body) and same_fields


def work(folder: Path, worker: int, seed: int, counters: Counters) -> None:
    """Read and write until killed."""
    random = Random(seed)
    store = open_store(folder, CAPACITY)
    counters.add(worker, "starts")
    request: Headers = []
    while True:
        key = b"http://a.example/%d" % int(KEYS * random.random() ** 2)
        choice = random.random()
        if choice < 0.45:
            right = check(store, key, request)
            counters.add(worker, "gets")
            counters.add(worker, "hits", right is not None)
            counters.add(worker, "wrong", right is False)
        elif choice < 0.75:
            body = body_of(key, random.getrandbits(40), int(random.lognormvariate(8, 1.5)))
            counters.add(worker, "puts", store.put(key, request, entry_of_body(body), body))
        elif choice < 0.90:
            counters.add(worker, "long_puts", write_long(store, key, random))
        elif choice < 0.95:
            counters.add(worker, "updates", update(store, key))
        elif choice < 0.98:
            counters.add(worker, "removes", store.remove(key))
        else:
            store.sweep(2.0)
        counters.add(worker, "broken", store.counts.broken)
        store.counts.broken = 0


def write_long(store: DiskStore, key: bytes, random: Random) -> bool:
    """A long body, in pieces."""
    body = body_of(key, random.getrandbits(40), random.randrange(70_000, 1_200_000))
    length = len(body) if random.random() < 0.5 else None
    writer = store.writer(key, [], entry_of_body(body), length)
    with contextlib.suppress(OSError):
        for start in range(0, len(body), 50_000):
            writer.write(body[start : start + 50_000])
        return writer.commit()
    return False


def update(store: DiskStore, key: bytes) -> bool:
    found = store.get(key, [])
    if found is None or found.body is None:
        return False
    try:
        body = found.body if isinstance(found.body, bytes) else found.body.read(0, found.length)
    except OSError:
        return False
    return store.update(key, [], entry_of_body(body, extra=[(b"x-updated", b"1")]))


def start(folder: Path, worker: int, seed: int, counters: Counters) -> ForkProcess:
    process = FORK.Process(target=work, args=(folder, worker, seed, counters), daemon=True)
    process.start()
    return process


def kill(process: ForkProcess) -> bool:
    """Whether it had lived until then."""
    process.kill()
    process.join()
    if process.exitcode != -signal.SIGKILL:
        print(f"a worker ended by itself: {process.exitcode}", file=sys.stderr)
    return process.exitcode == -signal.SIGKILL


def look(folder: Path, counters: Counters) -> None:
    """Every readable object, by a process that has just opened the store."""
    store = open_store(folder, CAPACITY)
    for number in range(KEYS):
        right = check(store, b"http://a.example/%d" % number, [])
        counters.add(WORKERS, "hits", right is not None)
        counters.add(WORKERS, "wrong", right is False)
    counters.add(WORKERS, "broken", store.counts.broken)
    store.close()


def look_in_a_child(folder: Path, counters: Counters) -> bool:
    process = FORK.Process(target=look, args=(folder, counters))
    process.start()
    process.join()
    if process.exitcode != 0:
        print(f"a look ended with {process.exitcode}", file=sys.stderr)
    return process.exitcode == 0


def main(folder: Path, seed: int, kills: int) -> None:
    random, counters = Random(seed), Counters()
    seeds = iter(range(seed * 1_000_000, (seed + 1) * 1_000_000))
    workers = [start(folder, number, next(seeds), counters) for number in range(WORKERS)]
    died = 0
    done = 0
    while done < kills:
        time.sleep(random.uniform(0.01, 0.15))
        if random.random() < 0.1:
            died += sum(not kill(each) for each in workers)
            died += not look_in_a_child(folder, counters)
            workers = [start(folder, number, next(seeds), counters) for number in range(WORKERS)]
            done += WORKERS
        else:
            number = random.randrange(WORKERS)
            died += not kill(workers[number])
            workers[number] = start(folder, number, next(seeds), counters)
            done += 1
    died += sum(not kill(each) for each in workers)
    died += not look_in_a_child(folder, counters)
    print(json.dumps({"kills": done + WORKERS, "died": died, **counters.sums()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
