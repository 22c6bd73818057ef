"""A response that never ends is not fetched for nobody."""

from __future__ import annotations

import asyncio

import pytest
from edge_world import Asked, World, get, until, world

from atoll.edge import fill

__all__ = ["world"]


async def test_content_without_an_end_is_given_up_when_all_have_left(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill, "PATIENCE_S", 0.1)
    left = asyncio.Event()

    async def endless(_asked: Asked, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1\r\nx\r\n")
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            left.set()

    world.origin.converse = endless
    reader, writer = await world.connect()
    writer.write(get(b"/endless"))
    await reader.readuntil(b"x")
    await asyncio.sleep(0.3)
    assert not left.is_set()  # somebody reads
    writer.close()
    await asyncio.wait_for(left.wait(), 5)
    await until(lambda: not world.edge.store.get(b"http://shop.test/endless", []))
