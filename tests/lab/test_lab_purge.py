"""Purges judged from what users got, by table; the whole of it is run in tests/e2e."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from atoll.errors import AtollError
from atoll.lab.content import content
from atoll.lab.purge import KINDS, PATHS, PLAIN, STRICT, Partition, Plan, Trial, judge, orders, schedule
from atoll.lab.reader import Got
from atoll.lab.scene import HOST, Scene
from atoll.lab.watch import Ledger, Tally, Watch

PATH = f"{STRICT}/quick/0"
SCENE = Scene(gateway=("127.0.0.1", 1), origin=("127.0.0.1", 2), cities={"lhr": "london"}, shield="iad")


def test_every_kind_of_purge_selects_the_paths_it_names() -> None:
    for kind in KINDS:
        for order in orders(kind, 3):
            assert set(order.paths) <= set(PATHS)
            assert any(path.startswith(PLAIN) for path in PATHS)
    assert [order.value for order in orders("url", 7)] == [
        f"{HOST}{path}" for path in orders("tag", 7)[0].paths
    ]
    assert {path for order in orders("prefix", 0) for path in order.paths} == set(PATHS)
    assert orders("tag", 7)[0].paths == tuple(path for path in PATHS if path.endswith("/1"))


@pytest.mark.parametrize(
    ("trials", "partitioned", "where"),
    [
        (3, False, []),
        (2, True, [0, 1]),
        (3, True, [1, 2]),
        (12, True, [4, 5]),
        (50, True, [4, 14, 24, 34, 44]),
    ],
)
def test_two_of_ten_trials_are_in_a_partition(trials: int, partitioned: bool, where: list[int]) -> None:
    found = schedule(trials, partitioned)
    assert len(found) == trials
    lapses = [number for number, partition in enumerate(found) if partition == "lapses"]
    assert lapses == [number for number in where if found[number] == "lapses"]
    assert all(found[number + 1] == "gone" for number in lapses)
    assert bool(lapses) is partitioned


def test_one_trial_is_too_few_for_a_partition() -> None:
    with pytest.raises(AtollError, match="two trials"):
        schedule(1, True)


def test_a_floor_never_sinks() -> None:
    ledger = Ledger()
    assert ledger.floor(PATH) == (0, 0.0)
    ledger.acknowledged([(PATH, 2)], 10.0)
    ledger.acknowledged([(PATH, 1)], 11.0)  # an older purge whose word came later
    assert ledger.floor(PATH) == (2, 10.0)


# --- one answer


@pytest_asyncio.fixture
async def watch() -> AsyncIterator[Watch]:
    found = Watch(SCENE, Ledger(), lambda pop: PATH, lambda pop, path: False)
    yield found
    await found.stop()


def answer(status: int, body: bytes) -> Got:
    return Got(began_s=5.0, done_s=5.1, status=status, fields={b"cache-status": b"atoll-lhr; hit"}, body=body)


@pytest.mark.parametrize(
    ("got", "excused", "counts"),  # stale, excused, wrong
    [
        (answer(200, content(PATH, 3, 300)), False, (0, 0, 0)),
        (answer(200, content(PATH, 4, 300)), False, (0, 0, 0)),
        (answer(200, content(PATH, 2, 300)), False, (1, 0, 0)),
        (answer(200, content(PATH, 2, 300)), True, (0, 1, 0)),
        (answer(200, content("/other", 3, 300)), True, (0, 0, 1)),
        (answer(200, content(PATH, 3, 300)[:-1]), False, (0, 0, 1)),
        (answer(404, content(PATH, 3, 300)), False, (0, 0, 1)),
    ],
)
async def test_an_answer_is_as_new_as_what_was_acknowledged_before_the_question(
    watch: Watch, got: Got, excused: bool, counts: tuple[int, int, int]
) -> None:
    tally = Tally()
    watch.judge(tally, "lhr", PATH, got, (3, 4.5), excused)
    assert (tally.stale, tally.excused, tally.wrong) == counts
    assert tally.checked == 1
    assert len(tally.evidence) == tally.stale + tally.wrong
    if tally.stale:
        (found,) = tally.evidence
        assert (found.what, found.pop, found.version, found.wanted) == ("stale", "lhr", 2, 3)
        assert (found.since_ack_ms, found.cache_status) == (500.0, "atoll-lhr; hit")


async def test_an_answer_that_is_an_error_has_failed(watch: Watch) -> None:
    tally = Tally()
    watch.judge(tally, "lhr", PATH, answer(502, b"no"), (3, 4.5), False)
    assert (tally.stale, tally.wrong, dict(tally.errors)) == (0, 0, {"status 502": 1})


# --- all of them


def trial(partition: Partition, *acks_ms: float) -> Trial:
    return Trial(
        kind="tag", partition=partition, ack_ms=acks_ms, states={"applied": 5}, requests=10, checked=5,
        stale=0, excused=0, wrong=0, failed_requests=0, errors={},
    )  # fmt: skip


def tally(**counts: int) -> Tally:
    found = Tally()
    found.requests, found.checked = 100, 50
    for name, value in counts.items():
        setattr(found, name, value)
    return found


def test_acknowledgements_are_told_apart_by_partition() -> None:
    trials = [trial("", 10.0, 20.0), trial("lapses", 5400.0), trial("gone", 15.0), trial("", 12.0)]
    outcome = judge(Plan(trials=4, rate=10.0, partition="nrt"), trials, tally(excused=7), [30.0])
    assert outcome.ack_ms is not None
    assert (outcome.ack_ms.p50, outcome.ack_ms.max) == (12.0, 20.0)
    assert outcome.ack_lapsed_ms is not None
    assert outcome.ack_lapsed_ms.max == 5400.0
    assert outcome.catch_up_ms is not None
    assert outcome.ok


@pytest.mark.parametrize("fault", [{"stale": 1}, {"wrong": 1}, {"checked": 0}])
def test_one_old_answer_is_one_too_many(fault: dict[str, int]) -> None:
    assert not judge(Plan(trials=1, rate=1.0), [trial("", 1.0)], tally(**fault), []).ok


def test_a_failed_request_and_a_late_acknowledgement_are_too() -> None:
    failing = tally()
    failing.errors["closed"] = 1
    assert not judge(Plan(trials=1, rate=1.0), [trial("", 1.0)], failing, []).ok
    assert not judge(Plan(trials=2, rate=1.0), [trial("lapses", 6500.0)], tally(), []).ok
