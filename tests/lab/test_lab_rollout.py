"""Rollouts judged from samples, by table; the whole of it is run in tests/e2e."""

from __future__ import annotations

import pytest

from atoll.errors import AtollError
from atoll.functions.workers import bundle
from atoll.lab.prober import Sample
from atoll.lab.rollout import FUNCTION, Spread, Step, judge, project, result, served_at_s, spread


def said(version: str, done_s: float, first_error: str = "") -> Sample:
    return Sample(done_s - 0.01, done_s, version, first_error)


@pytest.mark.parametrize(
    ("answers", "at_s"),
    [
        ([said("1", 5.0)], 5.0),
        ([said("0", 1.0), said("1", 2.0), said("1", 3.0)], 2.0),
        ([said("0", 1.0), said("1", 2.0), said("0", 2.5), said("1", 3.0)], 3.0),  # an old one came late
        ([said("1", 3.0), said("0", 1.0), said("1", 2.0)], 2.0),  # in any order
        (
            [said("0", 1.0), said("1", 2.0), Sample(2.1, 2.2, "", "reset", "reset")],
            2.0,
        ),  # a loss says nothing
    ],
)
def test_a_version_serves_from_its_first_answer_after_the_last_old_one(
    answers: list[Sample], at_s: float
) -> None:
    assert served_at_s("1", answers) == at_s


@pytest.mark.parametrize("answers", [[], [said("0", 1.0)], [said("1", 1.0), said("0", 2.0)]])
def test_a_version_that_is_not_served_in_the_end_is_an_error(answers: list[Sample]) -> None:
    with pytest.raises(AtollError, match="version 1"):
        served_at_s("1", answers)


def test_a_step_counts_from_the_order_and_names_every_failure() -> None:
    seen = {
        "lhr": [said("0", 10.0), said("1", 10.2), said("1", 10.3, "reset")],
        "nrt": [said("0", 10.1), said("0", 10.2), said("1", 10.45)],
    }
    step = judge("deploy", "1", 10.0, 123.4, seen)
    assert step == Step(
        action="deploy",
        version="1",
        served_ms={"lhr": 200.0, "nrt": 450.0},
        all_served_ms=450.0,
        reported_ms=123.4,
        requests=6,
        failed_requests=1,
        errors={"reset": 1},
    )
    assert not result([step, _rollback(300.0)], 100.0, 1000.0).ok


def _rollback(ms: float) -> Step:
    return Step(
        action="rollback", version="0", served_ms={"lhr": ms}, all_served_ms=ms, reported_ms=1.0, requests=9,
        failed_requests=0, errors={},
    )  # fmt: skip


def test_the_verdict_needs_every_change_within_the_limit() -> None:
    deploy = judge("deploy", "1", 0.0, 1.0, {"lhr": [said("1", 0.1)]})
    outcome = result([deploy, _rollback(50.0)], 10.0, 100.0)
    assert (outcome.ok, outcome.requests, outcome.deploy_ms.max) == (True, 10, 100.0)
    assert not result([deploy, _rollback(101.0)], 10.0, 100.0).ok


def test_percentiles_are_nearest_rank() -> None:
    assert spread([float(n) for n in range(1, 21)]) == Spread(p50=10.0, p99=20.0, max=20.0)
    assert spread([7.0]) == Spread(p50=7.0, p99=7.0, max=7.0)
    with pytest.raises(AtollError):
        spread([])


def test_a_version_s_bundle_says_its_version() -> None:
    manifest = bundle.read_manifest(project("7"))
    assert manifest.name == FUNCTION
    assert bundle.digest(project("7")) != bundle.digest(project("8"))
