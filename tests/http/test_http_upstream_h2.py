"""HTTP/2 to origins: many calls on one connection, each with its own window; peers that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from edge_world import until
from h2.settings import SettingCodes
from h2_origin import Asked, H2Origin
from hypothesis import given
from hypothesis import strategies as st
from tls_files import write_certificate

from atoll.config.origins import OriginLimitsSpec, OriginTlsSpec
from atoll.errors import RemoteError
from atoll.http import h2_wire as wire
from atoll.http import upstream_h2
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.hpack import encode
from atoll.http.upstream import (
    ResponseReader,
    Target,
    Terms,
    UpstreamPool,
    fetch,
    render_request,
    render_upgrade,
)

LONG_S = 20.0
OK = (b":status", b"200")


class Origin(H2Origin):
    """The origin, and the pool of connections to it."""

    pool: UpstreamPool

    async def fetch(
        self,
        path: bytes = b"/",
        body: RequestBody | None = None,
        method: bytes = b"GET",
        headers: Headers | None = None,
        timeout_s: float = LONG_S,
        terms: Terms | None = None,
        inform: Callable[[int, Headers], None] | None = None,
    ) -> ResponseReader:
        request = render_request(method, path, b"origin.test", headers or [], body)
        return await fetch(self.pool, request, body, timeout_s, terms=terms or Terms(), inform=inform)

    async def get(self, path: bytes = b"/") -> bytes:
        return await (await self.fetch(path)).read_all(10_000_000)


def target(port: int, **more: object) -> Target:
    return Target(host="127.0.0.1", port=port, protocol="h2", **more)  # type: ignore[arg-type]


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Origin]:
    origin = Origin()
    await origin.start()
    origin.pool = UpstreamPool(target(origin.port))
    yield origin
    assert not origin.faults
    origin.pool.close()
    origin.stop()


async def test_calls_share_one_connection(origin: Origin) -> None:
    assert await origin.get(b"/first") == b"hello /first"
    held: list[Asked] = []
    origin.on_end = held.append
    calls = [asyncio.ensure_future(origin.get(b"/%d" % number)) for number in range(50)]
    await until(lambda: len(held) == 50)
    for asked in reversed(held):
        asked.respond(b"hello " + asked.path)
    assert await asyncio.gather(*calls) == [b"hello /%d" % number for number in range(50)]
    assert len(origin.peers) == 1


async def test_a_burst_on_a_cold_pool_makes_one_connection(origin: Origin) -> None:
    assert len(set(await asyncio.gather(*[origin.get(b"/%d" % number) for number in range(60)]))) == 60
    assert len(origin.peers) == 1


async def test_what_an_origin_is_asked(origin: Origin) -> None:
    headers = [
        (b"x-own", b"a\tb"), (b"connection", b"x"), (b"te", b"trailers"), (b"cookie", b"c=1"),
        (b"cookie", b"d=2"),
    ]  # fmt: skip
    await origin.fetch(b"/a?b", headers=headers)
    (asked,) = origin.asked
    assert asked.fields == {
        b":method": b"GET", b":scheme": b"http", b":authority": b"origin.test", b":path": b"/a?b",
        b"x-own": b"a b", b"te": b"trailers", b"cookie": b"c=1; d=2",
    }  # fmt: skip


async def test_interim_responses_and_trailers(origin: Origin) -> None:
    def answer(asked: Asked) -> None:
        asked.head((b"link", b"</a>"), status=103)
        asked.respond(b"body", (b"x-own", b"1"), trailers=[(b"x-sum", b"7"), (b"set-cookie", b"a")])

    origin.on_end = answer
    heard: list[tuple[int, Headers]] = []

    def inform(status: int, headers: Headers) -> None:
        heard.append((status, headers))

    reader = await origin.fetch(inform=inform)
    assert heard == [(103, [(b"link", b"</a>")])]
    assert reader.headers == [(b"x-own", b"1")]
    assert await reader.read_all(10) == b"body"
    assert reader.trailers == [(b"x-sum", b"7")]


async def test_an_upload_with_its_length_and_trailers(origin: Origin) -> None:
    body = RequestBody()
    waiting = asyncio.ensure_future(
        origin.fetch(b"/up", body, b"POST", [(b"content-length", b"200000")], terms=Terms(length=200_000))
    )
    for _ in range(20):
        body.feed(b"x" * 10_000)
        await asyncio.sleep(0)
    body.trailers = [(b"x-sum", b"7")]
    body.end()
    await waiting
    assert origin.bodies[1] == b"x" * 200_000
    assert origin.asked[0].fields[b"content-length"] == b"200000"
    assert origin.trailers == [(b"x-sum", b"7")]


async def test_an_upload_waits_for_windows_and_makes_its_client_wait(origin: Origin) -> None:
    origin.reads = False
    body = RequestBody()
    waiting = asyncio.ensure_future(origin.fetch(b"/up", body, b"POST"))
    await until(lambda: len(origin.asked) == 1)
    while not body.blocked:
        assert body.received < 1_000_000
        body.feed(b"x" * 10_000)
    await until(lambda: len(origin.bodies[1]) == 65_535)
    assert await origin.get(b"/meanwhile") == b"hello /meanwhile"  # no room is needed for that
    sent = body.received
    peer = origin.peers[0]
    origin.reads = True
    peer.h2.acknowledge_received_data(65_535, 1)
    peer.flush()
    await until(lambda: not body.blocked)
    body.end()
    await waiting
    assert len(origin.bodies[1]) == sent


async def test_who_reads_slowly_holds_up_nobody_else(origin: Origin) -> None:
    large = b"z" * 4_000_000
    origin.on_end = lambda asked: asked.respond(large)
    slow = [await origin.fetch(b"/slow") for _ in range(4)]
    await until(lambda: all(origin.peers[0].left(1 + 2 * number) for number in range(4)))
    kept = {number: origin.peers[0].left(1 + 2 * number) for number in range(4)}
    assert await origin.get(b"/quick") == large
    for number, before in kept.items():
        left = origin.peers[0].left(1 + 2 * number)
        assert before >= left > 3_000_000  # they got their window and no more
    assert [await reader.read_all(5_000_000) for reader in slow] == [large] * 4
    assert len(origin.peers) == 1


async def test_a_cancelled_call_ends_its_stream_alone(origin: Origin) -> None:
    origin.on_end = lambda asked: None
    waiting = asyncio.ensure_future(origin.fetch(b"/never"))
    await until(lambda: len(origin.asked) == 1)
    waiting.cancel()
    await until(lambda: origin.peers[0].reset == {1: wire.CANCEL})
    origin.on_end = lambda asked: asked.respond(b"still there")
    assert await origin.get() == b"still there"
    assert len(origin.peers) == 1


async def test_silence_of_one_call_is_its_own_timeout(origin: Origin) -> None:
    origin.on_end = lambda asked: None if asked.path == b"/never" else asked.respond(b"quick")
    with pytest.raises(RemoteError) as raised:
        await origin.fetch(b"/never", timeout_s=0.1)
    assert raised.value.status == 504
    assert await origin.get(b"/quick") == b"quick"


async def test_an_answer_before_the_upload_s_end_ends_the_upload(origin: Origin) -> None:
    origin.on_head = lambda asked: asked.respond(b"too much", status=413) if asked.path == b"/up" else None
    body = RequestBody()
    reader = await origin.fetch(b"/up", body, b"POST")
    body.feed(b"late")
    assert (reader.status, await reader.read_all(10)) == (413, b"too much")
    await until(lambda: origin.peers[0].reset == {1: wire.NO_ERROR})


async def test_the_origin_says_how_many_at_once(origin: Origin) -> None:
    origin.settings = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
    held: list[Asked] = []
    origin.on_end = held.append
    origin.pool = UpstreamPool(target(origin.port), limits=OriginLimitsSpec(connections=1))
    first = asyncio.ensure_future(origin.get())
    await until(lambda: len(held) == 1)
    calls = [first, *(asyncio.ensure_future(origin.get()) for _ in range(5))]
    for number in range(6):
        await until(lambda count=number: len(held) > count)  # type: ignore[misc]
        await asyncio.sleep(0)
        assert len(held) - number <= 2
        held[number].respond(b"x")
    assert await asyncio.gather(*calls) == [b"x"] * 6
    assert len(origin.peers) == 1


async def test_a_stream_that_was_refused_is_asked_again_once(origin: Origin) -> None:
    def refuse(asked: Asked) -> None:
        asked.reset(wire.REFUSED_STREAM)

    origin.on_end = refuse
    with pytest.raises(RemoteError):
        await origin.fetch(method=b"POST")
    assert len(origin.asked) == 2


async def test_a_stream_that_was_reset_for_another_reason_is_not(origin: Origin) -> None:
    origin.on_end = lambda asked: asked.reset(wire.CANCEL)
    with pytest.raises(RemoteError, match="reset the stream"):
        await origin.fetch()
    assert len(origin.asked) == 1


async def test_goaway_lets_calls_end_and_sends_new_ones_elsewhere(origin: Origin) -> None:
    held: list[Asked] = []
    origin.on_end = held.append
    first = asyncio.ensure_future(origin.get())
    await until(lambda: len(held) == 1)
    second = asyncio.ensure_future(origin.get())
    await until(lambda: len(held) == 2)
    peer = origin.peers[0]
    peer.transport.write(wire.goaway(1, wire.NO_ERROR))
    await until(lambda: len(held) == 3)  # the second one is asked again, on a new connection
    assert held[2].peer is not peer
    held[2].respond(b"second")
    held[0].respond(b"first")
    assert (await first, await second) == (b"first", b"second")
    await until(lambda: peer.lost)


async def test_a_connection_that_dies_takes_only_what_cannot_be_repeated(origin: Origin) -> None:
    await origin.get()
    held: list[Asked] = []
    origin.on_end = held.append
    calls = [asyncio.ensure_future(origin.fetch(method=method)) for method in (b"GET", b"POST")]
    await until(lambda: len(held) == 2)
    origin.on_end = lambda asked: asked.respond(b"again")
    origin.peers[0].transport.abort()
    repeated, lost = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(repeated, ResponseReader)
    assert isinstance(lost, RemoteError)
    assert await repeated.read_all(10) == b"again"


async def test_a_kept_body_travels_with_its_head(origin: Origin) -> None:
    request = b"PUT /kept HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n" + b"k" * 70_000
    reader = await fetch(origin.pool, request, None, LONG_S)
    assert reader.status == 200
    assert origin.bodies[1] == b"k" * 70_000


@pytest.mark.parametrize("method", [b"HEAD", b"GET"])
async def test_responses_without_content(origin: Origin, method: bytes) -> None:
    status = 200 if method == b"HEAD" else 304
    origin.on_end = lambda asked: asked.head((b"content-length", b"1000"), status=status, end=True)
    reader = await origin.fetch(method=method)
    assert (reader.status, await reader.read_all(0)) == (status, b"")


async def test_a_head_that_was_read_before_means_the_same(origin: Origin) -> None:
    origin.on_end = lambda asked: asked.respond(b"", (b"x-own", b"value"))
    first, second = await origin.fetch(), await origin.fetch()
    assert first.headers == second.headers == [(b"x-own", b"value")]


async def test_no_protocol_is_gone_on_with(origin: Origin) -> None:
    request = render_upgrade(b"/", b"h", [], b"websocket")
    with pytest.raises(RemoteError, match="over HTTP/2"):
        await fetch(origin.pool, request, RequestBody(), LONG_S, terms=Terms(upgrade=b"websocket"))


async def test_a_connection_on_which_nobody_is_any_more_is_found_out(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_h2, "_PING_S", 0.1)
    held: list[Asked] = []
    origin.on_end = held.append
    alive = asyncio.ensure_future(origin.fetch(method=b"POST"))
    await asyncio.sleep(0.5)  # it answers pings, so it may take its time
    assert not alive.done()
    origin.peers[0].transport.pause_reading()
    with pytest.raises(RemoteError, match="the connection has died"):
        await asyncio.wait_for(alive, 5)
    assert len(held) == 1


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([wire.SETTINGS, wire.PING, wire.GOAWAY, 77]),
        st.integers(0, 255),
        st.binary(max_size=30),
    ),
    max_size=8,
)


@given(FRAMES, st.data())
def test_frames_are_read_however_they_are_cut(
    frames: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    sized = [(kind, flags, (payload + bytes(8))[:8]) for kind, flags, payload in frames]
    stream = b"".join(wire.frame(kind, flags, 0, payload) for kind, flags, payload in sized)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    reader = wire.FrameReader()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    read = [frame for piece in pieces for frame in reader.feed(piece)]
    assert [(frame.kind, frame.flags, frame.payload) for frame in read] == sized


@given(st.binary(max_size=400))
def test_nonsense_is_a_broken_connection_and_nothing_worse(nonsense: bytes) -> None:
    class Nowhere(asyncio.Transport):
        closed = False

        def write(self, data: bytes | bytearray | memoryview) -> None:
            assert data

        def is_closing(self) -> bool:
            return self.closed

        def close(self) -> None:
            self.closed = True

    async def main() -> None:
        pool = UpstreamPool(target(1))
        connection = upstream_h2.H2Upstream(pool, secure=False)
        connection.connection_made(Nowhere())
        call = ResponseReader(pool, render_request(b"GET", b"/", b"h", [], None), None, LONG_S)
        pool.active.add(call)
        connection.begin(call)
        connection.data_received(wire.settings({}) + nonsense)
        connection.connection_lost(None)
        assert not pool.active
        with contextlib.suppress(RemoteError):
            await call.wait_head()

    asyncio.run(main())


# --- over TLS


def server_context(folder: Path, *alpn: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "origin.test.pem")
    context.set_alpn_protocols(alpn)
    return context


@pytest.mark.parametrize("loop_is", ["asyncio", "uvloop"])
def test_tls_agrees_on_http2(tmp_path: Path, loop_is: str) -> None:
    write_certificate(tmp_path, "origin.test")
    tls = OriginTlsSpec(ca=str(tmp_path / "ca" / "ca.pem"), server_name="origin.test")

    async def main() -> None:
        origin = Origin()
        await origin.start(server_context(tmp_path, "h2", "http/1.1"))
        where = Target(host="127.0.0.1", port=origin.port, secure=True, tls=tls)
        origin.pool = UpstreamPool(where)
        assert len(set(await asyncio.gather(*[origin.get(b"/%d" % number) for number in range(20)]))) == 20
        assert len(origin.peers) == 1
        assert origin.asked[0].fields[b":scheme"] == b"https"
        origin.pool.close()
        origin.stop()

    if loop_is == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


async def test_an_origin_that_must_speak_http2_and_does_not(tmp_path: Path) -> None:
    write_certificate(tmp_path, "origin.test")
    tls = OriginTlsSpec(ca=str(tmp_path / "ca" / "ca.pem"), server_name="origin.test")
    origin = Origin()
    await origin.start(server_context(tmp_path, "http/1.1"))
    origin.pool = UpstreamPool(target(origin.port, secure=True, tls=tls))
    with pytest.raises(RemoteError, match=r"does not speak HTTP/2|TLS failed"):
        await origin.get()
    origin.pool.close()
    origin.stop()


# --- peers that break the rules

BLOCK = encode([OK])
BROKEN = {
    "no settings": b"",
    "a large frame": b"\x00\x40\x01" + bytes(6),
    "a block of the dynamic table": wire.frame(wire.HEADERS, 5, 1, b"\xbf"),
    "a block that is cut short": wire.frame(wire.HEADERS, 5, 1, b"\x00\x05ab"),
    "something inside a block": wire.frame(wire.HEADERS, 0, 1, BLOCK) + wire.frame(wire.PING, 0, 0, bytes(8)),
    "a push": wire.frame(wire.PUSH_PROMISE, 4, 1, b"\x00\x00\x00\x02" + BLOCK),
    "a stream that nobody opened": wire.frame(wire.HEADERS, 5, 7, BLOCK),
    "an even stream": wire.frame(wire.DATA, 0, 2, b"x"),
    "data on the connection": wire.frame(wire.DATA, 0, 0, b"x"),
    "a window that is too large": wire.window_update(0, 2**31 - 1),
    "a window of nothing": wire.window_update(0, 0),
    "settings that cannot be": wire.settings({wire.INITIAL_WINDOW_SIZE: 2**31}),
    "a frame size that cannot be": wire.settings({wire.MAX_FRAME_SIZE: 1}),
    "a short ping": wire.frame(wire.PING, 0, 0, b"x"),
    "padding and nothing else": wire.frame(wire.DATA, wire.PADDED, 1, b"\x09x"),
    "a flood of pings": wire.frame(wire.PING, 0, 0, bytes(8)) * 1100,
    "a flood of settings": wire.settings({}) * 1100,
    "an endless block": wire.frame(wire.HEADERS, 0, 1) + wire.frame(wire.CONTINUATION, 0, 1) * 1100,
    "a large block": wire.frame(wire.HEADERS, 0, 1) + wire.frame(wire.CONTINUATION, 0, 1, b"x" * 16_000) * 5,
}
MALFORMED = {
    "no status": [(b"x", b"y")],
    "a status that is none": [(b":status", b"99")],
    "two statuses": [OK, (b":status", b"200")],
    "an uppercase name": [OK, (b"X-Own", b"1")],
    "a line end in a value": [OK, (b"x", b"a\r\nb")],
    "a name that is none": [OK, (b"x y", b"1")],
    "a field for connections": [OK, (b"transfer-encoding", b"chunked")],
    "two lengths": [OK, (b"content-length", b"1"), (b"content-length", b"2")],
    "a length that is none": [OK, (b"content-length", b"+1")],
    "101": [(b":status", b"101")],
    "a longer length": [OK, (b"content-length", b"3")],
}


class Raw(asyncio.Protocol):
    """A peer that answers any request with given bytes."""

    def __init__(self, greeting: bytes, answer: bytes) -> None:
        self._greeting, self._answer = greeting, answer
        self.got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        transport.write(self._greeting)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.got += data
        if self._answer and encode([(b":method", b"GET")]) in self.got:
            answer, self._answer = self._answer, b""
            self.transport.write(answer)  # type: ignore[attr-defined]


async def ask_raw(answer: bytes, greeting: bytes = wire.settings({})) -> RemoteError:
    """What comes of a request to a peer that answers with these bytes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Raw(greeting, answer), "127.0.0.1", 0)
    pool = UpstreamPool(target(server.sockets[0].getsockname()[1]))

    async def ask() -> bytes:
        reader = await fetch(pool, render_request(b"GET", b"/", b"h", [], None), None, LONG_S)
        return await reader.read_all(100)

    with pytest.raises(RemoteError) as raised:
        await ask()
    assert not pool.active
    pool.close()
    server.close()
    return raised.value


