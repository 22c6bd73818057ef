"""The time that collecting garbage takes is counted, run by run."""

import gc

from atoll.node.gc_time import GcTime


def test_collections_are_counted_and_timed() -> None:
    time = GcTime()
    time.start()
    gc.collect()
    first = (time.runs, time.total_s)
    gc.collect()
    time.stop()
    gc.collect()
    assert first[0] >= 1
    assert first[1] > 0.0
    assert time.runs >= first[0] + 1
    assert first[1] < time.total_s
    assert 0.0 < time.longest_s <= time.total_s
    seen = time.runs
    gc.collect()
    assert time.runs == seen
