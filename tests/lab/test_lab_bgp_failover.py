"""The Internet of real routers: it chooses what the model says, and a PoP that leaves is taken over."""

from __future__ import annotations

import asyncio

import pytest

from atoll.errors import AtollError
from atoll.internet.world import default_world
from atoll.lab.bgp_failover import Answer, Driver, Options, noticed, run, summed
from atoll.lab.router_plan import Timers, configuration, plan


def answers(*found: tuple[int, str]) -> list[Answer]:
    """Probe n is sent at n × 2 ms and answered 1 ms later."""
    return [Answer(number, number * 0.002, number * 0.002 + 0.001, site) for number, site in found]


def test_an_outage_is_what_lies_between_answers_with_losses_in_between() -> None:
    found = noticed(
        "silent", 0, "london", answers((0, "lhr"), (1, "lhr"), (50, "iad"), (51, "iad")), 52, 0.003, "lhr"
    )
    assert found.outage_ms == 96.0  # 49 intervals of 2 ms, less the one that there always is
    assert found.lost == 48
    assert found.switched_ms == 98.0
    assert found.taken_over_by == "iad"


def test_a_prober_that_was_late_itself_has_no_outage() -> None:
    late = [Answer(0, 0.0, 0.001, "lhr"), Answer(1, 0.5, 0.501, "iad")]
    found = noticed("withdraw", 0, "london", late, 2, 0.1, "lhr")
    assert (found.outage_ms, found.lost) == (0.0, 0)


def test_users_whom_nobody_takes_over_are_counted() -> None:
    found = noticed("silent", 0, "london", answers((0, "lhr")), 100, 0.001, "lhr")
    assert found.switched_ms is None
    assert summed("exabgp", "silent", [found]).unserved == 1


def test_every_link_is_seen_from_both_ends() -> None:
    graph = default_world().graph
    routers = plan(graph, {5089: ("198.18.3.0/24",)})
    opposite = {"peer": "peer", "customer": "provider", "provider": "customer"}
    ends = {(asn, side.asn): side for asn, router in routers.items() for side in router.sides}
    assert len(ends) == 2 * len(graph.links)
    for (one, other), side in ends.items():
        back = ends[other, one]
        assert (side.local, side.remote) == (back.remote, back.local)
        assert back.relation == opposite[side.relation]
    ids = [router.router_id for _, router in sorted(routers.items())]
    assert ids == sorted(ids, key=lambda text: tuple(map(int, text.split("."))))
    text = configuration(routers[5089], Timers(), frozenset({64513}))
    assert "route 198.18.3.0/24 unreachable;" in text
    assert text.count("bfd on;") == 1


async def test_a_pop_that_is_not_there_is_refused() -> None:
    with pytest.raises(AtollError, match="no PoP 'xyz'"):
        await run(Options(pop="xyz"), print, lambda _what, _share: None)


@pytest.mark.real
@pytest.mark.timeout(180)
@pytest.mark.parametrize("driver", ["exabgp", "bird"])
def test_real_routers_choose_as_the_model_says_and_lose_nobody(driver: Driver) -> None:
    options = Options(trials=1, events=("withdraw", "kill", "silent"), driver=driver)
    found = asyncio.run(run(options, print, lambda _what, _share: None))
    assert found.as_the_model_says == found.routers == 59
    by_event = {each.event: each for each in found.summaries}
    assert all(each.unserved == 0 for each in found.summaries)
    # Far from the aims, since a machine may be busy: found by BFD, not by a hold timer of 90 s.
    assert by_event["silent"].outage_max_ms < 1500
    assert by_event["withdraw"].outage_max_ms < 500
    assert by_event["kill"].outage_max_ms < 500
