"""`bench.conformance`: results as numbers and as a table, and Atoll played from a benchmark."""

from __future__ import annotations

import pytest
from conformance_case import Chapter, ask, hit, ok
from conformance_play import Result

from atoll.errors import AtollError
from bench.conformance import ATOLL, Options, Outcome, Report, Score, outcome, run, table
from bench.machine import describe


def results() -> list[Result]:
    """One of each kind."""
    chapter = Chapter("9111")
    for name in ("right", "wrong", "untried"):
        chapter.must("4.2.1", name, "", ask(ok()), ask(hit()))
    chapter.good("5.2.2", "missed", "", ask(ok()), ask(hit()))
    chapter.note("5.4", "chosen", "", ask(ok()), ask(hit()))
    right, wrong, untried, missed, chosen = chapter.cases
    return [
        Result(right, "pass", ()),
        Result(wrong, "fail", ()),
        Result(untried, "unmet", ()),
        Result(missed, "unmet", ()),
        Result(chosen, "yes", ()),
    ]


def test_results_become_numbers() -> None:
    assert outcome("1.0", results()) == Outcome(
        version="1.0",
        required=Score(1, 2),
        optimal=Score(0, 1),
        choices=Score(1, 1),
        sections={"9111 4.2": Score(1, 2), "9111 5.2": Score(0, 1)},
        failed=("wrong", "missed"),
        untried=2,
    )


def test_the_table_has_a_column_per_cache() -> None:
    outcomes = {ATOLL: outcome("", results()), "nginx": outcome("1.22", results()[:1])}
    report = Report(name="conformance", machine=describe(), cases=5, outcomes=outcomes, left_out={})
    columns, rows = table(report)
    assert columns == ["section", ">atoll", ">nginx"]
    assert ["RFC 9111 §4.2", "1 / 2", "1 / 1"] in rows
    assert ["RFC 9111 §5.2", "0 / 1", "–"] in rows


def test_atoll_is_played_without_peers() -> None:
    said: list[str] = []
    report = run(Options(peers=(), only="fresh-max-age"), said.append)
    assert report.outcomes[ATOLL].failed == ()
    assert report.outcomes[ATOLL].optimal == Score(1, 1)
    assert not said


@pytest.mark.parametrize(
    "options", [Options(only="no such row"), Options(peers=("squid",), only="fresh-max-age")]
)
def test_unknown_names_are_a_users_mistake(options: Options) -> None:
    with pytest.raises(AtollError):
        run(options, print)
