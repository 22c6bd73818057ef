"""The restart experiment: what it counts, and that its users notice when something breaks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from edge_world import World, page, running, until
from hypothesis import given
from hypothesis import strategies as st
from tls_files import write_certificate

from atoll.edge.pipeline import PublicApp
from atoll.errors import AtollError, RemoteError
from atoll.http.accept import Listener
from atoll.http.fields import Headers
from atoll.lab import lasting, websocket
from atoll.lab.h2_prober import H2Prober
from atoll.lab.lasting_clients import Holder, Lasted
from atoll.lab.prober import Sample
from atoll.lab.restart import Target, judge, longest_gap_s, moves, result

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


# --- what is counted


def answered(due_s: float, took_s: float = 0.01) -> Sample:
    return Sample(due_s, done_s=due_s + took_s)


def failed(due_s: float, error: str) -> Sample:
    return Sample(due_s, first_error=error)


def test_a_request_that_failed_once_has_failed() -> None:
    retried = Sample(2.0, done_s=2.5, first_error="reset")  # though a second try was answered
    samples = {"kept": [answered(1.0), retried, answered(3.0)], "h2": [failed(1.5, "closed")]}
    trial = judge("lhr", samples, [], 900.0, 0)
    assert (trial.requests, trial.failed_requests) == (4, 2)
    assert trial.errors == {"kept: reset": 1, "h2: closed": 1}
    assert not trial.whole


def test_gaps_and_delays_are_of_all_that_was_answered() -> None:
    samples = {"kept": [answered(1.0), answered(1.5, 0.3)], "new": [answered(1.2)]}
    trial = judge("lhr", samples, [], 900.0, 0)
    assert (trial.longest_gap_ms, trial.slowest_ms) == (590.0, 300.0)
    assert trial.whole


@pytest.mark.parametrize("kind", ["download", "events", "websocket"])
def test_what_was_open_has_to_be_whole(kind: str) -> None:
    lasted = [Lasted(kind, got=20, times=2), Lasted(kind, got=3, error="reset")]
    trial = judge("lhr", {}, lasted, 900.0, 0)
    counts = {
        "download": (trial.downloads, trial.broken_downloads),
        "events": (trial.events, trial.broken_events),
        "websocket": (trial.websockets, trial.broken_websockets),
    }
    assert counts[kind] == (2 if kind == "websocket" else 3, 1)
    assert trial.faults == (f"{kind} after 3: reset",)
    assert not trial.whole


def test_routes_that_move_are_noticed() -> None:
    before = ["T1 lhr announces 192.0.2.0/24", "T2 nrt announces 192.0.2.0/24"]
    kept = [*before, "T3 lhr's speaker restarts, its routes are kept"]
    assert moves("lhr", before, kept) == 0
    assert moves("lhr", before, [*kept, "T4 nrt session lost, its routes with it"]) == 0
    assert moves("lhr", before, [*kept, "T4 lhr withdraws 192.0.2.0/24", "T5 lhr announces x"]) == 2
    assert not judge("lhr", {}, [], 1.0, 2).whole


@given(st.lists(st.floats(0, 1e6), max_size=20))
def test_a_gap_lies_between_two_neighbours(times_s: list[float]) -> None:
    gap_s = longest_gap_s(times_s)
    assert 0 <= gap_s <= (max(times_s) - min(times_s) if times_s else 0)
    if len(times_s) > 1:
        assert gap_s * (len(times_s) - 1) >= (max(times_s) - min(times_s)) * 0.999


def test_the_verdict_is_of_all_trials() -> None:
    target = Target(
        pop="lhr", http=("", 1), https=("", 2), host="", path="/", rate=10, held_s=1, internet=Path()
    )
    good = judge("lhr", {"kept": [answered(1.0)]}, [], 500.0, 0)
    bad = judge("lhr", {"kept": [failed(1.0, "reset")]}, [], 700.0, 0)
    assert result(target, [good, good]).ok
    verdict = result(target, [good, bad])
    assert (verdict.ok, verdict.requests, verdict.failed_requests, verdict.restart_ms) == (False, 2, 1, 700.0)
    with pytest.raises(AtollError, match="no trial"):
        result(target, [])


# --- WebSockets


@given(st.binary(max_size=400), st.booleans())
async def test_a_frame_arrives_as_it_was_sent(payload: bytes, mask: bool) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(websocket.encode(websocket.Frame(websocket.TEXT, payload), mask=mask))
    reader.feed_eof()
    assert await websocket.read(reader) == (websocket.TEXT, payload)
    assert reader.at_eof()


@pytest.mark.parametrize("data", [b"\x01\x02hi", b"\x81\x7f" + bytes(8)])
async def test_fragments_and_long_messages_are_refused(data: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    with pytest.raises(RemoteError):
        await websocket.read(reader)


# --- what takes long, with and without an edge that breaks it


@contextlib.asynccontextmanager
async def origin(serve: Serve | None = None) -> AsyncIterator[tuple[str, int]]:
    """The lab's lasting answers, on a socket of their own."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        headers: Headers = [(n.lower(), v) for n, _, v in (field.partition(b": ") for field in lines)]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await lasting.converse(line.split(b" ")[1].decode(), headers, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve or answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