@pytest.mark.parametrize("what", BROKEN)
async def test_a_peer_that_breaks_the_protocol_loses_the_connection(what: str) -> None:
    if what == "no settings":
        error = await ask_raw(b"", wire.frame(wire.PING, 0, 0, bytes(8)))
    else:
        error = await ask_raw(BROKEN[what])
    assert error.status == 502
    assert "broken HTTP/2" in error.message


@pytest.mark.parametrize("what", MALFORMED)
async def test_a_malformed_response_is_none(what: str) -> None:
    error = await ask_raw(wire.header_frames(1, encode(MALFORMED[what]), end_stream=True))
    assert error.status == 502
    assert "malformed response" in error.message


@pytest.mark.parametrize(
    "more",
    [
        wire.frame(wire.DATA, wire.END_STREAM, 1, b"abcd"),
        wire.frame(wire.DATA, 0, 1, b"ab") + wire.header_frames(1, encode([OK]), end_stream=True),
        wire.frame(wire.DATA, 0, 1, b"ab") + wire.header_frames(1, encode([(b"x", b"y")]), end_stream=False),
        wire.frame(wire.DATA, wire.END_STREAM, 1, b"ab"),
        wire.window_update(1, 0),
    ],
)
async def test_a_response_that_goes_wrong_is_cut_short(more: bytes) -> None:
    head = wire.header_frames(1, encode([OK, (b"content-length", b"3")]), end_stream=False)
    assert (await ask_raw(head + more)).status == 502
