"""Connections that say nothing yet, and those that claim to come from elsewhere."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from edge_world import read_response, until
from test_http_h1 import FakeApp
from tls_files import write_certificate

from atoll.http.accept import Listener
from atoll.http.limits import Limits
from atoll.http.proxy_protocol import build
from atoll.http.tls import CertificateStore

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
FORGED = build("198.18.9.10", 1234, "192.0.2.1", 80)


def listen(app: FakeApp, proxies: frozenset[str] | None = None) -> tuple[Listener, tuple[str, int]]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(app, sock) if proxies is None else Listener(app, sock, proxies=proxies)
    return listener, sock.getsockname()


@pytest.mark.parametrize(
    ("proxies", "source", "believed"),
    [
        (frozenset({"127.0.0.2"}), "127.0.0.2", True),
        (frozenset({"127.0.0.2"}), "127.0.0.3", False),
        (frozenset(), "127.0.0.1", False),
    ],
)
async def test_only_a_trusted_peer_may_speak_for_another(
    proxies: frozenset[str], source: str, believed: bool
) -> None:
    app = FakeApp()
    listener, address = listen(app, proxies)
    reader, writer = await asyncio.open_connection(*address, local_addr=(source, 0))
    writer.write(FORGED + GET)
    if believed:
        assert (await read_response(reader)).field("x-seen") == "198.18.9.10"
    else:
        data = await asyncio.wait_for(reader.read(), 5)
        assert data == b"" or data.startswith(b"HTTP/1.1 400 ")
        assert not [exchange for exchange in app.seen if exchange.conn.client_ip != source]
    writer.close()
    listener.close()


async def test_a_peer_that_is_not_trusted_may_still_speak_for_itself() -> None:
    listener, address = listen(FakeApp(), frozenset())
    reader, writer = await asyncio.open_connection(*address)
    writer.write(GET)
    assert (await read_response(reader)).field("x-seen") == "127.0.0.1"
    writer.close()
    listener.close()


@pytest.mark.parametrize("said", [b"", b"P", b"\r\n\r\n\x00"])
async def test_who_has_not_spoken_counts_as_a_connection(said: bytes) -> None:
    app = FakeApp(Limits(connections=3))
    listener, address = listen(app)
    silent = [await asyncio.open_connection(*address) for _ in range(3)]
    for _, writer in silent:
        writer.write(said)
    await until(lambda: listener.busy == 3)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(GET)
    answer = await read_response(reader)
    assert (answer.status, answer.field("retry-after")) == (503, "2")
    writer.close()
    listener.close()
    for _, writer in silent:
        writer.close()


async def test_who_leaves_without_a_word_makes_room() -> None:
    listener, address = listen(FakeApp(Limits(connections=1)))
    for _ in range(3):
        reader, writer = await asyncio.open_connection(*address)
        await until(lambda: listener.busy == 1)
        writer.close()
        await until(lambda: listener.busy == 0)
    reader, writer = await asyncio.open_connection(*address)
    writer.write(GET)
    assert (await read_response(reader)).status == 200
    writer.close()
    listener.close()


async def test_a_listener_knows_of_handshakes_under_way(tmp_path: Path) -> None:
    write_certificate(tmp_path, "localhost")
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(FakeApp(), sock, CertificateStore(tmp_path, "localhost").default)
    _, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"\x16\x03\x01")  # the beginning of a ClientHello
    await until(lambda: listener.arriving)
    assert listener.busy == 1
    writer.close()
    await until(lambda: not listener.arriving)
    listener.close()


async def test_a_listener_knows_of_connections_that_have_not_spoken() -> None:
    listener, address = listen(FakeApp())
    assert not listener.arriving
    reader, writer = await asyncio.open_connection(*address)
    await until(lambda: listener.arriving)
    listener.close()
    writer.write(GET)
    assert (await read_response(reader)).status == 200
    await until(lambda: not listener.arriving)
    writer.close()
