"""The table of what was evicted: what it remembers, forgets and weighs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.ghost import MAX_RANK, Ghost


def test_what_is_recalled_is_forgotten() -> None:
    ghost = Ghost()
    assert ghost.recall("a", 100) == -1
    ghost.remember("a", 7, 100)
    ghost.remember("b", 99, 100)
    assert (ghost.recall("a", 100), ghost.recall("a", 100)) == (7, -1)
    assert ghost.recall("b", 100) == MAX_RANK


def test_the_last_word_holds() -> None:
    ghost = Ghost()
    for rank in (1, 5, 3):
        ghost.remember("a", rank, 100)
    assert ghost.recall("a", 100) == 3
    assert ghost.recall("a", 100) == -1


def test_the_oldest_are_forgotten() -> None:
    ghost = Ghost()
    for number in range(1000):
        ghost.remember(f"key {number}", 1, 100)
    found = [number for number in range(1000) if ghost.recall(f"key {number}", 100) >= 0]
    assert min(found) >= 900
    assert len(found) >= 90


@pytest.mark.parametrize("step", [1, 64, 4096, 1 << 32])
def test_few_of_the_last_are_lost_whatever_the_keys(step: int) -> None:
    ghost = Ghost()
    for number in range(10_000):
        ghost.remember(number * step, 2, 1000)
    kept = sum(ghost.recall(number * step, 1000) == 2 for number in range(9000, 10_000))
    assert kept >= 900
    assert sum(ghost.recall(number * step, 1000) >= 0 for number in range(9000)) <= 2


def test_its_size_follows_the_number_of_keys() -> None:
    ghost = Ghost()
    assert ghost.size == 0
    for limit in (1, 10, 1000, 100_000):
        ghost.remember("a", 0, limit)
        assert limit * 8 <= ghost.size <= max(limit * 128, 128)
    ghost.remember("a", 0, 100)
    assert ghost.size <= 100 * 128
    ghost.clear()
    assert ghost.size == 0
    assert ghost.recall("a", 100) == -1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=120))
def test_only_what_was_told_is_recalled(told: list[tuple[int, int]]) -> None:
    ghost, model = Ghost(), {}
    for key, rank in told:
        ghost.remember(key, rank, 64)
        model[key] = min(rank, MAX_RANK)
    for key in range(41):
        assert ghost.recall(key, 64) in (-1, model.get(key, -1))
