"""A look at the PoP's own address: what the supervisor's word makes of an edge that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import msgspec
import pytest
from networks import pop

from atoll.anycast.health import Verdict
from atoll.anycast.probe import Finding
from atoll.node.anycast_look import LATE_S, Looks, judged
from atoll.wire import frames
from atoll.wire.messages import Message, Processes, ProcessInfo

GONE = Finding(Verdict.WRONG, "no edge worker serves just now")
DEAD = Finding(Verdict.REFUSED, "no edge worker serves")


class Pop:
    """A listening socket that nobody accepts from, and a supervisor with edges in these states."""

    def __init__(self, run: Path) -> None:
        self.path = run / "supervisor.sock"
        self.states: tuple[str, ...] = ("ready",)
        self.asked = 0
        self.socket = socket.create_server(("127.0.0.1", 0))

    async def answer(self, _peer: frames.Peer, _message: Message) -> Message | None:
        self.asked += 1
        edges = (ProcessInfo(name=f"edge-{i}", pid=i, state=state) for i, state in enumerate(self.states))
        return Processes(processes=(ProcessInfo(name="agent", pid=9, state="ready"), *edges))

    def looks(self, timeout_s: float = 0.15) -> Looks:
        where = msgspec.structs.replace(pop("lhr", 2), http_port=self.socket.getsockname()[1])
        return Looks(where, self.path, timeout_s)


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Pop]:
    made = Pop(tmp_path)
    server = await frames.serve(made.path, made.answer)
    with made.socket:
        yield made
    server.close()


async def test_without_an_edge_the_second_look_in_a_row_is_hard(held: Pop) -> None:
    looks = held.looks(timeout_s=5.0)
    held.states = ("backoff", "starting")
    began_s = monotonic()
    assert [await looks.look(), await looks.look(), await looks.look()] == [GONE, DEAD, DEAD]
    assert monotonic() - began_s < 3 * LATE_S + 0.5, "nobody waits for the probe's own timeout"


async def test_a_worker_that_is_back_between_two_looks_counts_as_there(held: Pop) -> None:
    looks = held.looks()
    held.states = ("starting",)
    assert await looks.look() == GONE
    held.states = ("ready",)
    assert (await looks.look()).detail.endswith("overload")
    held.states = ("starting",)
    assert await looks.look() == GONE


async def test_one_of_two_workers_is_enough(held: Pop) -> None:
    held.states = ("backoff", "ready")
    assert (await held.looks().look()).verdict is Verdict.WRONG


async def test_silence_of_both_is_silence(held: Pop) -> None:
    held.path.unlink()
    assert await held.looks().look() == Finding(Verdict.SILENT, "no answer within 0.15 s")


async def test_a_pop_that_answers_in_time_asks_nobody(held: Pop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    server = await asyncio.start_server(serve, sock=held.socket)
    assert await held.looks(timeout_s=1.0).look() == Finding(Verdict.PASS, "status 200")
    assert held.asked == 0
    server.close()


@pytest.mark.parametrize("serving", [True, None])
@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.WRONG, Verdict.REFUSED])
def test_what_the_probe_has_seen_stands(verdict: Verdict, serving: bool | None) -> None:
    assert judged(Finding(verdict, "seen"), serving) == Finding(verdict, "seen")
