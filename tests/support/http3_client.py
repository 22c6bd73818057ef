"""HTTP/3 clients of two independent libraries behind one face, and a bad network to reach servers by."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Callable
from importlib import import_module
from types import SimpleNamespace
from typing import Any, Final

WAIT_S: Final = 20.0
LIBRARIES: Final = ("aioquic", "qh3")
Fields = list[tuple[bytes, bytes]]


class Answer:
    """What has come back on a stream."""

    def __init__(self) -> None:
        self.informed: list[dict[str, str]] = []
        self.fields: list[tuple[str, str]] = []
        self._pieces: list[bytes] = []
        self.trailers: list[tuple[str, str]] = []
        self.reset: int | None = None
        self.stopped: int | None = None
        self.done = asyncio.Event()

    @property
    def status(self) -> int:
        """Of the final response; 0 before it has come."""
        return int(dict(self.fields).get(":status", 0))

    @property
    def body(self) -> bytes:
        """As far as it has come."""
        return b"".join(self._pieces)

    def add(self, data: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(data)

    def field(self, name: str) -> str:
        """A field's values, "" if it has none."""
        return ", ".join(value for key, value in self.fields if key == name)


def library(name: str) -> SimpleNamespace:
    """The parts of a library that are used here."""
    return SimpleNamespace(
        connect=import_module(f"{name}.asyncio.client").connect,
        protocol=import_module(f"{name}.asyncio.protocol").QuicConnectionProtocol,
        configuration=import_module(f"{name}.quic.configuration").QuicConfiguration,
        h3=import_module(f"{name}.h3.connection"),
        h3_events=import_module(f"{name}.h3.events"),
        events=import_module(f"{name}.quic.events"),
    )


