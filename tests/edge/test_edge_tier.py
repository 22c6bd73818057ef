"""Caches behind caches: one question per object for the origin, and none lost to a peer that is dead."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic

import msgspec
import pytest
from edge_ring import Ring, ring
from edge_world import Asked, page
from networks import pop

from atoll.config.purge import Selector
from atoll.config.spec import PoolSpec
from atoll.edge.tier import SIGN_S, shield_of

FIVE = (("sjc", 1), ("iad", 1), ("lhr", 1), ("sin", 1), ("nrt", 1))


async def stampede(net: Ring, count: int) -> Counter[bytes]:
    """`count` requests at once, spread over all workers; how often each body came."""
    names = list(net.workers)
    answers = await asyncio.gather(*(net.ask(names[i % len(names)], b"/cold") for i in range(count)))
    assert {answer.status for answer in answers} == {200}
    return Counter(answer.body for answer in answers)


async def test_a_stampede_of_all_pops_is_one_request_for_the_origin() -> None:
    async with ring(*FIVE, shield="iad") as net:
        net.origin.hold = asyncio.Event()
        net.origin.answer = lambda asked: page(b"x" * 10_000, b"max-age=60")
        asking = asyncio.ensure_future(stampede(net, 500))
        await net.origin.until_asked()
        await asyncio.sleep(0.3)  # nobody else may come while it waits
        net.origin.hold.set()
        assert await asking == {b"x" * 10_000: 500}
        assert len(net.origin.asked) == 1


async def test_workers_of_a_pop_ask_the_owner_of_a_key() -> None:
    async with ring(("lhr", 4)) as net:
        net.origin.answer = lambda asked: page(asked.target, b"max-age=60")
        targets = [b"/%d" % number for number in range(40)]
        for worker in net.workers:
            for target in targets:
                assert (await net.ask(worker, target)).body == target
        assert len(net.origin.asked) == len(targets)


async def test_what_comes_through_a_shield_is_as_old_as_it_is() -> None:
    async with ring(*FIVE, shield="iad") as net:
        net.origin.answer = lambda asked: page(b"x", b"max-age=60", b"Age: 30", b'ETag: "1"')
        await net.ask("iad/0", b"/a")
        far = await net.ask("nrt/0", b"/a")
        assert 30 <= int(far.field("age")) <= 32
        assert "atoll-iad; hit" in far.field("cache-status")
        assert "atoll-nrt; fwd=uri-miss" in far.field("cache-status")
        assert "atoll-purge-seq" not in {name for name, _ in far.fields}


@pytest.mark.parametrize("way", ["stopped", "hanging"])
async def test_a_dead_shield_is_left_out_within_its_time(way: str) -> None:
    async with ring(*FIVE, shield="iad") as net:
        net.origin.answer = lambda asked: page(b"x", b"max-age=60")
        if way == "stopped":
            net.workers.pop("iad/0").stop()
        else:
            net.workers["iad/0"].deafen()
        began_s = monotonic()
        assert (await net.ask("nrt/0", b"/a")).body == b"x"
        assert monotonic() - began_s < SIGN_S + 1.0
        began_s = monotonic()
        assert (await net.ask("nrt/0", b"/b")).body == b"x"
        assert monotonic() - began_s < SIGN_S  # it is not asked again at once


async def test_a_slow_origin_is_waited_for_through_a_shield() -> None:
    async with ring(*FIVE, shield="iad") as net:
        net.origin.hold = asyncio.Event()
        asking = asyncio.ensure_future(net.ask("nrt/0", b"/slow"))
        await net.origin.until_asked()
        await asyncio.sleep(2 * SIGN_S)
        net.origin.hold.set()
        assert (await asking).status == 200
        assert len(net.origin.asked) == 1


async def test_an_origin_that_fails_fails_for_those_behind_a_shield_too() -> None:
    async with ring(*FIVE, shield="iad") as net:
        net.origin.stop()
        answer = await net.ask("nrt/0", b"/a")
        assert answer.status == 502


async def test_an_answer_from_before_a_purge_is_not_kept_by_who_knows_better() -> None:
    async with ring(*FIVE, shield="iad") as net:
        body = [b"old"]
        net.origin.answer = lambda asked: page(body[0], b"max-age=600")
        await net.ask("iad/0", b"/a")
        body[0] = b"new"
        purge = Selector(kind="all")
        net.workers["nrt/0"].edge.store.apply_purge(7, purge)  # iad has not heard of it yet
        await net.ask("nrt/0", b"/a")
        net.workers["iad/0"].edge.store.apply_purge(7, purge)
        assert (await net.ask("nrt/0", b"/a")).body == b"new"
        assert (await net.ask("iad/0", b"/a")).body == b"new"


async def test_a_conditional_answer_of_a_peer_renews_what_is_stored() -> None:
    def answer(asked: Asked) -> bytes:
        return page(b"x", b"max-age=1, stale-while-revalidate=0", b'ETag: "1"')

    async with ring(("lhr", 1), ("nrt", 1), shield="lhr") as net:
        net.origin.answer = answer
        await net.ask("nrt/0", b"/a")
        await net.ask("lhr/0", b"/a", b"Cache-Control: no-cache")
        second = await net.ask("nrt/0", b"/a", b"Cache-Control: max-age=0")
        assert second.body == b"x"


def test_the_shield_is_the_pop_nearest_to_the_first_origin() -> None:
    places = {"us": (39.0, -77.4), "asia": (35.7, 139.7)}
    pops = (pop("lhr", 0), pop("iad", 1), pop("nrt", 2))
    where = [(51.5, -0.1), (39.0, -77.0), (35.7, 140.0)]
    near = [
        msgspec.structs.replace(spec, lat=lat, lon=lon) for spec, (lat, lon) in zip(pops, where, strict=True)
    ]
    named = PoolSpec(name="p", origins=("asia",), shield="lhr")
    auto = PoolSpec(name="p", origins=("asia", "us"), shield="auto")
    assert shield_of(named, places, tuple(near)) == "lhr"
    assert shield_of(auto, places, tuple(near)) == "nrt"
    assert shield_of(PoolSpec(name="p", origins=("us",)), places, tuple(near)) == ""
