"""A spool: whoever reads gets every byte in order, whenever it joined, and memory stays bounded."""

from __future__ import annotations

import asyncio
import random
from collections.abc import ValuesView

import pytest

from atoll.cache.ranges import Span
from atoll.edge.answer import REST
from atoll.edge.serving import Arriving
from atoll.edge.spool import MEMORY, WINDOW, Spool

PIECE = 100_000
ALL = Span(0, REST)


class File:
    """Where long content goes, in memory; takes `room` bytes."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.data = bytearray()
        self.room = room

    def write(self, data: bytes) -> None:
        if len(self.data) + len(data) > self.room:
            raise OSError("full")
        self.data += data

    def read(self, start: int, end: int) -> bytes:
        return bytes(self.data[start:end])

    def commit(self, began_epoch: int) -> bool:
        return True

    def abandon(self) -> None:
        self.data.clear()


def held(spool: Spool) -> int:
    return sum(map(len, spool._chunks))


async def drain(content: Arriving, span: Span = ALL, pause: int = 0) -> bytes:
    data = b""
    async for block in content.blocks(span):
        data += block
        for _ in range(pause):
            await asyncio.sleep(0)
    content.leave()
    return data


@pytest.mark.parametrize("filed", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_everybody_reads_everything(filed: bool, seed: int) -> None:
    chance = random.Random(seed)
    content = chance.randbytes(3 * MEMORY // 2)
    spool = Spool(len(content), File() if filed else None)
    readers: list[asyncio.Task[bytes]] = []
    at = 0
    while at < len(content):
        if chance.random() < 0.3 and len(readers) < 6:
            readers.append(asyncio.ensure_future(drain(Arriving(spool), pause=chance.randrange(4))))
        size = chance.randrange(1, PIECE)
        spool.append(content[at : at + size])
        at += size
        await asyncio.sleep(0)
        assert not filed or held(spool) <= MEMORY + PIECE
    spool.end()
    readers.append(asyncio.ensure_future(drain(Arriving(spool))))
    assert all(data == content for data in await asyncio.gather(*readers))


async def test_a_span_is_given_as_soon_as_it_is_there() -> None:
    spool = Spool(1000)
    reading = asyncio.ensure_future(drain(Arriving(spool), Span(10, 20)))
    spool.append(bytes(15))
    await asyncio.sleep(0)
    assert not reading.done()
    spool.append(bytes(range(15, 30)))
    assert await reading == bytes(5) + bytes(range(15, 20))


async def test_content_that_is_not_kept_waits_for_the_slowest_reader() -> None:
    spool = Spool(None)
    slow = Arriving(spool)
    spool.append(b"x" * PIECE)
    spool.give_up()
    while spool.size < WINDOW + 2 * PIECE:
        spool.append(b"x" * PIECE)
    waiting = asyncio.ensure_future(spool.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    blocks = slow.blocks(Span(0, REST))
    for _ in range(5):
        await anext(blocks)
    await asyncio.wait_for(waiting, 1)
    assert held(spool) < WINDOW + PIECE
    await blocks.aclose()


async def test_nobody_waits_for_a_reader_that_has_left() -> None:
    spool = Spool(None)
    reader = Arriving(spool)
    spool.give_up()
    while spool.size < 2 * WINDOW:
        spool.append(b"x" * PIECE)
    waiting = asyncio.ensure_future(spool.room())
    await asyncio.sleep(0)
    reader.leave()
    await asyncio.wait_for(waiting, 1)
    assert not spool.wanted


async def test_a_file_that_takes_no_more_is_given_up_and_readers_go_on() -> None:
    spool = Spool(2 * MEMORY, File(room=MEMORY // 2))
    reading = asyncio.ensure_future(drain(Arriving(spool)))
    content = random.Random(1).randbytes(MEMORY)
    for start in range(0, len(content), PIECE):
        spool.append(content[start : start + PIECE])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not spool.kept
    spool.end()
    assert await reading == content


async def test_content_that_turns_out_long_is_spilled_whole() -> None:
    file = File()
    spool = Spool(None)
    spool.append(b"a" * PIECE)
    spool.spill(file)
    spool.append(b"b" * PIECE)
    assert bytes(file.data) == b"a" * PIECE + b"b" * PIECE


async def test_a_fetch_that_fails_is_told_to_readers() -> None:
    spool = Spool(100)
    reading = asyncio.ensure_future(drain(Arriving(spool)))
    spool.append(b"x" * 50)
    await asyncio.sleep(0)
    spool.fail()
    with pytest.raises(OSError, match="did not send all"):
        await reading


async def test_many_readers_cost_as_much_as_they_are() -> None:
    """Of content that is not kept, whoever moves on does not have all the others looked at."""

    class Looked(dict[object, int]):
        looks = 0

        def values(self) -> ValuesView[int]:  # type: ignore[override]
            Looked.looks += 1
            return super().values()

    spool, pieces = Spool(None), 40
    spool._readers = Looked()
    readers = [asyncio.ensure_future(drain(Arriving(spool))) for _ in range(100)]
    await asyncio.sleep(0)
    spool.append(bytes(PIECE))
    spool.give_up()
    for _ in range(pieces):
        spool.append(bytes(PIECE))
        await spool.room()
        await asyncio.sleep(0)
    spool.end()
    assert {len(data) for data in await asyncio.gather(*readers)} == {(pieces + 1) * PIECE}
    assert Looked.looks < 5 * (pieces + len(readers))
