"""The h2 engine against an independent client implementation (hyper-h2)."""

import asyncio
import socket

import h2.config
import h2.connection
import h2.events
from test_http_h1 import FakeApp

from atoll.http.accept import Listener
from atoll.http.limits import Limits


class Client:
    """Sends requests on one connection and collects the responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.bodies: dict[int, bytes] = {}
        self.heads: dict[int, dict[str, str]] = {}
        self.ended: set[int] = set()
        self.goaway = False

    def request(self, path: str, body: bytes | None = None) -> int:
        stream_id: int = self.h2.get_next_available_stream_id()
        method = "GET" if body is None else "POST"
        head = [(":method", method), (":path", path), (":scheme", "http"), (":authority", "h.example")]
        self.h2.send_headers(stream_id, head, end_stream=body is None)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=True)
        return stream_id

    async def until(self, *streams: int) -> None:
        self.writer.write(self.h2.data_to_send())
        while not self.ended.issuperset(streams):
            data = await asyncio.wait_for(self.reader.read(65_536), 5)
            assert data, "the server closed"
            for event in self.h2.receive_data(data):
                self._take(event)
            self.writer.write(self.h2.data_to_send())

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.heads[event.stream_id] = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = True


async def open_client(app: FakeApp) -> tuple[Listener, Client]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    listener = Listener(app, sock)
    return listener, Client(*await asyncio.open_connection(*sock.getsockname()))


async def test_many_streams_at_once() -> None:
    app = FakeApp()
    listener, client = await open_client(app)
    streams = [client.request(f"/{n}") for n in range(50)]
    await client.until(*streams)
    client.writer.close()
    listener.close()
    assert [client.bodies[s] for s in streams] == [b"GET h.example/%d" % n for n in range(50)]
    assert {client.heads[s][":status"] for s in streams} == {"200"}


async def test_a_body_larger_than_the_windows_is_echoed() -> None:
    app = FakeApp()
    listener, client = await open_client(app)
    stream = client.request("/", b"x" * 16_000)
    await client.until(stream)
    client.writer.close()
    listener.close()
    assert client.bodies[stream] == b"x" * 16_000


async def test_a_known_request_is_answered_hot() -> None:
    app = FakeApp()
    listener, client = await open_client(app)
    first = client.request("/remember")
    await client.until(first)
    second = client.request("/remember")
    await client.until(second)
    client.writer.close()
    listener.close()
    assert client.bodies[second] == b"hot"
    assert client.heads[second]["x-hot"] == "1"
    assert app.hot_count == 1


async def test_goaway_comes_before_the_engine_gives_up() -> None:
    app = FakeApp(Limits(h2_requests=3))
    listener, client = await open_client(app)
    streams = [client.request(f"/{n}") for n in range(3)]
    await client.until(*streams)
    while not client.goaway:
        for event in client.h2.receive_data(await asyncio.wait_for(client.reader.read(65_536), 5)):
            client._take(event)
    client.writer.close()
    listener.close()
    assert len(client.bodies) == 3
