"""Whom the response of one fetch is for when several wait for it: never for another user than whose it is."""

from __future__ import annotations

import asyncio

import pytest
from edge_world import Asked, Response, World, get, until, world

from atoll.edge.flight import identity

__all__ = ["world"]

ALICE, BOB = b"Cookie: session=alice", b"Cookie: session=bob"


def greeting(*fields: bytes) -> object:
    """An origin that greets whoever the cookie says, or the credentials."""

    def answer(asked: Asked) -> bytes:
        who = (
            asked.fields.get(b"cookie")
            or asked.fields.get(b"authorization")
            or asked.fields.get(b"x-api-key")
        )
        body = b"hello " + (who or b"stranger")
        lines = [b"HTTP/1.1 200 OK", b'ETag: "%d"' % hash(body), b"Content-Length: %d" % len(body), *fields]
        return b"\r\n".join(lines) + b"\r\n\r\n" + body

    return answer


async def at_once(world: World, *whose: tuple[bytes, ...]) -> list[Response]:
    """Several ask for the same page; the origin answers when all wait."""
    world.origin.hold = asyncio.Event()
    asking = [asyncio.ensure_future(world.ask(get(b"/account", *whose[0])))]
    await world.origin.until_asked()
    asking += [asyncio.ensure_future(world.ask(get(b"/account", *fields))) for fields in whose[1:]]
    await until(lambda: world.edge.counters.requests == len(whose))
    world.origin.hold.set()
    return await asyncio.gather(*asking)


@pytest.mark.parametrize(
    "said",
    [
        (),
        (b"Cache-Control: max-age=0",),
        (b"Cache-Control: no-cache",),
        (b"Cache-Control: no-cache, public",),
        (b"Cache-Control: max-age=0, must-revalidate",),
    ],
    ids=repr,
)
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((ALICE,), (BOB,)),
        ((ALICE,), ()),
        ((), (BOB,)),
        ((b"X-Api-Key: 1",), (b"X-Api-Key: 2",)),
    ],
    ids=repr,
)
async def test_what_was_never_fresh_is_for_nobody_else(
    world: World, said: tuple[bytes, ...], one: tuple[bytes, ...], other: tuple[bytes, ...]
) -> None:
    world.origin.answer = greeting(*said)  # type: ignore[assignment]
    answers = await at_once(world, one, other, one)
    for answer, whose in zip(answers, (one, other, one), strict=True):
        expected = whose[0].partition(b": ")[2] if whose else b"stranger"
        assert answer.body == b"hello " + expected


async def test_credentials_that_may_be_stored_are_asked_about_all_the_same(world: World) -> None:
    world.origin.answer = greeting(b"Cache-Control: max-age=0, must-revalidate")  # type: ignore[assignment]
    answers = await at_once(world, (b"Authorization: Basic YTo=",), (b"Authorization: Basic Yjo=",))
    assert [answer.body for answer in answers] == [b"hello Basic YTo=", b"hello Basic Yjo="]


async def test_one_users_requests_share_a_fetch(world: World) -> None:
    world.origin.answer = greeting(b"Cache-Control: max-age=0")  # type: ignore[assignment]
    other_browser = (ALICE, b"User-Agent: another", b"Referer: /elsewhere")
    answers = await at_once(world, (ALICE,), other_browser, (ALICE,))
    assert {answer.body for answer in answers} == {b"hello session=alice"}
    assert len(world.origin.asked) == 1


@pytest.mark.parametrize("said", [b"Cache-Control: max-age=60", b"Cache-Control: public, max-age=0"])
async def test_what_is_for_all_is_fetched_once(world: World, said: bytes) -> None:
    world.origin.answer = greeting(said)  # type: ignore[assignment]
    answers = await at_once(world, (ALICE,), (BOB,), ())
    assert {answer.body for answer in answers} == {b"hello session=alice"}
    assert len(world.origin.asked) == 1


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (b"Cache-Control: max-age=0", b"Cookie"),
        (b"Vary: Accept", b"Cookie"),
        (b"Cache-Control: max-age=60", b"Authorization"),
    ],
)
async def test_users_do_not_queue_for_each_others_pages(world: World, said: bytes, field: bytes) -> None:
    world.origin.answer = greeting(said)  # type: ignore[assignment]
    await at_once(world, (field + b": session=a",), (field + b": session=b",))
    asked = len(world.origin.asked)
    world.origin.hold = asyncio.Event()
    users = [
        asyncio.ensure_future(world.ask(get(b"/account", b"%b: session=%d" % (field, n)))) for n in range(8)
    ]
    await world.origin.until_asked(asked + 8)  # all at once: none of them waits for another's answer
    world.origin.hold.set()
    bodies = [answer.body for answer in await asyncio.gather(*users)]
    assert bodies == [b"hello session=%d" % n for n in range(8)]


def test_a_field_that_nobody_knows_may_say_who_asks() -> None:
    fields = [(b"user-agent", b"x"), (b"accept", b"*/*"), (b"sec-fetch-mode", b"cors"), (b"via", b"1.1 p")]
    assert identity(fields) == []
    assert identity([*fields, (b"x-session", b"1")]) == [(b"x-session", b"1")]
