"""Waiting for function hosts before a worker calls itself fit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import pytest

from atoll.node.warm import until_warm


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="warm-") as name:
        yield Path(name)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_nothing_to_wait_for_is_no_wait() -> None:
    await asyncio.wait_for(until_warm([]), 1)


async def test_it_ends_when_every_host_answers(folder: Path) -> None:
    waiting = asyncio.ensure_future(until_warm([str(folder / "a.sock"), str(folder / "b.sock")], 30))
    first = await asyncio.start_unix_server(answer, folder / "a.ping")
    done, _ = await asyncio.wait({waiting}, timeout=0.3)
    assert not done
    second = await asyncio.start_unix_server(answer, folder / "b.ping")
    await asyncio.wait_for(waiting, 5)
    first.close()
    second.close()


async def test_a_host_that_never_answers_keeps_nobody_dark(folder: Path) -> None:
    began_s = monotonic()
    await until_warm([str(folder / "never.sock")], 0.2)
    assert 0.15 < monotonic() - began_s < 2
