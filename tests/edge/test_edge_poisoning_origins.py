"""What an origin says to one client is no part of what another one gets, at the same time or later."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest
from edge_world import ROUTES, Response, World, get, page, read_response, reset, running, until, world
from edge_world import Asked as Request
from poisoning_cases import FRESH, GOOD, VICTIM, personal

from atoll.config.spec import SiteSpec
from atoll.edge.keeping import Asked, Draft, Refused, judge, renewed
from atoll.http.limits import Limits

__all__ = ["world"]


@pytest.mark.parametrize(
    "field",
    [
        b"X: a\rSet-Cookie: evil=1",
        b"X: a\nSet-Cookie: evil=1",
        b"X: a\r\n Set-Cookie: evil=1",
        b"X: \0",
        b"X : evil",
        b"X\0: evil",
        b"Content-Length: 4\r\nContent-Length: 9",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: xchunked",
        b": evil",
    ],
    ids=repr,
)
async def test_an_answer_that_could_be_two_is_none(world: World, field: bytes) -> None:
    evil = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n" + field + b"\r\n\r\nevil"
    world.origin.answer = lambda asked: evil if len(world.origin.asked) == 1 else page(GOOD, FRESH)
    first = await world.ask(get(b"/a"))
    assert first.status == 502
    assert not first.all("set-cookie")
    assert (await world.ask(get(b"/a"))).body == GOOD


CHUNKED: Final = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
SURPLUS: Final = [
    page(b"first", FRESH) + page(b"evil", FRESH),
    page(b"first", FRESH) + b"HTTP/1.1 200 OK\r\n",
    page(b"first", FRESH) + b"evil",
    page(b"first", FRESH, length=3) + page(b"evil", FRESH),
    CHUNKED + b"5\r\nfirst\r\n0\r\n\r\n" + page(b"evil", FRESH),
    page(b"", FRESH, status=b"204 No Content", length=4) + page(b"evil", FRESH),
    b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + page(b"first", FRESH) + page(b"evil", FRESH),
]


@pytest.mark.parametrize("sent", SURPLUS, ids=range(len(SURPLUS)))
async def test_more_than_was_asked_for_answers_nobody(world: World, sent: bytes) -> None:
    world.origin.answer = lambda asked: sent if asked.target == b"/first" else page(GOOD, FRESH)
    reader, writer = await world.connect()
    writer.write(get(b"/first"))
    await reader.readuntil(b"\r\n\r\n")
    writer.close()
    for number in range(3):
        answer = await world.ask(get(b"/other/%d" % number))
        assert (answer.status, answer.body) == (200, GOOD)


HALF: Final = {
    "length": page(b"half of it", FRESH, length=100),
    "length, with a validator": page(b"half of it", FRESH, b'ETag: "a"', length=100),
    "chunks": CHUNKED + b"4\r\nhalf\r\n",
    "a chunk": CHUNKED + b"ff\r\nhalf",
    "trailers": CHUNKED + b"4\r\nhalf\r\n0\r\nX: y",
    "a bad chunk": CHUNKED + b"4\r\nhalf\r\nzz\r\n",
    "the head": b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Le",
    "a part of a part": page(
        b"half",
        FRESH,
        b"Content-Range: bytes 0-99/200",
        b'ETag: "a"',
        status=b"206 Partial Content",
        length=100,
    ),
}


@pytest.mark.parametrize("sent", HALF.values(), ids=[*HALF])
async def test_half_an_answer_is_never_stored_as_a_whole(world: World, sent: bytes) -> None:
    async def break_off(asked: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent if len(world.origin.asked) == 1 else page(GOOD, FRESH, b"Connection: close"))
        await writer.drain()

    world.origin.converse = break_off
    reader, writer = await world.connect()
    writer.write(get(b"/a"))
    data = await asyncio.wait_for(reader.read(), 5) if sent is not HALF["the head"] else b""
    writer.close()
    head, _, body = data.partition(b"\r\n\r\n")
    assert not body.endswith(b"0\r\n\r\n"), "the client must be able to tell"
    assert b"chunked" in head or b" 502 " in head or b"Content-Length: 100" in head or not head
    for _ in range(2):
        answer = await world.ask(get(b"/a"))
        assert (answer.status, answer.body) == (200, GOOD)


async def test_who_waits_for_half_an_answer_is_not_told_that_it_is_all(world: World) -> None:
    gate = asyncio.Event()

    async def break_off(asked: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(page(b"half of it", FRESH, length=100))
        await writer.drain()
        await gate.wait()

    world.origin.converse = break_off
    clients = [await world.connect() for _ in range(3)]
    for _, writer in clients:
        writer.write(get(b"/a"))
    heads = [await reader.readuntil(b"half of it") for reader, _ in clients]
    gate.set()
    for reader, writer in clients:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
    assert all(b"Content-Length: 100" in head for head in heads)


def test_who_has_a_response_confirmed_does_not_make_it_his_own() -> None:
    """Stored for all without a word of how long: a known user's validation renews it for all."""
    modified = (b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT")
    stranger = Asked(b"GET", [], b"http://h/", "t", 0.0, 0, 0)
    draft = judge(stranger, 200, [modified], 1.0)
    assert isinstance(draft, Draft)
    known = stranger._replace(headers=[(b"cookie", b"id=1")])
    assert isinstance(renewed(known, draft.entry(b""), [modified], 2.0), Draft)
    assert judge(known, 200, [modified], 1.0) == Refused("cookie", False, b"cookie")


# --- variants

VARY: Final = [
    (b"Accept-Encoding", b"gzip", b""),
    (b"Accept-Encoding", b"br;q=1", b"identity;q=1, *;q=0"),
    (b"Accept-Language", b"de", b"en"),
    (b"User-Agent", b"evil", b"good"),
    (b"Origin", b"https://evil.test", b"https://shop.test"),
    (b"Cookie", b"a=evil", b"a=good"),
    (b"X-Anything", b"evil", b""),
    (b"Accept", b"text/evil", b"text/html"),
    (b"Sec-Fetch-Dest", b"evil", b"document"),
    (b"X-Anything", b"a", b"a, a"),
    (b"X-Anything", b"A", b"a"),
]


@pytest.mark.parametrize(("name", "evil", "innocent"), VARY, ids=[f"{n!r} {e!r}" for n, e, _ in VARY])
async def test_what_varies_is_kept_apart(world: World, name: bytes, evil: bytes, innocent: bytes) -> None:
    world.origin.answer = lambda asked: page(
        b"for %b" % asked.fields.get(name.lower(), b"nobody"), FRESH, b"Vary: " + name
    )
    first = await world.ask(get(b"/a", b"%b: %b" % (name, evil)))
    second = await world.ask(get(b"/a", b"%b: %b" % (name, innocent)) if innocent else get(b"/a"))
    assert first.body != second.body
    assert len(world.origin.asked) == 2


async def test_a_vary_that_some_answers_leave_out_counts_for_them_alone(world: World) -> None:
    """What it answers to those who say nothing of a field is for them, and for nobody else."""
    world.origin.answer = lambda asked: (
        page(b"evil", FRESH, b"Vary: X-Flag")
        if b"x-flag" in asked.fields
        else page(GOOD, FRESH, b"Vary: X-Flag")
    )
    assert (await world.ask(get(b"/a", b"X-Flag: 1"))).body == b"evil"
    assert (await world.ask(get(b"/a"))).body == GOOD
    assert (await world.ask(get(b"/a", b"X-Flag: 1"))).body == b"evil"
    assert (await world.ask(get(b"/a"))).body == GOOD
    assert len(world.origin.asked) == 2


async def test_variants_without_end_do_not_push_others_out(world: World) -> None:
    """A client that makes up values of a varying field fills its own URL's place, not the cache."""
    world.origin.answer = lambda asked: page(GOOD * 100, FRESH, b"Vary: X-Anything")
    await world.ask(get(b"/other"))
    for number in range(300):
        await world.ask(get(b"/a", b"X-Anything: %d" % number))
    asked = len(world.origin.asked)
    assert (await world.ask(get(b"/other"))).body == GOOD * 100
    assert len(world.origin.asked) == asked


# --- at the same time


@pytest.mark.parametrize("cache", [b"private, max-age=60", b"no-store", b"max-age=60", b""])
async def test_who_waits_behind_a_victim_gets_an_answer_of_his_own(world: World, cache: bytes) -> None:
    """Requests for one key wait for the first: its answer is theirs only if it may be anybody's."""
    world.origin.hold = asyncio.Event()
    fields = (b"Set-Cookie: id=victim",) if cache == b"max-age=60" else ()
    world.origin.answer = personal(*fields, cache=cache)
    victim = asyncio.ensure_future(world.ask(VICTIM))
    await world.origin.until_asked()
    others = [asyncio.ensure_future(world.ask(get(b"/a"))) for _ in range(3)]
    await asyncio.sleep(0.02)
    world.origin.hold.set()
    assert (await victim).body == b"evil: the victim's"
    for other in others:
        answer: Response = await other
        assert answer.body == GOOD
        assert not answer.all("set-cookie")


async def test_an_attacker_who_leaves_takes_nobody_with_him(world: World) -> None:
    world.origin.hold = asyncio.Event()
    world.origin.answer = lambda asked: page(GOOD, FRESH)
    client = world.deaf_client()
    client.send(get(b"/a"))
    await world.origin.until_asked()
    waiting = asyncio.ensure_future(world.ask(get(b"/a")))
    await until(lambda: len(world.listener.connections) == 2)
    reset(client)
    await until(lambda: len(world.listener.connections) == 1)
    world.origin.hold.set()
    assert (await waiting).body == GOOD


async def test_only_if_cached_and_no_cache_of_a_client_change_nothing_for_others(world: World) -> None:
    world.origin.answer = lambda asked: page(b"%d" % len(world.origin.asked), FRESH)
    assert (await world.ask(get(b"/a", b"Cache-Control: only-if-cached"))).status == 504
    assert (await world.ask(get(b"/a"))).body == b"1"
    await world.ask(get(b"/a", b"Cache-Control: no-store"))
    await world.ask(get(b"/a", b"Cache-Control: max-age=0"))
    later = await world.ask(get(b"/a"))
    assert later.status == 200
    assert len(world.origin.asked) <= 3
    assert (await world.ask(get(b"/a"))).body == later.body


async def test_a_request_for_two_sites_is_for_the_one_it_names() -> None:
    """One connection, two hosts: what is stored belongs to the host of each request."""
    async with running(Limits()) as world:
        other = SiteSpec(name="other", host="other.test", routes=ROUTES)
        world.edge.apply(world.snapshot(2, other))
        world.origin.answer = lambda asked: page(asked.fields[b"host"], FRESH)
        reader, writer = await world.connect()
        writer.write(get(b"/a", host=b"other.test") + get(b"/a") + get(b"/a", host=b"other.test"))
        bodies = [(await read_response(reader)).body for _ in range(3)]
        writer.close()
        assert bodies == [b"other.test", b"shop.test", b"other.test"]
