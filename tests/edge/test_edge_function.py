"""Requests answered by a function: seen for the first time or known, the client gets the same."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from networks import network, pop

from atoll.cache.store import Store
from atoll.config.spec import FunctionRuntime, RouteSpec, SiteSpec, Snapshot
from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog
from atoll.edge.pipeline import Edge, PublicApp
from atoll.http.accept import Listener
from atoll.http.proxy_protocol import build
from atoll.http.upstream import UpstreamPool, fetch

GET = b"GET /page HTTP/1.1\r\nHost: fn.test\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Made-By: fn\r\n\r\nhello"


class Host:
    """A function host whose answers are scripted: pieces of bytes, written one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pieces: list[bytes] = [OK]
        self.asked: list[bytes] = []
        self.close_instead = False
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                self.asked.append(await reader.readuntil(b"\r\n\r\n"))
                if b"Transfer-Encoding: chunked" in self.asked[-1]:
                    self.asked[-1] += await reader.readuntil(b"0\r\n\r\n")
                if self.close_instead:
                    return
                for piece in self.pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


class World:
    """An edge worker in this process, and its function's host."""

    def __init__(self, folder: Path) -> None:
        self.host = Host(folder / "v1.sock")
        self.next = Host(folder / "v2.sock")
        self.log_file = folder / "access.log"

    async def start(self) -> None:
        await self.host.start()
        await self.next.start()
        clock = Clock()
        self.log = AccessLog(self.log_file, clock)
        self.edge = Edge(self.snapshot(1, self.host), self.log, Store(1 << 20), clock)
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setblocking(False)
        self.port = listening.getsockname()[1]
        self.listener = Listener(PublicApp(self.edge), listening)

    def stop(self) -> None:
        self.listener.close()
        self.host.stop()
        self.next.stop()
        self.log.close()

    def snapshot(self, seq: int, host: Host) -> Snapshot:
        here = pop("lhr", 0)
        site = SiteSpec(name="fn", host="fn.test", routes=(RouteSpec(function="fn"),))
        runtime = FunctionRuntime(name="fn", version=f"{seq:016}", socket=str(host.path))
        spec = msgspec.structs.replace(network(here), sites=(site,))
        return Snapshot(seq=seq, pop=here, network=spec, functions=(runtime,))

    async def connect(self, address: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        if address != "127.0.0.1":
            writer.write(build(address, 1234, "192.0.2.1", 80))
        return reader, writer

    def records(self) -> list[dict[str, object]]:
        self.log.flush()
        return [json.loads(line) for line in self.log_file.read_text().splitlines()]


@pytest_asyncio.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with TemporaryDirectory(prefix="fn-") as folder:
        world = World(Path(folder))
        await world.start()
        yield world
        world.stop()


async def read_response(
    reader: asyncio.StreamReader, *, body: bool = True
) -> tuple[int, dict[str, str], bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    content = b""
    if body and fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            content += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    elif body:
        content = await reader.readexactly(int(fields.get("content-length", 0)))
    return int(head[0].split(" ")[1]), fields, content


def steady(fields: dict[str, str]) -> dict[str, str]:
    """The fields that do not differ from one response to the next."""
    return {
        name: value for name, value in fields.items() if name not in ("server-timing", "atoll-trace", "date")
    }


async def ask(world: World, request: bytes, address: str = "127.0.0.1") -> tuple[int, dict[str, str], bytes]:
    reader, writer = await world.connect(address)
    writer.write(request)
    answer = await read_response(reader, body=not request.startswith(b"HEAD"))
    writer.close()
    return answer


async def test_a_known_request_is_answered_as_the_first_was(world: World) -> None:
    reader, writer = await world.connect()
    answers = []
    for _ in range(3):
        writer.write(GET)
        answers.append(await read_response(reader))
    writer.close()
    first = answers[0]
    assert (first[0], first[2], first[1]["x-made-by"]) == (200, b"hello", "fn")
    assert [(code, steady(fields), body) for code, fields, body in answers[1:]] == [
        (200, steady(first[1]), b"hello")
    ] * 2
    assert len({fields["atoll-trace"] for _, fields, _ in answers}) == 3
    assert world.host.asked[0] == world.host.asked[1] == world.host.asked[2]
    assert world.edge.counters.requests == world.edge.counters.bypass == 3
    records = world.records()
    assert [(r["target"], r["status"], r["bytes"], r["cache"]) for r in records] == [
        ("/page", 200, 5, "bypass")
    ] * 3


async def test_each_client_is_introduced_by_its_own_address(world: World) -> None:
    for address in ("198.18.9.10", "198.18.9.11", "198.18.9.10"):
        await ask(world, GET, address)
    told = [head.split(b"Cf-Connecting-Ip: ")[1].split(b"\r\n")[0] for head in world.host.asked]
    assert told == [b"198.18.9.10", b"198.18.9.11", b"198.18.9.10"]


async def test_every_record_says_whose_it_is(world: World) -> None:
    for address in ("198.18.9.10", "198.18.9.11"):
        await ask(world, GET, address)
    assert [record["client"] for record in world.records()] == ["198.18.9.10", "198.18.9.11"]


async def test_a_worker_whose_functions_do_not_answer_yet_is_not_fit(world: World) -> None:
    check = b"GET / HTTP/1.1\r\nHost: health.atoll.internal\r\n\r\n"
    world.edge.fit = False
    assert (await ask(world, check))[0] == 503
    world.edge.fit = True
    assert (await ask(world, check))[0] == 200


async def test_a_new_version_is_asked_from_then_on(world: World) -> None:
    await ask(world, GET)
    await ask(world, GET)
    world.next.pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew"]
    world.edge.apply(world.snapshot(2, world.next))
    assert (await ask(world, GET))[2] == b"new"
    assert (await ask(world, GET))[2] == b"new"
    assert len(world.host.asked) == 2


async def test_what_must_not_be_recognised_is_not(world: World) -> None:
    closing = b"GET /page HTTP/1.1\r\nHost: fn.test\r\nConnection: close\r\n\r\n"
    for _ in range(2):
        reader, writer = await world.connect()
        writer.write(closing)
        code, fields, body = await read_response(reader)
        assert (code, fields["connection"], body) == (200, "close", b"hello")
        assert await reader.read() == b""
        writer.close()
    for _ in range(2):
        reader, writer = await world.connect()
        writer.write(b"GET /page HTTP/1.0\r\nHost: fn.test\r\n\r\n")
        assert (await read_response(reader))[2] == b"hello"
        assert await reader.read() == b""
        writer.close()
    post = b"POST /page HTTP/1.1\r\nHost: fn.test\r\nContent-Length: 2\r\n\r\nhi"
    for _ in range(2):
        assert (await ask(world, post))[0] == 200
        assert world.host.asked[-1].endswith(b"2\r\nhi\r\n0\r\n\r\n")


async def test_head_after_get_has_no_body(world: World) -> None:
    await ask(world, GET)
    world.host.pieces = [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Made-By: fn\r\n\r\n"]
    reader, writer = await world.connect()
    for _ in range(2):
        writer.write(GET.replace(b"GET", b"HEAD"))
        code, fields, _ = await read_response(reader, body=False)
        assert (code, fields["content-length"]) == (200, "5")
    writer.close()


async def test_a_host_that_hangs_up_costs_its_request_a_503(world: World) -> None:
    await ask(world, GET)
    world.host.close_instead = True
    code, fields, _ = await ask(world, GET)
    assert code == 503
    assert "function did not answer" in fields["cache-status"]
    assert "function did not answer" in str(world.records()[-1]["error"])
    world.host.close_instead = False
    assert (await ask(world, GET))[0] == 200


async def test_what_a_client_claims_to_be_ours_goes_no_further(world: World) -> None:
    forged = GET.replace(b"\r\n\r\n", b"\r\nAtoll-Backend: x\r\nCf-Connecting-Ip: 9.9.9.9\r\n\r\n")
    for _ in range(2):
        await ask(world, forged)
        assert b"9.9.9.9" not in world.host.asked[-1]
        assert b"atoll-backend" not in world.host.asked[-1].lower()


RESPONSES = [
    OK,
    b"HTTP/1.1 204 No Content\r\nX-Empty: yes\r\n\r\n",
    b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
]


def cut(data: bytes, at: list[int]) -> list[bytes]:
    ends = sorted({min(end, len(data)) for end in at} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if start < end]


@given(st.lists(st.tuples(st.sampled_from(RESPONSES), st.lists(st.integers(1, 90), max_size=3)), max_size=6))
def test_any_series_of_responses_reads_as_if_each_had_come_in_one_piece(
    series: list[tuple[bytes, list[int]]],
) -> None:
    """Known heads or not, cut anywhere: the same status, fields and body."""

    async def run() -> None:
        with TemporaryDirectory(prefix="fn-") as folder:
            host = Host(Path(folder) / "s.sock")
            await host.start()
            pool = UpstreamPool(str(host.path))
            for response, places in series:
                seen = []
                for pieces in ([response], cut(response, places), [response]):
                    host.pieces = pieces
                    reader = await fetch(pool, GET, None, 5.0)
                    seen.append((reader.status, reader.headers, await reader.read_all(1000)))
                assert seen[0] == seen[1] == seen[2]
            pool.close()
            host.stop()

    asyncio.run(run())


@pytest.mark.parametrize("surplus", [OK, b"HTTP/1.1 200 OK\r\n", b"x"])
async def test_a_connection_that_says_more_than_it_was_asked_is_not_used_again(
    world: World, surplus: bytes
) -> None:
    await ask(world, GET)
    world.host.pieces = [OK + surplus]
    assert (await ask(world, GET))[2] == b"hello"
    world.host.pieces = [OK.replace(b"hello", b"clean")]
    for _ in range(3):
        assert (await ask(world, GET))[2] == b"clean"
