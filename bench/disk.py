"""The machine's store alone, in this process: what its calls cost, and how long it takes to open.

Every line is the median, the 99th percentile and the worst of single calls, in microseconds of wall time, and
the processor time of all of them divided by their number. Reads come from the kernel's page cache: what is
measured is the store, not the disk.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter, process_time
from typing import Final

import msgspec

from atoll.cache.disk import DiskStore
from atoll.cache.purge import PurgeLog
from atoll.cache.store import Entry
from atoll.http.fields import parse_cache_control

KIB: Final = 1024
MIB: Final = 1024 * 1024
_LONG: Final = 10 * MIB
_FEW: Final = 20_000  # calls of the lines that do not go through all objects


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What is measured; `folder` is where, the system's temporary folder by default."""

    objects: int = 100_000
    folder: Path | None = None


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one call takes, in microseconds; `mb_s` where bodies are long."""

    call: str
    count: int
    p50: float
    p99: float
    max: float
    cpu: float
    mb_s: float = 0.0


def run(options: Options, say: Callable[[str], None]) -> tuple[Cost, ...]:
    """All lines."""
    folder = Path(tempfile.mkdtemp(prefix="atoll-bench-disk-", dir=options.folder))
    try:
        return tuple(_lines(folder, options.objects, say))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(costs: Sequence[Cost]) -> tuple[list[str], list[list[str]]]:
    """Head and rows."""
    rows = [
        [
            cost.call,
            f"{cost.count:,}",
            f"{cost.p50:,.1f}",
            f"{cost.p99:,.1f}",
            f"{cost.max:,.0f}",
            f"{cost.cpu:,.1f}",
            f"{cost.mb_s:,.0f}" if cost.mb_s else "",
        ]
        for cost in costs
    ]
    return ["call", ">count", ">p50 µs", ">p99 µs", ">max µs", ">CPU µs", ">MB/s"], rows


def _lines(folder: Path, objects: int, say: Callable[[str], None]) -> Iterable[Cost]:
    capacity = max(64 * MIB, objects * 4 * KIB)
    random = Random(1)
    order = [random.randrange(objects) for _ in range(min(objects, 5 * _FEW))]
    say(f"storing {objects:,} objects of 1 KiB")
    store = _open(folder, capacity)
    yield _put(store, "put 1 KiB", range(objects), random.randbytes(KIB))
    yield _get(store, "get 1 KiB", order)
    yield _get(store, "get nothing", range(objects, objects + _FEW))
    store.close()
    say("opening")
    yield _opening(folder, capacity, objects, closed=True)
    yield _opening(folder, capacity, objects, closed=False)
    store = _open(folder, capacity)
    yield _sweep(store)
    say("storing while as much is evicted")
    count = min(objects, 2 * capacity // (16 * KIB))
    yield _put(store, "put 16 KiB", range(2 * objects, 2 * objects + count), random.randbytes(16 * KIB))
    yield _get(store, "get 16 KiB", range(2 * objects + count - 1000, 2 * objects + count))
    yield _put(store, "put 1 KiB, full", range(4 * objects, 4 * objects + objects), random.randbytes(KIB))
    store.close()
    shutil.rmtree(folder)
    say("long bodies")
    yield from _long(folder, random)


def _long(folder: Path, random: Random) -> Iterable[Cost]:
    store = _open(folder, 512 * MIB)
    body = random.randbytes(_LONG)
    yield _put(store, "put 10 MiB", range(100), body, len(body))
    yield _cost("read 10 MiB", [partial(_read, store, number) for number in range(80, 100)], _LONG)
    store.close()


def _read(store: DiskStore, number: int) -> None:
    found = store.get(_key(number), [])
    assert found is not None
    assert not isinstance(found.body, bytes)
    assert found.body is not None
    assert sum(len(block) for block in found.body.blocks()) == found.length


def _open(folder: Path, capacity: int) -> DiskStore:
    return DiskStore(folder, capacity, PurgeLog())


def _opening(folder: Path, capacity: int, objects: int, *, closed: bool) -> Cost:
    """With `closed` false the store looks as if all who used it had been killed."""
    times: list[float] = []
    cpu_s = process_time()
    for _ in range(5):
        if not closed:
            marker = folder / "v1/marker"
            marker.write_bytes(marker.read_bytes().replace(b'"in_use":false', b'"in_use":true'))
        began_s = perf_counter()
        store = _open(folder, capacity)
        times.append(perf_counter() - began_s)
        assert store.stats.objects == objects
        store.close()
    return _summary("open" if closed else "open, after kills", times, process_time() - cpu_s)


def _sweep(store: DiskStore) -> Cost:
    times: list[float] = []
    cpu_s = process_time()
    done = False
    while not done:
        began_s = perf_counter()
        done = store.sweep(5.0)
        times.append(perf_counter() - began_s)
    return _summary("sweep(5 ms)", times, process_time() - cpu_s)


def _put(store: DiskStore, call: str, numbers: Sequence[int], body: bytes, bytes_each: int = 0) -> Cost:
    entry = _entry(body)
    return _cost(call, [partial(store.put, _key(number), [], entry, body) for number in numbers], bytes_each)


def _get(store: DiskStore, call: str, numbers: Sequence[int]) -> Cost:
    return _cost(call, [partial(store.get, _key(number), []) for number in numbers])


def _cost(call: str, calls: Sequence[Callable[[], object]], bytes_each: int = 0) -> Cost:
    times = []
    cpu_s = process_time()
    for each in calls:
        began_s = perf_counter()
        each()
        times.append(perf_counter() - began_s)
    return _summary(call, times, process_time() - cpu_s, bytes_each)


def _summary(call: str, times_s: Sequence[float], cpu_s: float, bytes_each: int = 0) -> Cost:
    ranked = sorted(times_s)
    return Cost(
        call=call,
        count=len(ranked),
        p50=ranked[len(ranked) // 2] * 1e6,
        p99=ranked[len(ranked) * 99 // 100] * 1e6,
        max=ranked[-1] * 1e6,
        cpu=cpu_s / len(ranked) * 1e6,
        mb_s=bytes_each * len(ranked) / sum(ranked) / 1e6,
    )


def _key(number: int) -> bytes:
    return b"https://shop.example/products/%d" % number


def _entry(body: bytes) -> Entry:
    control = b"max-age=600, stale-while-revalidate=30"
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", control),
        (b"date", b"Tue, 15 Nov 1994 08:12:31 GMT"),
        (b"etag", b'"33a64df551425fcc55e4d42a148795d9f25f89d4"'),
        (b"server", b"origin"),
    ]
    return Entry(
        status=200,
        headers=headers,
        body=body,
        request_time_s=1.0,
        response_time_s=1.1,
        date_s=1.0,
        lifetime_s=600.0,
        initial_age_s=0.1,
        cc=parse_cache_control([control]),
        vary=(),
    )
