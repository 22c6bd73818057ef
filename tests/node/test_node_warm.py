"""Waiting for function hosts before a worker calls itself fit, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import pytest
import uvloop

from atoll.node.warm import until_warm

Run = Callable[[Coroutine[None, None, None]], None]

pytestmark = pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="warm-") as name:
        yield Path(name)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await writer.drain()
    writer.close()


def test_nothing_to_wait_for_is_no_wait(run: Run) -> None:
    run(until_warm([], 60))


def test_it_ends_when_every_host_answers(run: Run, folder: Path) -> None:
    async def main() -> None:
        waiting = asyncio.ensure_future(until_warm([str(folder / "a.sock"), str(folder / "b.sock")], 30))
        await asyncio.start_unix_server(answer, folder / "a.ping")
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        await asyncio.start_unix_server(answer, folder / "b.ping")
        await asyncio.wait_for(waiting, 5)

    run(main())


def test_a_host_that_never_answers_keeps_nobody_dark(run: Run, folder: Path) -> None:
    began_s = monotonic()
    run(until_warm([str(folder / "never.sock")], 0.2))
    assert 0.15 < monotonic() - began_s < 2
