"""What one client says never decides what another one gets: poisoning, deception, errors kept for all.

Each case is an attack and an innocent user behind it, who must get what the attack did not touch.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import pytest
from edge_world import HOST, ROUTES, World, get, page, read_response, world
from poisoning_cases import CASES, FRESH, GOOD, PATHS, Case

from atoll.config.spec import SiteSpec

__all__ = ["world"]


async def attack(world: World, raw: bytes) -> None:
    """Send it and wait for whatever becomes of it."""
    reader, writer = await world.connect()
    writer.write(raw)
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        await read_response(reader, head=raw.startswith(b"HEAD"))
    writer.close()


def test_there_are_many_cases_of_many_names() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert len(CASES) + len(PATHS) >= 60


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_an_attack_leaves_nothing_for_others(world: World, case: Case) -> None:
    world.origin.answer = case.answer
    for raw in case.attack:
        await attack(world, raw)
    for _ in range(2):
        answer = await world.ask(case.innocent)
        assert (answer.status, answer.body) == (200, case.expected)
        assert not answer.all("set-cookie")


@pytest.mark.parametrize(("spelled", "meant"), PATHS, ids=[f"{a!r} for {b!r}" for a, b in PATHS])
async def test_a_path_is_what_it_says(world: World, spelled: bytes, meant: bytes) -> None:
    """Origin and key see the same bytes: nobody gets under one spelling what was stored under another."""
    world.origin.answer = lambda asked: page(b"for " + asked.target, FRESH)
    first = await world.ask(get(spelled))
    second = await world.ask(get(meant))
    assert (first.status, second.status) == (200, 200)
    assert (first.body, second.body) == (b"for " + spelled, b"for " + meant)
    assert [asked.target for asked in world.origin.asked] == [spelled, meant]
    assert (await world.ask(get(spelled))).body == b"for " + spelled
    assert len(world.origin.asked) == 2


@pytest.mark.parametrize(
    "target", [b"/a#x", b"/a\xe9", b"/a b", b"/a\x7f", b"a", b"/a\tb", b"http://shop.test@evil/a", b"*"]
)
async def test_what_is_no_target_reaches_nobody(world: World, target: bytes) -> None:
    assert (await world.ask(get(target))).status in (400, 404)
    assert not world.origin.asked


# --- hosts

HOSTS: Final = [
    get(b"/a", host=b"SHOP.test"),
    get(b"/a", host=b"shop.test:80"),
    get(b"/a", host=b"shop.test:1234"),
    get(b"/a", host=b"shop.test:"),
    get(b"/a", host=b"shop.test."),
    get(b"http://shop.test/a", host=b"evil.test"),
    get(b"http://SHOP.test:80/a", host=b"evil.test"),
]


@pytest.mark.parametrize("raw", HOSTS, ids=repr)
async def test_every_spelling_of_a_host_is_the_site_for_the_origin(world: World, raw: bytes) -> None:
    """The origin builds links from the host that it is told: that is the site's own, whatever was asked."""
    world.origin.answer = lambda asked: page(
        asked.fields[b"host"] + b" " + asked.fields.get(b"x-forwarded-host", b""), FRESH
    )
    assert (await world.ask(raw)).body == b"shop.test shop.test"
    assert (await world.ask(get(b"/a"))).body == b"shop.test shop.test"


@pytest.mark.parametrize(
    "raw",
    [
        get(b"/a", host=b"evil.test"),
        get(b"http://evil.test/a"),
        get(b"/a", b"Host: evil.test"),
        get(b"/a", host=b"evil.test\r\nHost: shop.test"),
        get(b"/a", host=b"shop.test@evil.test"),
        get(b"/a", host=b"shop.test/evil"),
        get(b"/a", host=b"shop.test, evil.test"),
        get(b"/a", host=b"shop.test evil.test"),
        get(b"/a", host=b"shop.test:evil"),
        get(b"/a", host=b"shop.test:80@evil"),
        get(b"/a", host=b"shop.test.."),
        b"GET /a HTTP/1.1\r\nHost : evil.test\r\n\r\n",
        b"GET /a HTTP/1.1\r\n Host: evil.test\r\nHost: shop.test\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
    ],
    ids=repr,
)
async def test_another_host_never_reaches_the_site(world: World, raw: bytes) -> None:
    world.origin.answer = lambda asked: page(b"evil" if asked.fields[b"host"] != HOST else GOOD, FRESH)
    await attack(world, raw)
    assert not world.origin.asked
    answer = await world.ask(get(b"/a"))
    assert (answer.status, answer.body) == (200, GOOD)


async def test_a_site_for_every_host_stores_each_by_itself(world: World) -> None:
    world.edge.apply(world.snapshot(2, SiteSpec(name="all", host="*", routes=ROUTES)))
    world.origin.answer = lambda asked: page(asked.fields[b"host"], FRESH)
    assert (await world.ask(get(b"/a", host=b"evil.test"))).body == b"evil.test"
    assert (await world.ask(get(b"/a", host=b"other.test"))).body == b"other.test"
    assert (await world.ask(get(b"/a"))).body == b"shop.test"
