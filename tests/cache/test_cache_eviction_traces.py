"""The policy's worth on made-up traces: beside GDSF for object hits, beside plain S3-FIFO for byte hits."""

from __future__ import annotations

import heapq
from collections import OrderedDict

import pytest

from bench.evict import simulate
from bench.traces import Trace, synthetic

REQUESTS = 40_000


def gdsf(trace: Trace, capacity: int) -> tuple[float, float]:
    """Greedy-Dual-Size-Frequency: the lowest of clock + uses / size leaves (Cherkasova, 1998)."""
    objects: dict[int, tuple[float, int, int]] = {}  # key → when it is due, size, uses
    due: list[tuple[float, int]] = []
    clock, used, hits, hit_bytes, total = 0.0, 0, 0, 0, 0
    for key, size in trace:
        total += size
        known = objects.get(key)
        uses = 1 if known is None else known[2] + 1
        if known is not None:
            hits, hit_bytes = hits + 1, hit_bytes + size
        elif size > capacity // 8:
            continue
        else:
            used += size
        objects[key] = (clock + uses / size, size, uses)
        heapq.heappush(due, (objects[key][0], key))
        while used > capacity:
            at, victim = heapq.heappop(due)
            if victim in objects and objects[victim][0] == at:
                clock, used = at, used - objects.pop(victim)[1]
    return hits / len(trace), hit_bytes / total


def s3_fifo(trace: Trace, capacity: int) -> tuple[float, float]:
    """Plain S3-FIFO, whose ghost costs nothing."""
    small: OrderedDict[int, list[int]] = OrderedDict()  # key → size, uses
    main: OrderedDict[int, list[int]] = OrderedDict()
    ghost: OrderedDict[int, None] = OrderedDict()
    used = [0, 0]
    hits = hit_bytes = total = 0
    for key, size in trace:
        total += size
        found = small.get(key) or main.get(key)
        if found is not None:
            found[1] = min(found[1] + 1, 3)
            hits, hit_bytes = hits + 1, hit_bytes + size
            continue
        if size > capacity // 8:
            continue
        while sum(used) + size > capacity:
            if small and (used[0] * 10 >= capacity or not main):
                victim, entry = small.popitem(last=False)
                used[0] -= entry[0]
                if entry[1]:
                    main[victim] = [entry[0], 0]
                    used[1] += entry[0]
                else:
                    ghost[victim] = None
                    while len(ghost) > len(small) + len(main):
                        ghost.popitem(last=False)
            else:
                victim, entry = main.popitem(last=False)
                used[1] -= entry[0]
                if entry[1]:
                    main[victim] = [entry[0], entry[1] - 1]
                    used[1] += entry[0]
        place = main if key in ghost else small
        ghost.pop(key, None)
        place[key] = [size, 0]
        used[place is main] += size
    return hits / len(trace), hit_bytes / total


@pytest.mark.parametrize("family", ["web", "drift", "scan"])
def test_near_gdsf_in_objects_and_near_s3_fifo_in_bytes(family: str) -> None:
    trace = synthetic(family, REQUESTS)
    capacity = trace.footprint()[1] // 20
    hits, byte_hits, _ = simulate(trace, capacity)
    assert hits > 0.95 * gdsf(trace, capacity)[0]
    assert hits > 1.03 * s3_fifo(trace, capacity)[0]
    assert byte_hits > 0.92 * s3_fifo(trace, capacity)[1]
    assert byte_hits > 1.1 * gdsf(trace, capacity)[1]


def test_where_sizes_are_alike_it_is_s3_fifos_equal() -> None:
    trace = synthetic("equal", REQUESTS)
    capacity = trace.footprint()[1] // 20
    assert simulate(trace, capacity)[0] > 0.98 * s3_fifo(trace, capacity)[0]
