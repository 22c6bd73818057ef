"""A reader that hides nothing: every way in which an answer can fail to come has a name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from atoll.lab.reader import Got, Reader

Script = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers each request as its script says."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.connections = 0
        self.script: Script = ok

    async def start(self) -> tuple[str, int]:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]
        return address

    def stop(self) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                await self.script(self.heads[-1], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def ok(head: bytes, writer: asyncio.StreamWriter) -> None:
    body = head.split(b" ")[1]
    writer.write(b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


def says(raw: bytes, *, close: bool = False) -> Script:
    async def script(_head: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        if close:
            writer.close()

    return script


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Server, Reader]]:
    server = Server()
    reader = Reader(await server.start(), b"lab.test", timeout_s=0.3)
    yield server, reader
    reader.close()
    server.stop()


World = tuple[Server, Reader]


async def test_one_connection_carries_one_request_after_the_other(server: World) -> None:
    origin, reader = server
    first, second = await reader.get("/a", [(b"Range", b"bytes=0-1")]), await reader.get("/b")
    assert (first.status, first.body, first.text(b"x-one"), second.body) == (200, b"/a", "1", b"/b")
    assert origin.connections == 1
    assert origin.heads[0] == b"GET /a HTTP/1.1\r\nHost: lab.test\r\nRange: bytes=0-1\r\n\r\n"
    assert first.began_s < first.done_s <= second.began_s


async def test_requests_at_the_same_time_have_connections_of_their_own(server: World) -> None:
    origin, reader = server
    await reader.connect(2)
    bodies = [got.body for got in await asyncio.gather(*(reader.get(f"/{i}") for i in range(5)))]
    assert bodies == [b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert origin.connections == 5


async def test_an_interim_response_is_not_the_answer(server: World) -> None:
    origin, reader = server
    origin.script = says(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\nX-Two: 2\r\n\r\n"
    )
    got = await reader.get("/a")
    assert (got.status, got.body, got.text(b"link"), got.text(b"x-two")) == (204, b"", "", "2")


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", close=True), "closed"),
        (says(b"", close=True), "closed"),
        (says(b"nonsense\r\n\r\n"), "not HTTP"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), "no answer in time"),
    ],
)
async def test_what_fails_says_how_and_is_tried_again_only_where_asked_to(
    server: World, script: Script, error: str
) -> None:
    origin, reader = server
    origin.script = script
    got = await reader.get("/a")
    assert got.error.startswith(error)
    assert got.done_s > got.began_s
    asked = len(origin.heads)
    tries = await reader.get_again("/a", tries=3)
    assert len(origin.heads) == asked + 3 == asked + len(tries)
    assert all(got.error.startswith(error) for got in tries)


async def test_who_has_an_answer_asks_no_more(server: World) -> None:
    origin, reader = server
    assert [got.body for got in await reader.get_again("/a", tries=3)] == [b"/a"]
    assert len(origin.heads) == 1


async def test_a_connection_that_has_ended_is_not_used_again(server: World) -> None:
    origin, reader = server
    origin.script = says(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    assert [(await reader.get("/a")).status for _ in range(2)] == [200, 200]
    assert origin.connections == 2


async def test_nobody_listens() -> None:
    reader = Reader(("127.0.0.1", 1), b"lab.test")
    assert "refused" in (await reader.get("/a")).error.lower()


def test_times_are_of_the_question() -> None:
    assert Got(began_s=1.0, done_s=1.25).took_ms == 250.0
