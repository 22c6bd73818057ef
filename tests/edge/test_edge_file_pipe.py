"""Large bodies go from the disk's file to a clear socket: the same bytes, whoever reads them and however."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from edge_world import Asked, World, get, page, reset, running, until

from atoll.http.limits import Limits

BODY = os.urandom(3 * 1024 * 1024 + 12_345)
MB = 1024 * 1024


def large(_asked: Asked) -> bytes:
    return page(BODY, b"max-age=600", b'ETag: "large"')


@pytest_asyncio.fixture
async def stored() -> AsyncIterator[World]:
    """A world whose disk has a large body."""
    async with running(Limits(body_timeout_s=0.3), disk_bytes=256 * MB) as world:
        world.origin.answer = large
        assert (await world.ask(get(b"/large"))).body == BODY
        assert len(world.origin.asked) == 1
        yield world
        assert len(world.origin.asked) == 1


def files_of(world: World) -> list[Path]:
    assert world.disk is not None
    return [path for path in world.disk.folder.rglob("*") if path.is_file() and path.stat().st_size > MB]


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each `sendfile` has sent."""
    counts: list[int] = []
    original = os.sendfile

    def sendfile(out: int, file: int, offset: int, count: int) -> int:
        counts.append(original(out, file, offset, count))
        return counts[-1]

    monkeypatch.setattr(os, "sendfile", sendfile)
    return counts


async def test_the_whole_goes_past_the_worker(stored: World, piped: list[int]) -> None:
    answer = await stored.ask(get(b"/large"))
    assert answer.body == BODY
    assert sum(piped) == len(BODY)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        (b"bytes=0-0", 0, 1),
        (b"bytes=262143-262144", 262_143, 262_145),
        (b"bytes=1-", 1, len(BODY)),
        (b"bytes=1000000-2999999", 1_000_000, 3_000_000),
        (b"bytes=-5", len(BODY) - 5, len(BODY)),
    ],
)
async def test_so_does_a_range(stored: World, piped: list[int], asked: bytes, start: int, end: int) -> None:
    answer = await stored.ask(get(b"/large", b"Range: " + asked))
    assert answer.status == 206
    assert answer.body == BODY[start:end]
    assert sum(piped) == end - start


async def test_several_ranges_come_with_what_is_between_them(stored: World, piped: list[int]) -> None:
    answer = await stored.ask(get(b"/large", b"Range: bytes=10-700000, 900000-2000000"))
    first, second = BODY[10:700_001], BODY[900_000:2_000_001]
    assert answer.body.count(first) == answer.body.count(second) == 1
    assert answer.body.index(first) < answer.body.index(second)
    assert sum(piped) == len(first) + len(second)


async def test_a_connection_goes_on_after_it(stored: World, piped: list[int]) -> None:
    reader, writer = await stored.connect()
    writer.write(get(b"/large") + get(b"/large", b"Range: bytes=5-9") + get(b"/large", method=b"HEAD"))
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert await reader.readexactly(len(BODY)) == BODY
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 206")
    assert await reader.readexactly(5) == BODY[5:10]
    assert b"Content-Length: %d\r\n" % len(BODY) in await reader.readuntil(b"\r\n\r\n")
    assert sum(piped) == len(BODY) + 5
    writer.close()


async def test_who_reads_slowly_gets_all_of_it(stored: World, piped: list[int]) -> None:
    client = stored.deaf_client()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, get(b"/large", b"Connection: close"))
    got = b""
    while data := await loop.sock_recv(client, 65_536):
        got += data
        await asyncio.sleep(0)
    client.close()
    assert got.partition(b"\r\n\r\n")[2] == BODY
    assert len(piped) > 3  # it had to wait for him


async def test_who_does_not_read_is_let_go(stored: World, piped: list[int]) -> None:
    client = stored.deaf_client()
    client.send(get(b"/large"))
    await until(lambda: bool(piped))
    (connection,) = stored.listener.connections
    for now_s in (1.0, 1.2):
        connection.check_timeouts(connection.last_activity_s + now_s)
    assert stored.listener.connections
    connection.check_timeouts(connection.last_activity_s + 1.4)
    await until(lambda: not stored.listener.connections)
    client.close()


async def test_who_leaves_in_the_middle_leaves_nothing_behind(stored: World, piped: list[int]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        count = len(piped)
        client = stored.deaf_client()
        client.send(get(b"/large"))
        await until(lambda count=count: len(piped) > count)  # type: ignore[misc]
        reset(client)
        await until(lambda: not stored.listener.connections)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert (await stored.ask(get(b"/large"))).body == BODY


async def test_what_is_damaged_is_sent_to_nobody(stored: World, piped: list[int]) -> None:
    (file,) = files_of(stored)
    with file.open("r+b") as damaged:
        damaged.seek(2 * MB)
        damaged.write(b"x" * 100)
    reader, writer = await stored.connect()
    writer.write(get(b"/large"))
    got = (await reader.read(-1)).partition(b"\r\n\r\n")[2]
    assert BODY.startswith(got)
    assert len(got) <= 2 * MB
    writer.close()
    stored.origin.asked.clear()
    assert (await stored.ask(get(b"/large"))).body == BODY  # asked for anew
