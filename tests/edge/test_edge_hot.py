"""The table of known requests: bounded in keys and in bytes, whatever clients send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll.edge.hot import HotTable, key_size
from atoll.http.exchange import ConnectionInfo, Stream
from atoll.http.fields import Headers


class Answer:
    """As large as it says."""

    replays = False

    def __init__(self, size: int) -> None:
        self.size = size

    def h1(self, now_s: float) -> bytes | None:
        return None

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        return None

    def replay(self, conn: ConnectionInfo, stream: Stream, now_s: float) -> None:
        raise NotImplementedError


def held(table: HotTable, keys: list[bytes]) -> list[bytes]:
    young, old = table._young, table._old
    return [key for key in keys if key in young or key in old]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3000)), max_size=300))
def test_two_generations_never_hold_more_than_twice_the_budget(added: list[tuple[int, int]]) -> None:
    budget = 10_000
    table = HotTable(budget)
    sizes: dict[bytes, int] = {}
    for number, size in added:
        key = b"%d" % number
        if table.get(key) is None:
            table.add(key, Answer(size))
            sizes[key] = size + key_size(key)
    largest = max(sizes.values(), default=0)
    assert sum(sizes[key] for key in held(table, list(sizes))) <= 2 * (budget + largest)


def test_what_is_asked_for_again_outlives_what_is_not() -> None:
    table = HotTable(100_000)
    wanted = Answer(1000)
    table.add(b"wanted", wanted)
    for number in range(1000):
        table.add(b"once %d" % number, Answer(1000))
        assert table.get(b"wanted") is wanted
    assert table.get(b"once 0") is None


def test_a_key_of_parts_is_as_large_as_they_are() -> None:
    fields = ((b"accept", b"x" * 1000), (b"host", b"h"))
    assert key_size((b"/", fields)) > 1000 + key_size(b"/")
