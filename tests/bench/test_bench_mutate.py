"""Counting mutants: what mutmut prints, and the score made of it."""

import pytest

from bench.mutate import Mutant, parse_results, render, score

OUTPUT = """
    atoll.internet.routing.x_propagate__mutmut_1: killed
    atoll.internet.routing.x__best__mutmut_12: survived
    atoll.internet.routing.x__best__mutmut_13: timeout
    atoll.cache.store.xǁStoreǁput__mutmut_3: no tests
    a line about: something else
"""


def test_lines_become_mutants() -> None:
    assert list(parse_results(OUTPUT)) == [
        Mutant("atoll.internet.routing", "propagate", 1, "killed"),
        Mutant("atoll.internet.routing", "_best", 12, "survived"),
        Mutant("atoll.internet.routing", "_best", 13, "timeout"),
        Mutant("atoll.cache.store", "Store.put", 3, "no tests"),
    ]


def test_an_endless_mutant_is_killed_and_an_untested_one_survives() -> None:
    result = score(parse_results(OUTPUT), 1.26)
    assert (result.mutants, result.killed, result.killed_percent, result.duration_s) == (4, 2, 50.0, 1.3)
    store, routing = result.modules
    assert (store.module, store.survivors) == ("atoll.cache.store", {"Store.put": (3,)})
    assert (routing.killed_percent, routing.survivors) == (66.7, {"_best": (12,)})
    assert not result.ok
    assert "survived in _best: [12]" in render(result)


@pytest.mark.parametrize(("killed", "ok"), [(9, True), (8, False)])
def test_nine_of_ten_are_enough(killed: int, ok: bool) -> None:
    mutants = [Mutant("m", "f", number, "killed" if number < killed else "survived") for number in range(10)]
    assert score(mutants, 1).ok is ok


def test_no_mutants_are_no_success() -> None:
    assert not score([], 1).ok
