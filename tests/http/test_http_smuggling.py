"""What an attacker sends on one connection never becomes part of what another user sends or gets.

The engines alone first; then through a whole edge with an origin that keeps its connections, which notes
every byte and is read by a parser of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from edge_world import World, get, page, running
from test_http_h1 import FakeApp, listen, talk

from atoll.config.spec import RouteSpec, SiteSpec
from atoll.http import h2_wire as h2
from atoll.http.h3_request import Refusal, read_request
from atoll.http.limits import Limits
from bench.fuzzing import frames, requests, responses
from bench.fuzzing.readers import Heard, read_h11

NEXT = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
FORMS = (b"GET  /a HTTP/1.1", b"GET /a  HTTP/1.1", b"GET /a RTSP/1.1", b"GET /a ICE/1.1", b"GET\t/a HTTP/1.1")


@pytest.mark.parametrize("line", FORMS)
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"", NEXT),
        (b"", b"GET /x HTTP/1.1\r\nHost: h\r\nX: GET /a HTTP/1.1\r\n\r\n"),
        (NEXT, b""),
        (b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 17\r\n\r\nGET /a HTTP/1.1\r\n", b""),
        (b"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NEXT),
        (b"\r\n\r\n", NEXT),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 31, 4096])
async def test_a_line_is_judged_where_it_stands(line: bytes, before: bytes, behind: bytes, size: int) -> None:
    """A well-formed line in other requests, in bodies or in fields excuses none that is malformed."""
    app = FakeApp()
    listener, address = listen(app)
    sent = before + line + b"\r\nHost: h\r\n\r\n" + behind
    data = await talk(address, *(sent[at : at + size] for at in range(0, len(sent), size)))
    listener.close()
    assert [status for status, _ in app.refusals] == [400]
    assert len(app.seen) == (1 if before.strip() else 0)
    assert data.count(b"HTTP/1.1 400 ") == 1


@pytest.mark.parametrize("byte", [*range(0x09), *range(0x0A, 0x20), 0x7F])
def test_http3_has_no_control_characters_either(byte: int) -> None:
    """What HTTP/1.1 and HTTP/2 refuse would reach an origin that is asked over HTTP/1.1."""
    fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h"), (b":path", b"/")]
    read = read_request([*fields, (b"x", b"a%cb" % byte)], Limits())
    assert isinstance(read, Refusal)
    assert read.status == 400


# --- through the edge


class RawOrigin:
    """Keeps its connections, and all bytes for h11 to read. `evil` is said, as it is, to who asks for it."""

    def __init__(self) -> None:
        self.heard: list[bytearray] = []
        self.evil: dict[bytes, bytes] = {}
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more."""
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.heard.append(heard)
        answered = 0
        try:
            while data := await reader.read(65_536):
                heard += data
                requests = read_h11(bytes(heard), declines=True, most=10_000).messages
                for request in requests[answered:]:
                    evil = self.evil.get(request.target)
                    if evil is not None:  # and some time for others to come upon the same connection
                        asyncio.get_running_loop().call_later(0.05, writer.close)
                    writer.write(page(request.method + b" " + request.target) if evil is None else evil)
                answered = len(requests)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def requests(self) -> list[Heard]:
        """All that it was asked; what a connection ends with is no request, but it may begin one."""
        found: list[Heard] = []
        for heard in self.heard:
            reading = read_h11(bytes(heard), declines=True, most=10_000)
            assert reading.ending == "open", bytes(heard)
            found += [request for request in reading.messages if request.target != b"/health"]
        return found


@contextlib.asynccontextmanager
async def raw_world() -> AsyncIterator[tuple[World, RawOrigin]]:
    """An edge before a `RawOrigin`, for the host `h`; nothing is cached."""
    async with running() as world:
        origin = RawOrigin()
        await origin.start()
        world.origin.port = origin.port
        routes = (RouteSpec(path="/*", pool="shop", cache=False, upgrades=("websocket", "foo")),)
        world.edge.apply(world.snapshot(2, SiteSpec(name="h", host="h", routes=routes)))
        try:
            yield world, origin
        finally:
            origin.stop()


async def say(world: World, sent: bytes) -> bytes:
    """All that comes back for it, until the edge closes or says nothing for a while."""
    reader, writer = await world.connect()
    writer.write(sent)
    writer.write_eof()
    data = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while piece := await asyncio.wait_for(reader.read(65_536), 0.5):
            data += piece
    writer.close()
    return data


async def is_well(world: World, number: int) -> None:
    """Somebody else gets what he has asked for."""
    answer = await world.ask(get(b"/innocent/%d" % number, host=b"h"))
    assert (answer.status, answer.body) == (200, b"GET /innocent/%d" % number)


async def test_no_attack_makes_a_request_of_its_own() -> None:
    """Every seed of the fuzzer, whole and cut in two; what is inside of another request is never one."""
    async with raw_world() as (world, origin):
        for number, seed in enumerate(requests.seeds()):
            _, writer = await world.connect()
            writer.write(seed[: len(seed) // 2])
            await asyncio.sleep(0)
            writer.write(seed[len(seed) // 2 :])
            answers = await say(world, seed)
            writer.close()
            heads = answers.count(b"HTTP/1.1 ") - answers.count(b"HTTP/1.1 100 ")
            assert heads <= 1 + seed.count(b"HTTP/1."), seed
            await is_well(world, number)
        asked = origin.requests()
        hosts = {value for request in asked for name, value in request.headers if name == b"host"}
        assert hosts == {b"h"}
        assert not [request for request in asked if request.target.startswith(b"/evil")]
        assert len([request for request in asked if b"/innocent/" in request.target]) == len(requests.seeds())


async def test_no_frame_makes_a_request_of_its_own() -> None:
    async with raw_world() as (world, origin):
        for number, seed in enumerate(frames.client_seeds()):
            reader, writer = await world.connect()
            writer.write(h2.PREFACE + b"".join(seed) + h2.frame(h2.PING, 0, 0, b"and then"))
            with contextlib.suppress(TimeoutError, ConnectionError):
                heard = b""
                while b"and then" not in heard and (
                    piece := await asyncio.wait_for(reader.read(65_536), 0.5)
                ):
                    heard += piece
            writer.close()
            await is_well(world, number)
        asked = origin.requests()
        assert {value for each in asked for name, value in each.headers if name == b"host"} == {b"h"}
        names = {name for each in asked for name, _ in each.headers}
        assert not names & {b"y", b"upgrade", b"http2-settings", b"keep-alive", b"proxy-connection", b":path"}
        assert {each.target.partition(b"?")[0][:2] for each in asked} <= {b"/a", b"/b", b"/i", b"//"}
        assert len([each for each in asked if b"/innocent/" in each.target]) == len(frames.client_seeds())


async def test_no_answer_of_an_origin_is_the_next_one_s() -> None:
    """An origin that says too much, too little or nonsense to one harms no other on its connections."""
    async with raw_world() as (world, origin):
        for number, seed in enumerate(responses.seeds()):
            origin.evil[b"/evil/%d" % number] = seed
            reader, writer = await world.connect()
            writer.write(get(b"/evil/%d" % number, host=b"h"))
            first = asyncio.ensure_future(reader.read(65_536))
            await is_well(world, number)
            answer = await asyncio.wait_for(first, 5)
            writer.close()
            assert answer.count(b"\r\nAtoll-Trace: ") <= 1
            assert answer.startswith((b"HTTP/1.1 ", b"")), seed
            await is_well(world, number)
            await is_well(world, number)
