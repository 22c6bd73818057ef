"""Pooled connections to origins that are slow, broken or endless, and callers that are slow themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from edge_world import Asked, Server, get, page

from atoll.errors import RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.limits import Limits
from atoll.http.upstream import ResponseReader, UpstreamPool, fetch, render_request

LONG_S = 60.0  # more than a test may take
SHORT_S = 0.15


class Origin(Server):
    """An origin, and the pool of connections to it."""

    pool: UpstreamPool

    async def fetch(
        self,
        target: bytes,
        body: RequestBody | None = None,
        method: bytes = b"GET",
        timeout_s: float = LONG_S,
    ) -> ResponseReader:
        return await fetch(self.pool, render_request(method, target, b"h", [], body), body, timeout_s)

    async def time_out(self) -> None:
        """Let so much time pass that a call of `SHORT_S` has certainly been given up."""
        with pytest.raises(RemoteError) as raised:
            await self.fetch(b"/silence", timeout_s=2 * SHORT_S)
        assert raised.value.status == 504


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    origin = Origin()
    await origin.start()
    origin.pool = UpstreamPool(("127.0.0.1", origin.port))
    yield origin
    origin.pool.close()
    origin.stop()


class Slow(ResponseReader):
    """A call whose client takes one piece at a time: it is paused at each, the last one too."""

    def data(self, data: bytes) -> None:
        super().data(data)
        self.pause()

    async def read(self) -> bytes:
        data = await super().read()
        self.resume()
        return data


@pytest.mark.parametrize("size", [10, 300_000, 600_000])
async def test_a_connection_that_was_paused_at_the_end_hears_the_next_answer(
    origin: Origin, size: int
) -> None:
    origin.answer = lambda asked: page(b"x" * size)
    slow = Slow(origin.pool, get(b"/"), None, LONG_S)
    origin.pool.start(slow)
    async with asyncio.timeout(5):
        await slow.wait_head()
        assert len(await slow.read_all(size)) == size
        answer = await origin.fetch(b"/next")
        assert len(await answer.read_all(size)) == size


async def held_back(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Nothing for /silence; a large body for everything else, once the request is complete."""
    if asked.target == b"/silence":
        await asyncio.Event().wait()
    if b"transfer-encoding" in asked.fields:
        await reader.readuntil(b"0\r\n\r\n")
    writer.write(page(b"z" * 2_000_000))
    await writer.drain()


async def test_a_client_that_reads_slowly_is_not_the_origin_s_timeout(origin: Origin) -> None:
    origin.converse = held_back
    answer = await origin.fetch(b"/large", timeout_s=SHORT_S)
    await origin.time_out()
    assert len(await answer.read_all(3_000_000)) == 2_000_000


async def test_a_client_that_sends_slowly_is_not_the_origin_s_timeout(origin: Origin) -> None:
    origin.converse = held_back
    body = RequestBody()
    waiting = asyncio.ensure_future(origin.fetch(b"/upload", body, b"POST", timeout_s=SHORT_S))
    await origin.until_asked()
    for _ in range(2):
        body.feed(b"piece")
        await origin.time_out()
    body.end()
    answer = await waiting
    assert len(await answer.read_all(3_000_000)) == 2_000_000


async def test_an_origin_that_is_silent_after_the_whole_upload_times_out(origin: Origin) -> None:
    origin.converse = held_back
    body = RequestBody()
    body.feed(b"all of it")
    body.end()
    with pytest.raises(RemoteError) as raised:
        await origin.fetch(b"/silence", body, b"POST", timeout_s=SHORT_S)
    assert raised.value.status == 504


async def hang_up(_asked: Asked, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close instead of answering."""


@pytest.mark.parametrize(("method", "times"), [(b"POST", 1), (b"PATCH", 1), (b"GET", 2), (b"PUT", 2)])
async def test_only_what_may_be_repeated_is_repeated(origin: Origin, method: bytes, times: int) -> None:
    await (await origin.fetch(b"/warm")).read_all(100)
    origin.converse = hang_up
    origin.asked.clear()
    with pytest.raises(RemoteError) as raised:
        await origin.fetch(b"/pay", method=method)
    assert raised.value.status == 502
    assert len(origin.asked) == times


@pytest.mark.parametrize("status", [b"099", b"600", b"999"])
async def test_a_status_that_is_none_is_a_broken_response(origin: Origin, status: bytes) -> None:
    origin.answer = lambda asked: page(b"x", status=status + b" X")
    with pytest.raises(RemoteError) as raised:
        await origin.fetch(b"/")
    assert raised.value.status == 502


ENDLESS = {
    "a field's value": (b"HTTP/1.1 200 OK\r\nX: ", b"t" * 65_536),
    "fields": (b"HTTP/1.1 200 OK\r\n", b"X: t\r\n" * 10_000),
    "a field's name": (b"HTTP/1.1 200 OK\r\n", b"t" * 65_536),
    "a reason": (b"HTTP/1.1 200 ", b"t" * 65_536),
    "interim responses": (b"", b"HTTP/1.1 103 Hints\r\nX: t\r\n\r\n" * 2_000),
    "a chunk's extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"t" * 65_536),
    "a trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"t" * 65_536),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_an_endless_response_head_is_cut_off(origin: Origin, what: str) -> None:
    start, piece = ENDLESS[what]
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def converse(_asked: Asked, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = 0
        try:
            writer.write(start)
            while pieces < 400:
                writer.write(piece)
                await writer.drain()
                pieces += 1
        finally:
            sent.set_result(pieces * len(piece))

    origin.converse = converse
    with pytest.raises(RemoteError) as raised:
        await (await origin.fetch(b"/")).read_all(1000)
    assert raised.value.status == 502
    assert await asyncio.wait_for(sent, 5) < 10_000_000  # most of it in the kernel's buffers


async def test_an_upload_that_nobody_reads_makes_its_client_wait(origin: Origin) -> None:
    never = asyncio.Event()

    async def converse(_asked: Asked, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await never.wait()

    origin.converse = converse
    body = RequestBody()
    waiting = asyncio.ensure_future(origin.fetch(b"/upload", body, b"POST"))
    await origin.until_asked()
    while not body.full(Limits().buffered):
        assert body.received < 16_000_000
        body.feed(b"u" * 65_536)
        await asyncio.sleep(0)  # the kernel takes what it has room for
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await waiting


async def test_a_response_whose_body_nobody_asked_for_ends_the_connection(origin: Origin) -> None:
    origin.answer = lambda asked: page(b"first") + page(b"surplus")[:-9]
    assert await (await origin.fetch(b"/1")).read_all(100) == b"first"
    origin.answer = lambda asked: page(b"second")
    assert await (await origin.fetch(b"/2")).read_all(100) == b"second"
