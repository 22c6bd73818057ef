"""Connections that nobody asks anything on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from time import time

from test_http_h1 import FakeApp
from test_http_h2 import open_client

from atoll.http.accept import Listener

QUIET_S = 60.0


async def until(check: Callable[[], bool]) -> None:
    """Let the listener work until `check` holds."""
    for _ in range(500):
        if check():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def connect() -> tuple[Listener, asyncio.StreamReader, asyncio.StreamWriter]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(FakeApp(), sock)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: h.example\r\n\r\n")
    assert await asyncio.wait_for(reader.read(65_536), 5)
    return listener, reader, writer


async def test_a_connection_without_its_first_bytes_is_arriving() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(FakeApp(), sock)
    assert not listener.arriving
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    await until(lambda: listener.arriving)
    assert not listener.connections
    writer.write(b"GET / HTTP/1.1\r\nHost: h.example\r\n\r\n")
    assert await asyncio.wait_for(reader.read(65_536), 5)
    await until(lambda: not listener.arriving)
    assert listener.connections
    writer.close()
    listener.close()


async def test_only_a_quiet_connection_is_closed() -> None:
    listener, reader, writer = await connect()
    listener.close_idle(time(), QUIET_S)
    assert len(listener.connections) == 1
    listener.close_idle(time() + QUIET_S + 1, QUIET_S)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    assert not listener.connections
    writer.close()
    listener.close()


async def test_a_request_under_way_is_not_quiet() -> None:
    listener, reader, writer = await connect()
    (connection,) = listener.connections
    writer.write(b"GET / HTTP/1.1\r\nHost:")
    await until(lambda: not connection.idle())
    listener.close_idle(time() + QUIET_S + 1, QUIET_S)
    writer.write(b" h.example\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(65_536), 5)).startswith(b"HTTP/1.1 200")
    writer.close()
    listener.close()


async def test_http2_is_told_that_it_is_the_end() -> None:
    listener, client = await open_client(FakeApp())
    await client.until(client.request("/"))
    listener.close_idle(time() + QUIET_S + 1, QUIET_S)
    while data := await asyncio.wait_for(client.reader.read(65_536), 5):
        for event in client.h2.receive_data(data):
            client._take(event)
    assert client.goaway
    listener.close()
