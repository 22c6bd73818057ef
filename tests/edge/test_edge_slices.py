"""Large objects in slices, through a whole worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from edge_world import Asked, World, get, page, post, running

from atoll.config.purge import Selector
from atoll.config.spec import RouteSpec

SLICE = 64 * 1024
FILM = bytes(range(256)) * 1500  # 384,000 bytes: six slices, the last one short
CACHE = b"max-age=600"


class Films:
    """An origin with one film, in versions."""

    def __init__(self) -> None:
        self.version = 1
        self.ranges = True

    def __call__(self, asked: Asked) -> bytes:
        if asked.line.startswith(b"POST"):
            return page(b"ok")
        body = FILM if self.version == 1 else FILM[::-1]
        tag = b'ETag: "%d"' % self.version
        wanted = asked.fields.get(b"range")
        if wanted is None or not self.ranges:
            return page(body, CACHE, tag)
        first, last = wanted.removeprefix(b"bytes=").split(b"-")
        part = body[int(first) : int(last) + 1]
        field = b"Content-Range: bytes %s-%d/%d" % (first, int(first) + len(part) - 1, len(body))
        return page(part, CACHE, tag, field, status=b"206 Partial Content")


@pytest_asyncio.fixture
async def cinema() -> AsyncIterator[tuple[World, Films]]:
    async with running() as world:
        films = Films()
        world.origin.answer = films
        world.edge.apply(world.snapshot(2, routes=(RouteSpec(path="/*", pool="shop", slice_bytes=SLICE),)))
        yield world, films


def asked_ranges(world: World) -> list[bytes]:
    return [asked.fields.get(b"range", b"") for asked in world.origin.asked]


@pytest.mark.parametrize(
    ("wanted", "start", "end", "fetched"),
    [
        (b"bytes=0-0", 0, 1, {0}),
        (b"bytes=70000-70009", 70000, 70010, {1}),
        (b"bytes=65530-65545", 65530, 65546, {0, 1}),
        (b"bytes=100000-300000", 100000, 300001, {1, 2, 3, 4}),
        (b"bytes=380000-", 380000, 384000, {5}),
        (b"bytes=-10", 383990, 384000, {0, 5}),
        (b"bytes=0-", 0, 384000, {0, 1, 2, 3, 4, 5}),
    ],
)
async def test_a_range_costs_the_origin_its_slices_once(
    cinema: tuple[World, Films], wanted: bytes, start: int, end: int, fetched: set[int]
) -> None:
    world, _ = cinema
    for turn in range(2):
        answer = await world.ask(get(b"/film", b"Range: " + wanted))
        assert answer.status == 206
        assert answer.body == FILM[start:end]
        assert answer.field("content-range") == f"bytes {start}-{end - 1}/{len(FILM)}"
        assert ("hit" in answer.field("cache-status")) == bool(turn)
    expected = {b"bytes=%d-%d" % (i * SLICE, (i + 1) * SLICE - 1) for i in fetched}
    assert set(asked_ranges(world)) == expected
    assert len(world.origin.asked) == len(expected)


async def test_many_who_want_the_same_part_are_one_question_a_slice(cinema: tuple[World, Films]) -> None:
    world, _ = cinema
    world.origin.hold = asyncio.Event()
    asking = [asyncio.ensure_future(world.ask(get(b"/film", b"Range: bytes=0-99"))) for _ in range(20)]
    await world.origin.until_asked()
    await asyncio.sleep(0.05)
    world.origin.hold.set()
    answers = await asyncio.gather(*asking)
    assert {answer.body for answer in answers} == {FILM[:100]}
    assert len(world.origin.asked) == 1


async def test_beyond_the_end_is_416(cinema: tuple[World, Films]) -> None:
    world, _ = cinema
    await world.ask(get(b"/film", b"Range: bytes=0-9"))
    answer = await world.ask(get(b"/film", b"Range: bytes=-0"))
    assert answer.status in (200, 416)


async def test_versions_are_never_mixed(cinema: tuple[World, Films]) -> None:
    world, films = cinema
    await world.ask(get(b"/film", b"Range: bytes=0-9"))
    films.version = 2
    with pytest.raises(asyncio.IncompleteReadError):
        await world.ask(get(b"/film", b"Range: bytes=0-100000"))


async def test_a_purge_of_the_url_purges_its_slices(cinema: tuple[World, Films]) -> None:
    world, films = cinema
    await world.ask(get(b"/film", b"Range: bytes=0-200000"))
    films.version = 2
    world.edge.store.apply_purge(5, Selector(kind="url", value="shop.test/film"))
    answer = await world.ask(get(b"/film", b"Range: bytes=0-200000"))
    assert answer.body == FILM[::-1][:200001]


async def test_an_unsafe_request_invalidates_slices(cinema: tuple[World, Films]) -> None:
    world, films = cinema
    await world.ask(get(b"/film", b"Range: bytes=0-200000"))
    films.version = 2
    await world.ask(post(b"/film", b"new"))
    answer = await world.ask(get(b"/film", b"Range: bytes=0-200000"))
    assert answer.body == FILM[::-1][:200001]


async def test_an_origin_without_ranges_is_asked_for_the_whole(cinema: tuple[World, Films]) -> None:
    world, films = cinema
    films.ranges = False
    for _ in range(2):
        answer = await world.ask(get(b"/film", b"Range: bytes=5-9"))
        assert (answer.status, answer.body) == (206, FILM[5:10])
    assert (await world.ask(get(b"/film"))).body == FILM


async def test_a_request_for_the_whole_goes_the_usual_way(cinema: tuple[World, Films]) -> None:
    world, _ = cinema
    assert (await world.ask(get(b"/film"))).body == FILM
    answer = await world.ask(get(b"/film", b"Range: bytes=5-9"))
    assert (answer.status, answer.body) == (206, FILM[5:10])
    assert len(world.origin.asked) == 1
