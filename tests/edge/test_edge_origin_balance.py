"""Who is asked first, who is left out, and how much is asked again: the rules by themselves."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.origins import EjectionSpec, RetrySpec
from atoll.edge.balance import Balancer, warming
from atoll.edge.ejection import PassiveHealth, RetryBudget, may_eject


class Server(NamedTuple):
    """An origin to choose from."""

    name: str
    weight: int = 1


def first(balancer: Balancer, servers: list[Server], key: bytes = b"/", **weights: float) -> str:
    return balancer.order(servers, key, weights)[0].name


def test_the_nearest_is_always_first() -> None:
    servers = [Server("near", 1), Server("far", 100)]
    assert {first(Balancer("nearest"), servers, b"/%d" % number) for number in range(20)} == {"near"}


def test_weights_are_kept_exactly_and_smoothly() -> None:
    """The order that nginx documents for weights of 5, 1 and 1."""
    balancer, servers = Balancer("weighted"), [Server("a", 5), Server("b", 1), Server("c", 1)]
    assert "".join(first(balancer, servers) for _ in range(14)) == "aabacaa" * 2


@given(st.lists(st.integers(0, 20), min_size=2, max_size=6).filter(any))
def test_each_origin_gets_what_its_weight_says(weights: list[int]) -> None:
    balancer = Balancer("weighted")
    servers = [Server(str(number), weight) for number, weight in enumerate(weights)]
    counted = Counter(first(balancer, servers) for _ in range(sum(weights)))
    assert counted == {server.name: server.weight for server in servers if server.weight}


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6), st.sampled_from(["nearest", "weighted", "hash"]))
def test_everybody_is_in_the_order_once(weights: list[int], balance: str) -> None:
    servers = [Server(str(number), weight) for number, weight in enumerate(weights)]
    order = Balancer(balance).order(servers, b"/")  # type: ignore[arg-type]
    assert sorted(order) == sorted(servers)


def test_one_who_comes_back_is_not_owed_what_it_missed() -> None:
    balancer, a, b = Balancer("weighted"), Server("a"), Server("b")
    for _ in range(51):
        first(balancer, [a])
    assert Counter(first(balancer, [a, b]) for _ in range(10)) == {"a": 5, "b": 5}


def test_a_url_stays_with_its_origin_and_an_origin_that_leaves_moves_only_its_own() -> None:
    servers = [Server(name) for name in "abcde"]
    balancer = Balancer("hash")
    keys = [b"/%d" % number for number in range(2000)]
    before = {key: first(balancer, servers, key) for key in keys}
    after = {key: first(balancer, servers[1:], key) for key in keys}
    assert all(before[key] in (after[key], "a") for key in keys)
    assert all(300 < count < 500 for count in Counter(before.values()).values())


def test_urls_are_spread_by_weight() -> None:
    servers = [Server("a", 3), Server("b", 1), Server("none", 0)]
    counted = Counter(first(Balancer("hash"), servers, b"/%d" % number) for number in range(4000))
    assert 2850 < counted["a"] < 3150
    assert "none" not in counted


def test_one_that_has_just_recovered_gets_little_at_first() -> None:
    assert [warming(10, back_s, 20.0) for back_s in (0.0, 1.0, 10.0, 20.0, 99.0)] == [
        1.0,
        1.0,
        5.0,
        10.0,
        10.0,
    ]
    assert warming(10, 0.0, 0.0) == 10.0
    balancer, servers = Balancer("weighted"), [Server("old", 10), Server("new", 10)]
    counted = Counter(first(balancer, servers, new=1.0) for _ in range(110))
    assert counted == {"old": 100, "new": 10}


EJECT = EjectionSpec(failures=3, base_s=10.0, longest_s=60.0)


def test_some_failures_in_a_row_are_too_many() -> None:
    health = PassiveHealth()
    assert [health.failed(EJECT) for _ in range(2)] == [False, False]
    health.succeeded(0.0, EJECT)
    assert [health.failed(EJECT) for _ in range(3)] == [False, False, True]
    assert not PassiveHealth().failed(EjectionSpec(failures=0))


def test_it_stays_out_longer_each_time_and_a_good_while_is_remembered() -> None:
    health = PassiveHealth()
    assert [health.eject(0.0, EJECT) for _ in range(5)] == [10.0, 20.0, 40.0, 60.0, 60.0]
    assert health.out(59.0)
    assert not health.out(60.0)
    now_s = 60.0
    for _ in range(5):
        now_s += 10_000
        health.succeeded(now_s, EJECT)
    assert health.eject(now_s, EJECT) == 10.0


def test_to_be_forgiven_is_not_to_come_back_anew() -> None:
    health = PassiveHealth()
    health.eject(0.0, EJECT)
    health.succeeded(10_000.0, EJECT)
    back_for_s = 10_000.0 - health.until_s
    assert warming(10, back_for_s, 30.0) == 10.0  # its whole weight, as before
    assert health.eject(10_000.0, EJECT) == 10.0  # and it has been forgiven


@pytest.mark.parametrize(
    ("out", "left", "may"),
    [(0, 1, False), (0, 2, True), (1, 1, False), (0, 3, True), (1, 2, False), (1, 3, True), (2, 2, False)],
)
def test_enough_of_a_pool_is_left(out: int, left: int, may: bool) -> None:
    assert may_eject(out, left, EJECT) is may


@given(st.floats(0, 1), st.integers(1, 500))
def test_retries_are_a_share_of_the_requests(share: float, requests: int) -> None:
    budget = RetryBudget(RetrySpec(share=share, floor_per_s=0.0), 0.0)
    retries = 0
    for _ in range(requests):
        budget.request(0.0)
        retries += budget.take()
    assert requests * share - 1.001 <= retries <= requests * share + 0.001


def test_a_quiet_pool_may_retry_a_little_all_the_same() -> None:
    budget = RetryBudget(RetrySpec(share=0.0, floor_per_s=2.0), 0.0)
    while budget.take():
        pass
    budget.request(0.4)
    assert not budget.take()
    budget.request(0.5)
    assert budget.take()
    budget.request(1000.0)
    assert sum(budget.take() for _ in range(100)) == 20
