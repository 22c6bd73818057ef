"""The table of known requests: bounded in keys and in bytes, whatever clients send."""

from __future__ import annotations

import gc
import weakref

from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.store import Entry, Store
from atoll.edge.hot import Hot, HotTable, key_size
from atoll.http.exchange import ConnectionInfo, PreparedHead, Stream
from atoll.http.fields import CacheControl, Headers


class Answer:
    """As large as it says."""

    replays = False
    rest = b""

    def __init__(self, size: int, wanted: bool = False) -> None:
        self.size = size
        self.wanted = wanted
        self.released = False

    def release(self) -> None:
        self.released = True

    def h1(self, now_s: float) -> bytes | None:
        return None

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        return None

    def replay(self, conn: ConnectionInfo, stream: Stream, now_s: float) -> None:
        raise NotImplementedError


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3000), st.booleans()), max_size=300))
def test_the_table_never_holds_more_than_its_budget(added: list[tuple[int, int, bool]]) -> None:
    table = HotTable(10_000)
    held: dict[bytes, Answer] = {}
    for number, size, wanted in added:
        key = b"%d" % number
        if table.get(key) is None:
            held[key] = Answer(size, wanted)
            table.add(key, held[key])
        kept = [key for key in held if table.get(key) is not None]
        assert sum(held[key].size + key_size(key) for key in kept) <= 10_000
        assert all(held[key].released != (key in kept) for key in held)


def test_what_is_wanted_outlives_what_is_not() -> None:
    table = HotTable(100_000)
    wanted = Answer(1000, wanted=True)
    table.add(b"wanted", wanted)
    for number in range(1000):
        table.add(b"once %d" % number, Answer(1000))
    assert table.get(b"wanted") is wanted
    assert table.get(b"once 0") is None


def test_what_leaves_the_store_is_not_held_by_the_table() -> None:
    store = Store(1_000_000)
    entry = Entry(
        status=200, headers=[], body=b"x" * 1000, request_time_s=0.0, response_time_s=0.0, date_s=0.0,
        lifetime_s=60.0, initial_age_s=0.0, cc=CacheControl(), vary=(),
    )  # fmt: skip
    store.put(b"https://a/", [], entry)
    table, hots = (
        HotTable(100_000),
        [Hot(entry, b"atoll-x", PreparedHead(200, []), b"", store.log) for _ in range(3)],
    )
    for number, hot in enumerate(hots):
        table.add(b"%d" % number, hot)
    table.add(b"0", hots[1])  # in the place of another
    assert hots[0].h1(1.0) is None
    assert hots[1].h1(1.0) is not None
    content = weakref.ref(entry)
    store.purge(b"https://a/")
    del entry
    gc.collect()
    assert content() is None
    assert hots[1].h1(1.0) is None
    assert hots[2].h1(1.0) is None


def test_a_key_of_parts_is_as_large_as_they_are() -> None:
    fields = ((b"accept", b"x" * 1000), (b"host", b"h"))
    assert key_size((b"/", fields)) > 1000 + key_size(b"/")
