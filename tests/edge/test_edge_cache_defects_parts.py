"""Parts of a representation are never taken for the whole, and never promise more than is there."""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from time import time

import pytest
from edge_world import Asked, World, get, page, running, settled, until, world

from atoll.config.spec import RouteSpec

__all__ = ["world"]

BODY = b"0123456789" * 10
PART = b"206 Partial Content"


def part_of_body(asked: Asked, cache: bytes = b"max-age=60", *fields: bytes) -> bytes:
    """What an origin answers that knows ranges."""
    wanted = asked.fields.get(b"range")
    if wanted is None:
        return page(BODY, cache, *fields)
    first, last = wanted.removeprefix(b"bytes=").split(b"-")
    piece = BODY[int(first) : int(last or b"99") + 1]
    where = b"Content-Range: bytes %b-%d/%d" % (first, int(first) + len(piece) - 1, len(BODY))
    return page(piece, cache, where, *fields, status=PART)


@pytest.mark.parametrize("renewal", ["behind", "ahead"])
async def test_parts_that_are_renewed_behind_stay_parts(renewal: str) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.fields.get(b"if-none-match"):
            return page(b"", b"max-age=600", b'ETag: "1"', status=b"304 Not Modified")
        cache = b"max-age=0, stale-while-revalidate=600" if renewal == "behind" else b"max-age=30"
        return part_of_body(asked, cache, b'ETag: "1"')

    async with running() as world:
        ahead = 60 if renewal == "ahead" else 0
        world.edge.apply(
            world.snapshot(2, routes=(RouteSpec(path="/*", pool="shop", refresh_ahead_s=ahead),))
        )
        world.origin.answer = answer
        for _ in range(2):
            assert (await world.ask(get(b"/a", b"Range: bytes=0-4"))).body == BODY[:5]
        await settled(lambda: len(world.origin.asked))
        whole = await world.ask(get(b"/a"))
        assert (whole.status, whole.body) == (200, BODY)
        assert (await world.ask(get(b"/a", b"Range: bytes=0-4"))).body == BODY[:5]


async def test_a_part_of_something_of_unknown_length_is_no_whole(world: World) -> None:
    where = b"Content-Range: bytes 0-4/*"
    world.origin.answer = lambda asked: page(BODY[:5], b"max-age=60", where, b'ETag: "1"', status=PART)
    answer = await world.ask(get(b"/a", b"Range: bytes=0-4"))
    assert (answer.status, answer.body) == (206, BODY[:5])
    assert answer.field("content-range") == "bytes 0-4/*"


async def test_a_part_is_passed_on_as_it_is_when_it_is_not_what_was_asked_for(world: World) -> None:
    where = b"Content-Range: bytes 0-49/100"
    world.origin.answer = lambda asked: page(BODY[:50], b"max-age=60", where, b'ETag: "1"', status=PART)
    answer = await world.ask(get(b"/a", b"Range: bytes=0-99"))
    assert (answer.status, answer.body) == (206, BODY[:50])
    assert answer.field("content-range") == "bytes 0-49/100"


async def test_a_part_longer_than_it_says_is_not_kept(world: World) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.fields.get(b"range") == b"bytes=0-4":
            where = b"Content-Range: bytes 0-4/100"
            return page(BODY[:5] + b"x" * 5, b"max-age=60", where, b'ETag: "1"', status=PART)
        return part_of_body(asked, b"max-age=60", b'ETag: "1"')

    world.origin.answer = answer
    await world.ask(get(b"/a", b"Range: bytes=0-4"))
    assert (await world.ask(get(b"/a", b"Range: bytes=5-9"))).body == BODY[5:10]


async def test_a_range_by_a_date_that_only_the_origin_trusts_is_one(world: World) -> None:
    """`If-Range` with a date that is as new as the response: the origin may know that it holds."""
    date = formatdate(time(), usegmt=True).encode()
    fields = (b"Last-Modified: " + date, b"Date: " + date)
    world.origin.answer = lambda asked: part_of_body(asked, b"max-age=60", *fields)
    answer = await world.ask(get(b"/a", b"Range: bytes=0-4", b"If-Range: " + date))
    assert (answer.status, answer.body) == (206, BODY[:5])


async def test_requests_for_the_same_range_at_once_are_one(world: World) -> None:
    world.origin.answer = lambda asked: part_of_body(asked, b"max-age=60", b'ETag: "1"')
    world.origin.hold = asyncio.Event()
    asking = [asyncio.ensure_future(world.ask(get(b"/a", b"Range: bytes=0-4"))) for _ in range(5)]
    await until(lambda: world.edge.stats(0).requests == 5)
    world.origin.hold.set()
    assert {answer.body for answer in await asyncio.gather(*asking)} == {BODY[:5]}
    assert len(world.origin.asked) == 1


@pytest.mark.parametrize("wanted", [b"bytes=1000-", b"bytes=-0"])
async def test_a_range_that_does_not_exist_takes_nothing_from_others(world: World, wanted: bytes) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.fields.get(b"range"):
            where = b"Content-Range: bytes */100"
            return page(b"", b"no-store", where, status=b"416 Range Not Satisfiable")
        return page(BODY, b"max-age=60", b'ETag: "1"', b"Vary: X-Lang")

    world.origin.answer = answer
    await world.ask(get(b"/a", b"X-Lang: de"))
    assert (await world.ask(get(b"/a", b"X-Lang: fr", b"Range: " + wanted))).status == 416
    assert "hit" in (await world.ask(get(b"/a", b"X-Lang: de"))).field("cache-status")


@pytest.mark.parametrize("status", [b"400 Bad Request", b"431 Request Header Fields Too Large"])
async def test_a_request_that_the_origin_refuses_takes_nothing_from_others(
    world: World, status: bytes
) -> None:
    def answer(asked: Asked) -> bytes:
        if asked.fields.get(b"x-odd"):
            return page(b"what?", b"no-store", status=status)
        return page(BODY, b"max-age=60")

    world.origin.answer = answer
    await world.ask(get(b"/a"))
    assert (await world.ask(get(b"/a", b"X-Odd: 1", b"Cache-Control: no-cache"))).status >= 400
    assert "hit" in (await world.ask(get(b"/a"))).field("cache-status")


NEW = b'"2"'


@pytest.mark.parametrize("cache", [b"no-store", b"max-age=60", b"private, max-age=60"])
async def test_a_download_goes_on_only_with_what_it_began_with(world: World, cache: bytes) -> None:
    """`If-Match` beside `Range` (RFC 9110 §13.1.1): never the rest of another version."""
    world.origin.answer = lambda asked: part_of_body(asked, cache, b"ETag: " + NEW)
    answer = await world.ask(get(b"/a", b"Range: bytes=5-9", b'If-Match: "1"'))
    assert answer.status == 412
    assert BODY[5:10] not in answer.body


@pytest.mark.parametrize("cache", [b"no-store", b"private, max-age=60"])
async def test_who_has_it_already_is_told_so_though_it_is_not_stored(world: World, cache: bytes) -> None:
    world.origin.answer = lambda asked: page(BODY, cache, b"ETag: " + NEW)
    answer = await world.ask(get(b"/a", b"If-None-Match: " + NEW))
    assert (answer.status, answer.body) == (304, b"")
    assert answer.field("etag") == NEW.decode()
    assert (await world.ask(get(b"/a", b'If-None-Match: "1"'))).body == BODY