async def test_whoever_holds_on_gets_all_of_it() -> None:
    async with origin() as address:
        holder = Holder(address, "lab.test")
        await holder.start(1, 1, 1, pieces=5, pause_ms=10)
        assert all(lasted.got for lasted in holder.lasted)
        await holder.stop()
    assert [(lasted.kind, lasted.error) for lasted in holder.lasted] == [
        ("download", ""),
        ("events", ""),
        ("websocket", ""),
    ]
    download, events, _ = holder.lasted
    assert (download.got, events.got) == (5 * download.times, 5 * events.times)


async def cut_short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that dies in the middle of whatever it is asked for."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"/echo" in head:
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        writer.write(websocket.answer(key))
        writer.write(websocket.encode(await websocket.read(reader)))
    elif b"/events" in head:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + lasting.event(0))
    else:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20480\r\n\r\n" + lasting.piece(0))
    await writer.drain()
    writer.close()


async def test_what_is_cut_short_is_noticed() -> None:
    async with origin(cut_short) as address:
        holder = Holder(address, "lab.test")
        await holder.start(1, 1, 1, pieces=5, pause_ms=10)
        await holder.stop()
    assert [(lasted.got, bool(lasted.error)) for lasted in holder.lasted] == [(1, True)] * 3


async def garbled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that sends as many bytes as it should, one of them wrong."""
    await reader.readuntil(b"\r\n\r\n")
    body = bytearray(lasting.piece(0) + lasting.piece(1))
    body[5000] ^= 1
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8192\r\n\r\n" + bytes(body))
    writer.close()


async def test_a_wrong_byte_is_noticed() -> None:
    async with origin(garbled) as address:
        holder = Holder(address, "lab.test")
        await holder.start(1, 0, 0, pieces=2, pause_ms=0)
        await holder.stop()
    assert holder.lasted[0].error == "not what was sent"


@pytest.mark.parametrize("path", ["download/5", "download/x/1", "download/999999/1", "echo", "else"])
async def test_what_makes_no_sense_is_refused(path: str) -> None:
    reader = asyncio.StreamReader()
    with pytest.raises(RemoteError):
        await lasting.converse(f"{lasting.PREFIX}{path}", [], reader, None)  # type: ignore[arg-type]


# --- requests over HTTP/2


@pytest_asyncio.fixture
async def secure(tmp_path: Path) -> AsyncIterator[tuple[World, Listener, tuple[str, int]]]:
    """An edge that speaks HTTP/2 over TLS."""
    write_certificate(tmp_path, "shop.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "shop.test.pem")
    context.set_alpn_protocols(["h2"])
    async with running() as world:
        world.origin.answer = lambda asked: page(b"hello", b"max-age=60")
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        listener = Listener(PublicApp(world.edge), sock, context)
        yield world, listener, sock.getsockname()
        listener.close()


async def test_requests_over_http2_are_answered_over_a_goaway(
    secure: tuple[World, Listener, tuple[str, int]],
) -> None:
    _world, listener, address = secure
    prober = H2Prober(address, "shop.test", "/page", 200.0)
    await prober.start()
    await until_answered(prober, 20)
    for connection in list(listener.connections):
        connection.goaway()  # type: ignore[union-attr]
    await until_answered(prober, len(prober.samples) + 300)  # both of the goodbyes are over
    await prober.stop()
    assert [sample.first_error for sample in prober.samples if sample.first_error] == []
    assert prober.connections == 2


async def test_a_lost_connection_fails_what_was_asked_on_it(
    secure: tuple[World, Listener, tuple[str, int]],
) -> None:
    world, listener, address = secure
    world.origin.hold = asyncio.Event()
    prober = H2Prober(address, "shop.test", "/slow", 50.0)
    await prober.start()
    await world.origin.until_asked()
    for connection in list(listener.connections):
        connection.transport.abort()
    world.origin.hold.set()
    await until_answered(prober, 5)
    await prober.stop()
    errors = {sample.first_error for sample in prober.samples if sample.first_error}
    assert errors <= {"closed", "reset"}
    assert errors


async def until_answered(prober: H2Prober, count: int) -> None:
    await until(lambda: sum(sample.done_s > 0 for sample in prober.samples) >= count)
