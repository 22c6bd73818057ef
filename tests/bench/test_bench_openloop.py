"""Open-loop load on a real server: rate, what a stall costs those who wait, and lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from atoll.errors import AtollError
from bench.openloop import Outcome, Plan, run

REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Answer = Callable[[int], Awaitable[bytes]]


@contextlib.asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """A server that asks `answer` for the bytes of its n-th response; none ends the connection."""
    asked = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                asked += 1
                response = await answer(asked)
                if not response:
                    break
                writer.write(response)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def load(answer: Answer, **changes: object) -> Outcome:
    async with serving(answer) as port:
        settings: dict[str, object] = {"rate_per_s": 500, "duration_s": 0.4, "connections": 8, **changes}
        return await run(Plan(port=port, requests=(REQUEST,), **settings))  # type: ignore[arg-type]


async def at_once(_number: int) -> bytes:
    return OK


async def test_every_request_leaves_and_is_answered() -> None:
    outcome = await load(at_once)
    assert (outcome.sent, outcome.answered, outcome.failed) == (200, 200, 0)
    assert outcome.statuses == {200: 200}
    assert outcome.body_bytes == 400
    assert outcome.took_s >= 199 / 500
    found = outcome.percentiles_us()
    assert 0 < found["p50"] <= found["p99"] <= found["p99.99"] <= found["max"]


async def test_who_waits_for_a_stalled_server_waits_since_it_was_due() -> None:
    """One connection, one stall of 0.2 s: a closed loop would see one slow answer in 200."""

    async def stalls_once(number: int) -> bytes:
        if number == 50:
            await asyncio.sleep(0.2)
        return OK

    outcome = await load(stalls_once, connections=1)
    assert (outcome.sent, outcome.failed) == (200, 0)
    slow = sum(times for highest, times in outcome.latency_us.buckets() if highest > 50_000)
    assert slow >= 50
    assert outcome.latency_us.max >= 190_000


async def test_poisson_arrivals_keep_the_rate_on_average() -> None:
    outcome = await load(at_once, poisson_seed=1, rate_per_s=1000)
    assert 320 < outcome.sent < 480
    assert outcome.failed == 0


async def test_a_connection_that_ends_is_counted_and_replaced() -> None:
    async def every_tenth_ends(number: int) -> bytes:
        return OK if number % 10 else b""

    outcome = await load(every_tenth_ends)
    assert outcome.lost == outcome.failed == 20
    assert outcome.answered == 180


async def test_an_answer_that_closes_is_no_loss() -> None:
    async def closes(_number: int) -> bytes:
        return OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)

    outcome = await load(closes, rate_per_s=100)
    assert (outcome.answered, outcome.lost) == (40, 0)


async def test_bad_statuses_and_silence_are_failures() -> None:
    async def fails_then_sleeps(number: int) -> bytes:
        if number > 10:
            await asyncio.sleep(60)
        return b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"

    outcome = await load(fails_then_sleeps, timeout_s=0.1, rate_per_s=100)
    assert outcome.statuses == {503: 10}
    assert (outcome.unanswered, outcome.failed) == (30, 40)


async def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(AtollError, match=f"no connection to 127.0.0.1:{port}"):
        await run(Plan(port=port, requests=(REQUEST,), rate_per_s=10, duration_s=1))
    with pytest.raises(AtollError, match="needs a rate"):
        await run(Plan(port=port, requests=(), rate_per_s=10, duration_s=1))
