"""Long content costs nobody else his turn, and is found wherever it is kept."""

from __future__ import annotations

import asyncio

from edge_world import Asked, get, page, running

from atoll.cache.edge_origin import EdgeOriginCache, HttpOrigin
from atoll.cache.store import Entry
from atoll.edge.answer import plan
from atoll.edge.keeping import stale_from
from atoll.edge.serving import BLOCK, InMemory, as_it_comes
from atoll.http.cache_control import NO_DIRECTIVES

MEBI = 1024 * 1024


class Swift:
    """A client as fast as memory is: it never holds up who writes to it."""

    gone = False

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def start(self, status: int, headers: object, length: int | None) -> None:
        assert status == 200

    def write(self, data: bytes) -> None:
        self.sizes.append(len(data))

    def finish(self, trailers: object = None) -> None: ...

    def congested(self) -> bool:
        return False


async def test_a_client_as_fast_as_memory_leaves_others_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    body = bytes(16 * MEBI)
    stream, beside = Swift(), asyncio.ensure_future(others())
    planned = plan(b"GET", [], 200, [], len(body), b"")
    size = await as_it_comes(stream, planned, [], InMemory(body))  # type: ignore[arg-type]
    beside.cancel()
    assert size == len(body) == sum(stream.sizes)
    assert turns >= len(body) // BLOCK - 1


async def test_a_function_finds_what_is_too_long_for_memory() -> None:
    body = bytes(range(256)) * 8192  # 2 MiB
    head = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nContent-Length: %d\r\n\r\n" % len(body)
    owner = (b"Atoll-Function: default/fn/1", b"Atoll-Service: cache", b"Atoll-Scheme: https")
    async with running(store_bytes=4 * MEBI, disk_bytes=256 * MEBI) as world:
        length = b"Content-Length: %d" % (len(head) + len(body))
        put = get(b"/a", *owner, length, method=b"PUT") + head + body
        assert (await world.ask_bindings(put)).status == 204
        found = await world.ask_bindings(get(b"/a", *owner))
        assert (found.status, found.field("cf-cache-status")) == (200, "HIT")
        assert found.body == body


async def test_an_origin_that_says_json_and_sends_none_has_failed() -> None:
    def answer(asked: Asked) -> bytes:
        return page(b"{", b"no-store", b"Content-Type: application/json")

    async with running() as world:
        world.origin.answer = answer
        fetch = HttpOrigin(f"http://127.0.0.1:{world.origin.port}")
        assert (await EdgeOriginCache("node", fetch=fetch).get("key")).source == "failed"


class Prepared:
    """What has been made of an entry."""

    released = 0

    def release(self) -> None:
        self.released += 1


def test_what_was_made_of_an_entry_goes_with_that_one() -> None:
    entry = Entry(
        status=200,
        headers=[],
        body=b"x",
        request_time_s=0.0,
        response_time_s=0.0,
        date_s=0.0,
        lifetime_s=60.0,
        initial_age_s=0.0,
        cc=NO_DIRECTIVES,
        vary=(),
    )
    prepared = Prepared()
    entry.tell(prepared)
    ended = stale_from(entry, 1.0)
    entry.leave()
    ended.leave()
    assert prepared.released == 1
