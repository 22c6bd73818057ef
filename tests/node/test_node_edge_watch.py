"""A worker whose loop does not turn any more is found out and killed; any other is left alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from atoll.node import edge_watch
from atoll.node.supervisor import Supervised
from atoll.wire import frames
from atoll.wire.messages import Message, Ok

INTERVAL_S = 0.01
PATIENCE_S = 0.1


class Worker:
    """As much of a supervised process as a watch looks at."""

    def __init__(self) -> None:
        self.state = "ready"
        self.pid = 1
        self.launch = SimpleNamespace(name="edge-0")
        self.killed = asyncio.Event()

    def kill(self) -> None:
        self.killed.set()


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    worker = Worker()
    watching = asyncio.ensure_future(
        edge_watch.watch(cast(Supervised, worker), tmp_path / "edge.sock", INTERVAL_S, PATIENCE_S)
    )
    yield worker
    watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching


async def is_killed(worker: Worker, limit_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(worker.killed.wait(), limit_s)
    return worker.killed.is_set()


async def test_one_that_never_answers_is_killed(worker: Worker, tmp_path: Path) -> None:
    async def hang(_peer: frames.Peer, _message: Message) -> Message | None:
        await asyncio.Event().wait()
        return Ok()

    server = await frames.serve(tmp_path / "edge.sock", hang)
    assert await is_killed(worker, 5)
    server.close()


async def test_one_that_answers_late_is_left_alone(worker: Worker, tmp_path: Path) -> None:
    async def dawdle(_peer: frames.Peer, _message: Message) -> Message | None:
        await asyncio.sleep(PATIENCE_S / 4)
        return Ok()

    server = await frames.serve(tmp_path / "edge.sock", dawdle)
    assert not await is_killed(worker, 6 * PATIENCE_S)
    server.close()


async def test_one_that_is_not_there_is_left_alone(worker: Worker) -> None:
    assert not await is_killed(worker, 6 * PATIENCE_S)


async def test_one_that_starts_is_left_alone(worker: Worker, tmp_path: Path) -> None:
    worker.state = "starting"

    async def hang(_peer: frames.Peer, _message: Message) -> Message | None:
        await asyncio.Event().wait()
        return Ok()

    server = await frames.serve(tmp_path / "edge.sock", hang)
    assert not await is_killed(worker, 6 * PATIENCE_S)
    server.close()
