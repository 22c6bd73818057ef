"""HTTP/3 clients that break rules, do not read, ask too much or say nothing: they cost themselves alone."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from aioquic.buffer import encode_uint_var
from aioquic.quic.packet import encode_quic_version_negotiation
from edge_world import page, settled, until
from h3_world import H3World, h3_running
from http3_client import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_http_h3 import Sink, Taker

from atoll.http.limits import Limits

NO_ERROR = 0x100
FRAME_UNEXPECTED = 0x105
EXCESSIVE_LOAD = 0x107
REQUEST_REJECTED = 0x10B
QPACK_FAILED = 0x200


@pytest.fixture
async def h3() -> AsyncIterator[H3World]:
    async with h3_running() as h3:
        yield h3
        assert_serves_on(h3)
        async with h3.client() as client:
            assert (await client.ask("/after")).status == 200  # whatever the test has done


def assert_serves_on(h3: H3World) -> None:
    """The apps of tests that keep exchanges are put away."""
    h3.endpoint._app = h3.apps[0]


async def with_limits(**changed: Any) -> Limits:
    """The usual limits but these."""
    return msgspec.structs.replace(Limits(), **changed)


def raw(client: Client, data: bytes, end: bool = False) -> int:
    """Bytes on a request stream, whatever they are."""
    stream: int = client.quic.get_next_available_stream_id()
    client.quic.send_stream_data(stream, data, end)
    client.protocol.transmit()
    return stream


def frame(kind: int, payload: bytes) -> bytes:
    return encode_uint_var(kind) + encode_uint_var(len(payload)) + payload


@pytest.mark.parametrize(
    ("pseudo", "status"),
    [
        ([(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/")], 400),
        ([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a b"), (b":path", b"/")], 400),
        ([(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"x")], 400),
        ([(b":method", b"CONNECT"), (b":authority", b"a:443")], 400),
    ],
)
async def test_a_malformed_request_is_told_so(h3: H3World, pseudo: Any, status: int) -> None:
    async with h3.client() as client:
        assert (await client.answer(client.open("", pseudo=pseudo))).status == status
        assert (await client.ask("/next")).status == 200


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0x0, b"body"), FRAME_UNEXPECTED),  # DATA before HEADERS
        (frame(0x4, b""), FRAME_UNEXPECTED),  # SETTINGS on a request stream
        (frame(0x5, b"\x00"), FRAME_UNEXPECTED),  # a client's PUSH_PROMISE
        (frame(0x2, b""), FRAME_UNEXPECTED),  # HTTP/2's PRIORITY
        (frame(0x1, b"\x02\x00\x80"), QPACK_FAILED),  # a reference to a table that there is not
        (frame(0x1, b""), QPACK_FAILED),
        (frame(0x1, b"\xff" * 40), QPACK_FAILED),
    ],
)
async def test_a_broken_rule_ends_the_connection(h3: H3World, data: bytes, code: int) -> None:
    async with h3.client() as client:
        raw(client, data)
        await asyncio.wait_for(client.closed.wait(), 5)
        assert client.terminated.error_code == code


async def test_unknown_frames_and_streams_are_ignored(h3: H3World) -> None:
    async with h3.client() as client:
        before = client.http.send_headers

        def with_grease(stream: int, *arguments: Any, **named: Any) -> None:
            client.quic.send_stream_data(stream, frame(0x21 + 0x1F * 3, b"grease" * 1000))
            before(stream, *arguments, **named)

        client.http.send_headers = with_grease
        stream = client.open("/x")
        uni: int = client.quic.get_next_available_stream_id(is_unidirectional=True)
        client.quic.send_stream_data(uni, encode_uint_var(0x21) + b"whatever" * 5000)
        client.protocol.transmit()
        assert (await client.answer(stream)).body == b"hello /x"


async def test_a_head_that_is_too_large_is_refused_without_being_kept(h3: H3World) -> None:
    async with h3.client() as client:
        stream = client.open("/", *[(f"x{number}", "\x7f" * 50_000) for number in range(4)])
        assert (await client.answer(stream)).status == 431
        assert (await client.ask("/next")).status == 200
        (connection,) = h3.endpoint.connections
        assert connection._engine is not None
        assert sum(len(stream.buffer) for stream in connection._engine._stream.values()) < 1000


async def test_too_many_fields_are_refused(h3: H3World) -> None:
    async with h3.client() as client:
        assert (await client.ask("/", *[(f"x{number}", "") for number in range(101)])).status == 431


async def test_a_control_frame_that_is_too_large_ends_the_connection(h3: H3World) -> None:
    async with h3.client() as client:
        control = client.http._local_control_stream_id
        client.quic.send_stream_data(control, encode_uint_var(0x0D) + encode_uint_var(1 << 20))
        client.protocol.transmit()
        await asyncio.wait_for(client.closed.wait(), 5)
        assert client.terminated.error_code == EXCESSIVE_LOAD


@pytest.mark.parametrize("length", ["3", "5"])
async def test_a_body_of_another_length_is_cut(h3: H3World, length: str) -> None:
    taker = Taker()
    h3.endpoint._app = taker
    async with h3.client() as client:
        stream = client.open("/", ("content-length", length), method="POST", end=False)
        client.send(stream, b"four", end=True)
        sink = Sink((await taker.taken()).body)
        await until(lambda: sink.failed)
        assert (await client.answer(stream)).reset == 0x10E


async def test_a_body_that_is_too_large_is_refused() -> None:
    async with h3_running(await with_limits(body=1000)) as h3, h3.client() as client:
        stream = client.open("/live/x", method="POST", end=False)
        client.send(stream, b"x" * 2000)
        answer = await client.answer(stream)
        assert answer.status == 413
        assert answer.stopped == NO_ERROR


async def test_an_upload_that_nobody_takes_stops(h3: H3World) -> None:
    taker = Taker()
    h3.endpoint._app = taker
    async with h3.client() as client:
        stream = client.open("/", method="POST", end=False)
        client.send(stream, b"x" * 4_000_000, end=True)
        body = (await taker.taken()).body
        assert body is not None
        kept = await settled(lambda: body.received)
        assert kept <= 3 * taker.limits.buffered
        sink = Sink(body)
        await until(lambda: sink.ended)
        assert len(sink.data) == 4_000_000
        taker.seen[0].stream.respond(200, [], b"")
        await client.answer(stream)


async def test_uploads_that_nobody_takes_stop_together(h3: H3World) -> None:
    taker = Taker(await with_limits(h2_parked=1_000_000))
    h3.endpoint._app = taker
    async with h3.client() as client:
        streams = [client.open("/", method="POST", end=False) for _ in range(40)]
        for stream in streams:
            client.send(stream, b"x" * 500_000)
        await taker.taken(40)
        bodies = [exchange.body for exchange in taker.seen]
        kept = await settled(lambda: sum(body.buffered for body in bodies if body is not None))
        assert 1_000_000 < kept < 2_500_000


async def test_a_client_that_does_not_read_costs_little(h3: H3World) -> None:
    h3.origin.answer = lambda asked: page(b"x" * 8_000_000)
    async with h3.client(max_data=20_000, max_stream_data=20_000) as client:
        client.quic._write_connection_limits = lambda **_: None  # never any room
        client.quic._write_stream_limits = lambda **_: None
        client.open("/live/x")
        (connection,) = h3.endpoint.connections
        kept = await settled(connection.quic.backlog)
        assert 0 < kept < 2_000_000


async def test_a_client_that_does_not_read_is_ended() -> None:
    async with h3_running(await with_limits(body_timeout_s=0.05)) as h3:
        h3.origin.answer = lambda asked: page(b"x" * 1_000_000)
        async with h3.client(max_data=20_000, max_stream_data=20_000) as client:
            client.quic._write_connection_limits = lambda **_: None
            client.quic._write_stream_limits = lambda **_: None
            client.open("/live/x")
            await until(lambda: bool(h3.origin.asked))
            await look_until(h3, client.closed.is_set)


async def look_until(h3: H3World, condition: Callable[[], bool]) -> None:
    """Let connections look at the clock as a worker does."""
    async with asyncio.timeout(5):
        while not condition():
            h3.endpoint.check_timeouts()
            await asyncio.sleep(0.02)


async def test_more_is_not_begun_for_a_client_that_does_not_read() -> None:
    async with h3_running(await with_limits(h2_parked=300_000)) as h3:
        h3.origin.answer = lambda asked: page(b"x" * 200_000)
        async with h3.client(max_data=20_000, max_stream_data=20_000) as client:
            client.quic._write_connection_limits = lambda **_: None
            client.quic._write_stream_limits = lambda **_: None
            for _ in range(4):
                client.open("/live/x")
            await until(lambda: len(h3.origin.asked) >= 2)
            (connection,) = h3.endpoint.connections
            await settled(connection.quic.backlog)
            late = client.open("/live/late")
            assert (await client.answer(late)).reset == REQUEST_REJECTED


async def test_requests_cancelled_in_a_row_end_the_connection(h3: H3World) -> None:
    h3.origin.hold = asyncio.Event()
    async with h3.client() as client:
        for _ in range(300):
            stream = client.open("/live/x")
            client.quic.reset_stream(stream, 0x10C)
            client.quic.stop_stream(stream, 0x10C)
            client.protocol.transmit()
            await asyncio.sleep(0)
        await asyncio.wait_for(client.closed.wait(), 5)
        assert client.terminated.error_code == EXCESSIVE_LOAD
    h3.origin.hold.set()


async def test_more_streams_than_announced_are_not_taken() -> None:
    async with h3_running(await with_limits(h3_streams=10)) as h3:
        h3.origin.hold = asyncio.Event()
        async with h3.client() as client:
            streams = [client.open(f"/{number}") for number in range(30)]
            await h3.origin.until_asked(10)
            await settled(lambda: len(h3.origin.asked))
            assert len(h3.origin.asked) == 10
            h3.origin.hold.set()
            for stream in streams:
                assert (await client.answer(stream)).status == 200


async def test_an_idle_connection_is_closed() -> None:
    async with h3_running(await with_limits(idle_timeout_s=0.2)) as h3, h3.client() as client:
        await client.ask("/")
        await asyncio.wait_for(h3_gone(h3), 5)


async def h3_gone(h3: H3World) -> None:
    await until(lambda: not h3.endpoint.connections)


async def test_a_connection_kept_up_with_pings_alone_is_closed() -> None:
    async with h3_running(await with_limits(idle_timeout_s=0.3)) as h3, h3.client() as client:
        await client.ask("/")

        async def ping() -> None:
            while not client.closed.is_set():
                client.quic.send_ping(1)
                client.protocol.transmit()
                await asyncio.sleep(0.05)

        pinging = asyncio.ensure_future(ping())
        await look_until(h3, client.closed.is_set)
        assert client.terminated.error_code == NO_ERROR
        await pinging


async def test_a_body_that_stalls_ends_its_connection() -> None:
    async with h3_running(await with_limits(body_timeout_s=0.1)) as h3, h3.client() as client:
        stream = client.open("/live/x", method="POST", end=False)
        await until(lambda: any(stream in connection._streams for connection in h3.endpoint.connections))
        await look_until(h3, client.closed.is_set)


async def test_a_handshake_that_stalls_is_given_up_and_counted() -> None:
    async with h3_running(await with_limits(tls_handshake_s=0.1)) as h3:
        hello = await first_datagram(h3)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(hello, h3.address)
            await until(lambda: h3.endpoint.busy == 1)
            assert h3.endpoint.arriving
            await look_until(h3, lambda: not h3.endpoint.arriving)
        assert h3.endpoint.handshakes.timed_out == 1
        assert h3.endpoint.busy == 0


async def first_datagram(h3: H3World) -> bytes:
    """What a client sends first, taken on its way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as trap:
        trap.bind(("127.0.0.1", 0))
        trap.setblocking(False)
        async with h3.client(address=trap.getsockname(), wait=False) as client:
            client.protocol.transmit()
            data = await asyncio.get_running_loop().sock_recv(trap, 2048)
            client.quic._close_at = 0.0
            client.quic._state = client.quic._state.__class__.TERMINATED
            client.protocol._closed.set()
    return data