class Client:
    """One connection: what has been answered on it, by stream."""

    def __init__(self, parts: SimpleNamespace, protocol: Any, host: str) -> None:
        self.parts = parts
        self.protocol = protocol
        self.quic = protocol._quic
        self.host = host
        self.http = parts.h3.H3Connection(self.quic)
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.terminated: Any = None
        self.closed = asyncio.Event()
        self.resumed = False
        self.early_accepted = False

    def open(
        self,
        path: str,
        *more: tuple[str, str],
        method: str = "GET",
        end: bool = True,
        pseudo: Fields | None = None,
    ) -> int:
        """Send a request's head; its stream."""
        stream: int = self.quic.get_next_available_stream_id()
        head = pseudo or [
            (b":method", method.encode()),
            (b":scheme", b"https"),
            (b":authority", self.host.encode()),
            (b":path", path.encode()),
        ]
        self.answers[stream] = Answer()
        self.http.send_headers(stream, head + [(n.encode(), v.encode()) for n, v in more], end_stream=end)
        self.protocol.transmit()
        return stream

    def send(self, stream: int, data: bytes, end: bool = False) -> None:
        """A piece of a request's body."""
        self.http.send_data(stream, data, end_stream=end)
        self.protocol.transmit()

    async def answer(self, stream: int) -> Answer:
        """Wait until a stream has been answered, or reset."""
        answer = self.answers[stream]
        await asyncio.wait_for(answer.done.wait(), WAIT_S)
        return answer

    async def ask(self, path: str, *more: tuple[str, str], method: str = "GET", body: bytes = b"") -> Answer:
        """A whole request and its answer."""
        stream = self.open(path, *more, method=method, end=not body)
        if body:
            self.send(stream, body, end=True)
        return await self.answer(stream)

    def on_event(self, event: Any) -> None:
        """An event of the transport."""
        events = self.parts.events
        if isinstance(event, events.ConnectionTerminated):
            self.terminated = event
            self.closed.set()
            for answer in self.answers.values():
                answer.done.set()
        elif isinstance(event, events.HandshakeCompleted):
            self.resumed, self.early_accepted = event.session_resumed, event.early_data_accepted
        elif isinstance(event, events.StreamReset) and event.stream_id in self.answers:
            self.answers[event.stream_id].reset = event.error_code
            self.answers[event.stream_id].done.set()
        elif isinstance(event, events.StopSendingReceived) and event.stream_id in self.answers:
            self.answers[event.stream_id].stopped = event.error_code
        for found in self.http.handle_event(event):
            self._on_http(found)

    def _on_http(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", -1))
        if answer is None:
            return
        if isinstance(event, self.parts.h3_events.DataReceived):
            answer.add(event.data)
        elif hasattr(event, "headers"):
            fields = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
            if dict(fields).get(":status", "").startswith("1"):
                answer.informed.append(dict(fields))
            elif answer.fields:
                answer.trailers = fields
            else:
                answer.fields = fields
        if getattr(event, "stream_ended", False):
            answer.done.set()


@contextlib.asynccontextmanager
async def connected(
    address: tuple[str, int],
    host: str = "shop.test",
    *,
    using: str = "aioquic",
    ticket: Any = None,
    on_ticket: Callable[[Any], None] | None = None,
    wait: bool = True,
    **settings: Any,
) -> AsyncIterator[Client]:
    """A client's connection. `settings` are the library's configuration."""
    parts = library(using)
    configuration = parts.configuration(
        is_client=True,
        alpn_protocols=["h3"],
        verify_mode=ssl.CERT_NONE,
        server_name=host,
        session_ticket=ticket,
        **settings,
    )
    made: list[Client] = []

    class Talk(parts.protocol):  # type: ignore[misc, name-defined]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            made.append(Client(parts, self, host))

        def quic_event_received(self, event: Any) -> None:
            made[0].on_event(event)

    async with parts.connect(
        address[0],
        address[1],
        configuration=configuration,
        create_protocol=Talk,
        session_ticket_handler=on_ticket,
        wait_connected=wait,
    ):
        yield made[0]


class BadNetwork:
    """A UDP relay that loses and delays datagrams, the same ones for the same seed."""

    def __init__(self, target: tuple[str, int], seed: int, lost: float, delayed: float) -> None:
        self._target = target
        self._random = random.Random(seed)
        self._lost, self._delayed = lost, delayed
        self._ways: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self.address = ("127.0.0.1", 0)
        self.passed = self.dropped = 0
        self.open = True

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        relay = self

        class Outside(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
                task = loop.create_task(relay._to_server(data, client))
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        tasks: set[asyncio.Task[None]] = set()
        self._transport, _ = await loop.create_datagram_endpoint(Outside, local_addr=self.address)
        self.address = self._transport.get_extra_info("sockname")

    async def _to_server(self, data: bytes, client: tuple[str, int]) -> None:
        way = self._ways.get(client)
        if way is None:
            assert self._transport is not None
            relay, transport = self, self._transport

            class Inside(asyncio.DatagramProtocol):
                def datagram_received(self, data: bytes, _address: tuple[str, int]) -> None:
                    relay._pass(transport, data, client)

            loop = asyncio.get_running_loop()
            way, _ = await loop.create_datagram_endpoint(Inside, remote_addr=self._target)
            self._ways[client] = way
        self._pass(way, data, None)

    def _pass(self, way: asyncio.DatagramTransport, data: bytes, to: tuple[str, int] | None) -> None:
        if not self.open or self._random.random() < self._lost:
            self.dropped += 1
            return
        self.passed += 1
        if self._random.random() < self._delayed:
            delay_s = self._random.uniform(0.001, 0.02)
            asyncio.get_running_loop().call_later(delay_s, self._send, way, data, to)
        else:
            self._send(way, data, to)

    def move(self) -> None:
        """From now on the server sees every client at another address (a NAT that forgot)."""
        self._ways.clear()

    @staticmethod
    def _send(way: asyncio.DatagramTransport, data: bytes, to: tuple[str, int] | None) -> None:
        if not way.is_closing():
            way.sendto(data, to)

    def stop(self) -> None:
        """Close everything."""
        for transport in (self._transport, *self._ways.values()):
            if transport is not None:
                transport.close()
