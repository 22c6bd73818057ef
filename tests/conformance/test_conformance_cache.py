"""Every row of the conformance table, played against an edge worker.

`pending.txt` lists rows that do not hold yet: one that holds must leave the list, one that is not on it must
hold. `python tests/conformance/run.py` plays the same and says what was expected and seen.
"""

from __future__ import annotations

import pytest
from conformance_edge import play_on_atoll
from conformance_play import Result
from conformance_report import complaints
from conformance_table import CASES, pending

MINIMUM = 800


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> dict[str, Result]:
    """What came of the rows that are tested in this run, all played at once."""
    chosen = {
        item.callspec.params["name"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec") and "name" in item.callspec.params
    }
    cases = [case for case in CASES if case.id in chosen]
    return {result.case.id: result for result in play_on_atoll(cases)}


@pytest.mark.parametrize("name", [case.id for case in CASES])
def test_the_row_holds(name: str, results: dict[str, Result]) -> None:
    result = results[name]
    if name in pending():
        assert not result.good, f"{name} holds: take it off pending.txt"
    else:
        assert result.good, "\n".join(complaints([result]))


def test_ids_are_unique_and_pending_ones_exist() -> None:
    names = [case.id for case in CASES]
    assert len(names) == len(set(names))
    assert pending() <= set(names)


def test_the_table_is_as_large_as_it_claims() -> None:
    assert len(CASES) >= MINIMUM
