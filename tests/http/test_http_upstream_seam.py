"""Interim responses, trailers, lengths and upgrades on the way to an origin and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from edge_world import Asked, Server, page, until

from atoll.errors import RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.upstream import (
    ResponseReader,
    Terms,
    UpstreamPool,
    fetch,
    render_request,
    render_upgrade,
)

LONG_S = 30.0
SOCKET = Terms(upgrade=b"websocket")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nX: y\r\n\r\n"


class Raw(Server):
    """An origin that keeps what it is sent after a request's head, and the pool of connections to it."""

    pool: UpstreamPool
    head = b""

    def says(self, *pieces: bytes, after: bytes = b"") -> None:
        """Answer with these bytes once `after` has come, then read on to the end."""

        async def converse(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.head = asked.line
            self.got = await reader.readuntil(after) if after else b""
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            while data := await reader.read(65536):
                self.got += data
            self.closed = True

        self.got, self.closed, self.converse = b"", False, converse


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Raw]:
    origin = Raw()
    await origin.start()
    origin.pool = UpstreamPool(("127.0.0.1", origin.port))
    yield origin
    origin.pool.close()
    origin.stop()


def body_of(*pieces: bytes, trailers: Headers | None = None) -> RequestBody:
    body = RequestBody()
    for piece in pieces:
        body.feed(piece)
    body.trailers = trailers or []
    body.end()
    return body


async def post(origin: Raw, body: RequestBody, headers: Headers, length: int | None = None) -> ResponseReader:
    request = render_request(b"POST", b"/", b"h", headers, body)
    return await fetch(origin.pool, request, body, LONG_S, terms=Terms(length=length))


async def test_interim_responses_are_passed_on_before_the_final_one(origin: Raw) -> None:
    origin.says(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: </a>\r\nConnection: x\r\nX: 1\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" + page(b"final"),
    )
    heard: list[tuple[int, Headers]] = []
    request = render_request(b"GET", b"/", b"h", [], None)

    def inform(status: int, headers: Headers) -> None:
        heard.append((status, headers))

    reader = await fetch(origin.pool, request, None, LONG_S, inform=inform)
    assert heard == [(103, [(b"link", b"</a>")]), (102, [])]
    assert (reader.status, await reader.read_all(100)) == (200, b"final")


async def test_trailers_come_with_the_end_and_not_into_the_head(origin: Raw) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\n"
    origin.says(chunked, b"X-Sum: 7\r\nAge: 9\r\nSet-Cookie: a\r\n\r\n")
    reader = await fetch(origin.pool, render_request(b"GET", b"/", b"h", [], None), None, LONG_S)
    assert reader.headers == []
    assert await reader.read_all(100) == b"ok"
    assert reader.trailers == [(b"x-sum", b"7")]


async def test_a_chunked_request_keeps_its_trailers(origin: Raw) -> None:
    origin.says(page(b""), after=b": 7\r\n\r\n")
    await post(origin, body_of(b"ab", b"c", trailers=[(b"x-sum", b"7")]), [])
    assert origin.got.lower() == b"2\r\nab\r\n1\r\nc\r\n0\r\nx-sum: 7\r\n\r\n"


async def test_a_body_of_known_length_is_sent_as_it_is(origin: Raw) -> None:
    origin.says(page(b""), after=b"abc")
    body = body_of(b"ab", b"c", trailers=[(b"x-sum", b"7")])
    await post(origin, body, [(b"content-length", b"3")], length=3)
    assert origin.got == b"abc"


@pytest.mark.parametrize("length", [2, 4])
async def test_a_body_of_another_length_than_was_said_reaches_nobody_as_whole(
    origin: Raw, length: int
) -> None:
    origin.says(page(b"taken"), after=b"never")
    with pytest.raises(RemoteError) as raised:
        await post(origin, body_of(b"ab", b"c"), [(b"content-length", b"%d" % length)], length=length)
    assert raised.value.status == 400
    assert not origin.pool.active


@pytest.mark.parametrize("value", [b"", b"-1", b"1, 1", b"1_0", b"9" * 40])
async def test_an_unclear_length_is_not_repeated(value: bytes) -> None:
    rendered = render_request(b"POST", b"/", b"h", [(b"content-length", value)], RequestBody())
    assert rendered.endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert b"ontent" not in rendered


async def upgrade(origin: Raw, body: RequestBody) -> ResponseReader:
    request = render_upgrade(b"/chat", b"h", [(b"sec-websocket-key", b"k")], b"websocket")
    return await fetch(origin.pool, request, body, LONG_S, terms=SOCKET)


async def test_after_101_bytes_pass_raw_both_ways(origin: Raw) -> None:
    origin.says(SWITCH + b"\x81\x01a", b"\x81\x01b")
    body = RequestBody()
    body.feed(b"early")  # before the origin has agreed: it waits
    reader = await upgrade(origin, body)
    assert (reader.status, reader.headers) == (101, [(b"x", b"y")])
    got = b""
    while len(got) < 6:
        got += await reader.read()
    assert got == b"\x81\x01a\x81\x01b"
    body.feed(b"0\r\n\r\nHTTP/1.1 ")
    await until(lambda: origin.got == b"early0\r\n\r\nHTTP/1.1 ")
    body.end()
    assert await reader.read() == b""  # the origin closes when the client has said all
    assert origin.closed
    assert not origin.pool.active


async def test_a_client_that_leaves_a_tunnel_closes_it(origin: Raw) -> None:
    origin.says(SWITCH)
    body = RequestBody()
    reader = await upgrade(origin, body)
    body.fail()
    with pytest.raises(RemoteError):
        await reader.read()
    await until(lambda: origin.closed or not origin.pool.active)


async def test_an_origin_that_declines_answers_as_usual_and_gets_nothing_raw(origin: Raw) -> None:
    origin.answer = lambda asked: page(b"no", status=b"426 Upgrade Required")
    body = RequestBody()
    body.feed(b"raw")
    reader = await upgrade(origin, body)
    assert (reader.status, await reader.read_all(10)) == (426, b"no")
    origin.answer = lambda asked: page(b"next")
    request = render_request(b"GET", b"/next", b"h", [], None)
    assert await (await fetch(origin.pool, request, None, LONG_S)).read_all(10) == b"next"
    assert [asked.target for asked in origin.asked] == [b"/chat", b"/next"]


@pytest.mark.parametrize("asked_for", [b"", b"other"])
async def test_101_to_something_else_is_a_broken_response(origin: Raw, asked_for: bytes) -> None:
    origin.says(SWITCH)
    body = RequestBody() if asked_for else None
    request = render_upgrade(b"/", b"h", [], asked_for)
    with pytest.raises(RemoteError) as raised:
        await fetch(origin.pool, request, body, LONG_S, terms=Terms(upgrade=asked_for))
    assert raised.value.status == 502
    assert "nobody asked for" in raised.value.message


async def test_a_silent_tunnel_ends_after_its_own_time(origin: Raw) -> None:
    origin.says(SWITCH)
    request = render_upgrade(b"/", b"h", [], b"websocket")
    terms = Terms(upgrade=b"websocket", between_s=0.1)
    reader = await fetch(origin.pool, request, RequestBody(), LONG_S, terms=terms)
    with pytest.raises(RemoteError) as raised:
        await reader.read()
    assert raised.value.status == 504
