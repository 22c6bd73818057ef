"""Kills in a seeded order, and failures judged by what was killed; the whole of it is run in tests/e2e."""

from __future__ import annotations

from collections import Counter

import pytest

from atoll.lab.kills import SHARES, Cause, Kind, Plan, Target, cause_of, targets
from atoll.lab.watch import Failure

POPS = ("lhr", "iad", "nrt")
KILLED_S = 100.0


def test_a_seed_is_an_order() -> None:
    plan = Plan(kills=150, rate=1.0, seed=7)
    assert targets(plan, POPS) == targets(plan, POPS)
    assert targets(plan, POPS) != targets(Plan(kills=150, rate=1.0, seed=8), POPS)


def test_a_hundred_kills_have_their_shares_and_every_pop_its_part() -> None:
    found = targets(Plan(kills=100, rate=1.0), POPS)
    assert Counter(target.kind for target in found) == SHARES
    assert {target.pop for target in found} == {*POPS, ""}
    for target in found:
        if target.kind == "nats":
            assert (target.pop, target.process) == ("", "nats")
        else:
            assert target.process.startswith(f"{target.pop}/")
    assert {target.process.partition("/")[2] for target in found if target.kind == "worker"} == {
        "edge-0",
        "edge-h3",
    }
    assert all(target.process.endswith("/edge-0") for target in found if target.kind == "writer")


def test_only_some_kinds() -> None:
    found = targets(Plan(kills=40, rate=1.0, kinds=("nats", "agent")), POPS)
    assert {target.kind for target in found} == {"nats", "agent"}
    assert len(found) == 40


@pytest.mark.parametrize(
    ("kind", "process", "pop", "began_s", "error", "cause"),
    [
        ("worker", "lhr/edge-0", "lhr", 99.9, "closed", "its own"),
        ("worker", "lhr/edge-0", "lhr", 100.1, "reset", "moved"),
        ("writer", "lhr/edge-0", "lhr", 99.0, "closed", "its own"),
        ("supervisor", "lhr/supervisor", "lhr", 101.0, "reset", "moved"),
        ("worker", "lhr/edge-0", "iad", 99.9, "closed", "unexplained"),  # nobody touched iad
        ("worker", "lhr/edge-0", "lhr", 100.1, "status 502", "unexplained"),  # who answers lives
        ("worker", "lhr/edge-h3", "lhr", 99.9, "closed", "unexplained"),  # it has no part in this
        ("writer", "iad/edge-0", "lhr", 99.9, "closed", "through it"),  # the shield was passing it on
        ("writer", "iad/edge-0", "lhr", 100.1, "closed", "unexplained"),
        ("agent", "lhr/agent", "lhr", 99.9, "closed", "unexplained"),
        ("nats", "nats", "lhr", 99.9, "closed", "unexplained"),
    ],
)
def test_a_failure_is_what_was_killed_or_it_is_unexplained(
    kind: Kind, process: str, pop: str, began_s: float, error: str, cause: Cause
) -> None:
    target = Target(kind, process.partition("/")[0] if "/" in process else "", process)
    failure = Failure(
        pop=pop, path="/x", began_s=began_s, failed_s=began_s + 0.2, error=error, unanswered=False
    )
    assert cause_of(failure, target, KILLED_S, "iad") == cause