async def test_an_unknown_version_is_told_the_known_ones(h3: H3World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        cids = b"\x08" + b"d" * 8 + b"\x08" + b"s" * 8
        client.sendto((b"\xc0\x1a\x2a\x3a\x4a" + cids).ljust(1200, b"\x00"), h3.address)
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 2048), 5)
        assert answer[1:5] == b"\x00" * 4  # version negotiation
        assert answer[5:23] == b"\x08" + b"s" * 8 + b"\x08" + b"d" * 8
        assert b"\x00\x00\x00\x01" in answer[23:]
        # A short one, and one that is itself such an answer, are not answered: no reflection.
        client.sendto(b"\xc0\x1a\x2a\x3a\x4a" + cids + b"\x00" * 40, h3.address)
        answer = encode_quic_version_negotiation(
            source_cid=b"s" * 8, destination_cid=b"d" * 8, supported_versions=[1] * 400
        )
        client.sendto(answer, h3.address)
        async with h3.client() as other:
            assert (await other.ask("/")).status == 200
        with pytest.raises(BlockingIOError):
            client.recv(2048)


async def test_resets_without_state_are_bounded(h3: H3World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        for _ in range(400):
            client.sendto(b"\x40" + os.urandom(60), h3.address)
        async with h3.client() as other:
            assert (await other.ask("/")).status == 200
        answered = 0
        while True:
            try:
                data = client.recv(2048)
            except BlockingIOError:
                break
            answered += 1
            assert 21 <= len(data) < 61
        assert 0 < answered <= 200


async def test_a_worker_that_leaves_finishes_what_is_open(h3: H3World) -> None:
    h3.origin.hold = asyncio.Event()
    async with h3.client() as client:
        stream = client.open("/live/x")
        await h3.origin.until_asked()
        h3.endpoint.close()
        h3.edge.drain()
        h3.endpoint.check_timeouts()
        h3.origin.hold.set()
        assert (await client.answer(stream)).body == b"hello /live/x"
        await asyncio.wait_for(client.closed.wait(), 5)
        assert client.terminated.error_code == NO_ERROR
    for app in h3.apps:
        app.draining = False
    h3.serve()


async def test_a_request_that_crosses_with_the_goodbye_is_answered(h3: H3World) -> None:
    async with h3.client() as client:
        first = client.open("/live/x")
        assert (await client.answer(first)).status == 200
        h3.apps[0].draining = True
        h3.endpoint.check_timeouts()
        crossing = client.open("/live/crossing")  # on an idle connection that is about to end
        assert (await client.answer(crossing)).status == 200
        await asyncio.wait_for(client.closed.wait(), 5)
        assert client.terminated.error_code == NO_ERROR
    h3.apps[0].draining = False


async def test_a_request_behind_the_goaway_may_be_repeated(h3: H3World) -> None:
    h3.origin.hold = asyncio.Event()
    async with h3.client() as client:
        first = client.open("/live/x")
        await h3.origin.until_asked()
        (connection,) = h3.endpoint.connections
        connection.goaway()
        late = client.open("/live/late")
        assert (await client.answer(late)).reset == REQUEST_REJECTED
        h3.origin.hold.set()
        assert (await client.answer(first)).status == 200


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(st.binary(max_size=1300), st.binary(min_size=1200, max_size=1400)), max_size=5))
def test_no_datagram_breaks_the_endpoint(datagrams: list[bytes]) -> None:
    async def throw() -> None:
        async with h3_running() as h3:
            for data in datagrams:
                h3.endpoint._receive(data, ("127.0.0.1", 9), 0.0, forwarded=False)
            h3.endpoint._flush()

    asyncio.run(throw())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5))
def test_no_bytes_on_a_stream_break_a_connection(pieces: list[bytes]) -> None:
    async def throw() -> None:
        async with h3_running() as h3, h3.client() as client:
            for piece in pieces:
                raw(client, piece, end=len(piece) % 2 == 0)
            await asyncio.sleep(0.005)
            async with h3.client() as other:
                assert (await other.ask("/")).status == 200

    asyncio.run(throw())
