"""One check of the serving path, against servers that answer in every way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from atoll.anycast.health import Verdict
from atoll.anycast.probe import Finding, check, read_status

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(answer: Serve) -> AsyncIterator[int]:
    """A server; yields its port."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def saying(data: bytes, heard: list[bytes] | None = None) -> Serve:
    """Answers each request with `data`."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if heard is not None:
            heard.append(request)
        writer.write(data)
        await writer.drain()
        writer.close()

    return answer


async def test_asks_as_the_edge_expects_and_passes_on_200() -> None:
    heard: list[bytes] = []
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", heard)) as port:
        assert await check("127.0.0.1", port) == Finding(Verdict.PASS, "status 200")
    assert heard == [
        b"GET /.well-known/atoll/health HTTP/1.1\r\nHost: health.atoll.internal\r\nConnection: close\r\n\r\n"
    ]


async def test_nobody_listening_is_a_hard_failure() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        finding = await check("127.0.0.1", bound.getsockname()[1])
    assert finding == Finding(Verdict.REFUSED, "connection refused")


async def test_silence_is_waited_for_no_longer_than_asked() -> None:
    async def nothing(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1)

    async with serving(nothing) as port:
        async with asyncio.timeout(0.5):
            assert await check("127.0.0.1", port, 0.05) == Finding(Verdict.SILENT, "no answer within 0.05 s")


@pytest.mark.parametrize("abort", [True, False])
async def test_one_lost_connection_is_no_finding_two_are(abort: bool) -> None:
    losses = 1

    async def lose(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal losses
        losses -= 1
        if losses < 0:
            await saying(b"HTTP/1.1 200 OK\r\n\r\n")(reader, writer)
        elif abort:
            writer.transport.abort()
        else:
            writer.close()

    async with serving(lose) as port:
        assert (await check("127.0.0.1", port)).verdict is Verdict.PASS
        losses = 2
        assert await check("127.0.0.1", port) == Finding(
            Verdict.SILENT, "connection closed without an answer"
        )


async def test_an_endless_line_is_no_http() -> None:
    async with serving(saying(b"x" * 4096)) as port:
        assert await check("127.0.0.1", port) == Finding(Verdict.WRONG, "the answer is no HTTP")


@pytest.mark.parametrize(
    ("line", "verdict", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\n", Verdict.PASS, "status 200"),
        (b"HTTP/1.0 200\r\n", Verdict.PASS, "status 200"),
        (b"HTTP/1.1 503 Overloaded\r\n", Verdict.WRONG, "status 503"),
        (b"HTTP/2 200\r\n", Verdict.WRONG, "the answer is no HTTP"),
        (b"HTTP/1.1 20\r\n", Verdict.WRONG, "the answer is no HTTP"),
        (b"HTTP/1.1 2000\r\n", Verdict.WRONG, "the answer is no HTTP"),
        (b"HTTP/1.1 ok!\r\n", Verdict.WRONG, "the answer is no HTTP"),
        (b"SSH-2.0\r\n", Verdict.WRONG, "the answer is no HTTP"),
    ],
)
def test_status_lines(line: bytes, verdict: Verdict, detail: str) -> None:
    assert read_status(line) == Finding(verdict, detail)
