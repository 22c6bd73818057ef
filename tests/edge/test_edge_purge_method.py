"""`PURGE` requests to an edge worker."""

from __future__ import annotations

import json

import pytest
from edge_world import World, get, page, world

from atoll.config.purge import Selector
from atoll.edge.purge_method import Done
from atoll.errors import RemoteError

__all__ = ["world"]

TOKEN = b"Authorization: Bearer secret"


class Network:
    def __init__(self) -> None:
        self.asked: list[tuple[Selector, ...]] = []

    async def __call__(self, selectors: tuple[Selector, ...], token: str) -> Done:
        if token != "secret":
            raise RemoteError("the token is not one that may purge", 401)
        self.asked.append(selectors)
        return Done(pops={"nrt": "applied"}, total_ms=1.5)


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ((), (Selector(kind="url", value="shop.test/a?b=1"),)),
        ((b"Soft-Purge: 1",), (Selector(kind="url", value="shop.test/a?b=1", soft=True),)),
        (
            (b"Surrogate-Key: one two",),
            (Selector(kind="tag", value="one"), Selector(kind="tag", value="two")),
        ),
        ((b"Cache-Tag: one", b"Fastly-Soft-Purge: 1"), (Selector(kind="tag", value="one", soft=True),)),
    ],
)
async def test_what_a_request_purges(
    world: World, fields: tuple[bytes, ...], meant: tuple[Selector, ...]
) -> None:
    network = world.edge.purge_method.carry_out = Network()
    answer = await world.ask(get(b"/a?b=1", TOKEN, *fields, method=b"PURGE"))
    assert answer.status == 200
    assert network.asked == [meant]
    assert json.loads(answer.body)["pops"] == {"nrt": "applied"}
    assert world.origin.asked == []


async def test_without_the_token_nothing_is_purged(world: World) -> None:
    network = world.edge.purge_method.carry_out = Network()
    for fields in ((), (b"Authorization: Basic secret",), (b"Authorization: Bearer wrong",)):
        answer = await world.ask(get(b"/a", *fields, method=b"PURGE"))
        assert (answer.status, answer.field("www-authenticate")) == (401, 'Bearer realm="purge"')
    assert network.asked == []


async def test_where_nobody_carries_it_out_it_is_the_origins(world: World) -> None:
    world.origin.answer = lambda asked: page(b"mine")
    assert (await world.ask(get(b"/a", TOKEN, method=b"PURGE"))).body == b"mine"
