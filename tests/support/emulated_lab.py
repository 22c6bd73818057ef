"""A small emulated Internet for tests: hub, gateway and speakers for real, PoPs that only read PROXY v2."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import time

import msgspec

from atoll.anycast.emulated import EmulatedSpeaker
from atoll.anycast.speaker import Announcement, RouteAcknowledged, SpeakerEvent
from atoll.config.spec import NetworkSpec, PopSpec
from atoll.http import proxy_protocol
from atoll.internet.laptop import laptop_network
from atoll.internet.world import default_world
from atoll.lab.flows import Flow
from atoll.lab.gateway import Gateway
from atoll.lab.hub import Change, Hub

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[str, proxy_protocol.Parsed, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_proxy(reader: asyncio.StreamReader) -> proxy_protocol.Parsed:
    """The PROXY header at the start of a connection."""
    head = await reader.readexactly(16)
    parsed = proxy_protocol.parse(head + await reader.readexactly(int.from_bytes(head[14:16], "big")))
    assert parsed is not None
    return parsed


async def answer_http(
    code: str, parsed: proxy_protocol.Parsed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Keep-alive HTTP whose body tells what the PROXY header said."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /slow"):
            await asyncio.Event().wait()
        body = f"{parsed.source_ip} {parsed.dest_ip} {parsed.dest_port} {parsed.source_port}".encode()
        fields = f"X-Edge-Location: {code}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        writer.write(b"HTTP/1.1 200 OK\r\n" + fields + body)


class FakePop:
    """A PoP's unicast side: one loopback port for both services."""

    def __init__(self, code: str, handler: Handler = answer_http) -> None:
        self.code = code
        self.port = 0
        self.opened = asyncio.Event()
        self._handler = handler
        self._server: asyncio.AbstractServer | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 16)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more and drop every connection."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            parsed = await read_proxy(reader)
            self.opened.set()
            await self._handler(self.code, parsed, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


class WatchedGateway(Gateway):
    """A gateway that one can wait for to be idle."""

    def __init__(self, network: NetworkSpec, latency: str) -> None:
        super().__init__(network, latency)
        self._news = asyncio.Event()

    def ended(self, flow: Flow) -> None:
        """A flow has ended."""
        super().ended(flow)
        self._news.set()

    async def idle(self) -> None:
        """Wait until no flow is open."""
        while self.flows:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), 5)


class Lab:
    """PoPs, their speakers, the Internet and its users."""

    def __init__(self, home: Path, pops: tuple[FakePop, ...], latency: str) -> None:
        self.pops = {pop.code: pop for pop in pops}
        self.socket = home / "internet.sock"
        self.network = _network(pops)
        self.gateway = WatchedGateway(self.network, latency)
        self.changes: list[Change] = []
        self.hub = Hub(default_world().graph, self.network, self._changed, time, latency)
        self.speakers: dict[str, EmulatedSpeaker] = {}
        self._acknowledged: dict[str, asyncio.Event] = {}
        self._ports: dict[tuple[int, bool], int] = {}
        self._server: asyncio.AbstractServer | None = None

    def _changed(self, change: Change) -> None:
        self.changes.append(change)
        self.gateway.changed(change)

    async def start(self) -> None:
        """Bring everything up; every PoP announces."""
        self._server = await self.hub.serve(self.socket)
        for service in (80, 443):
            for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                sock = socket.socket(family)
                sock.bind((address, 0))
                self._ports[service, family == socket.AF_INET6] = sock.getsockname()[1]
                await self.gateway.listen(sock, service)
        for code in self.pops:
            await self.announce(code)

    async def stop(self) -> None:
        """Take everything down."""
        self.gateway.close()
        for speaker in self.speakers.values():
            await speaker.close()
        for pop in self.pops.values():
            pop.stop()
        if self._server is not None:
            self._server.close()

    async def announce(self, code: str, prepend: int = 0, communities: tuple[str, ...] = ()) -> None:
        """Have a PoP announce every prefix; returns when the Internet knows."""
        if code not in self.speakers:
            up = self._acknowledged[code] = asyncio.Event()

            def on_event(event: SpeakerEvent) -> None:
                if isinstance(event, RouteAcknowledged):
                    up.set()

            asn = next(pop.asn for pop in self.network.pops if pop.code == code)
            self.speakers[code] = EmulatedSpeaker(self.socket, code, asn, on_event)
            for prefix in self.network.prefixes:
                await self.speakers[code].announce(Announcement(prefix=prefix))
            await self.speakers[code].open()
            await up.wait()
        for prefix in self.network.prefixes:
            route = Announcement(prefix=prefix, prepend=prepend, communities=communities)
            await self.speakers[code].announce(route)

    @property
    def address(self) -> tuple[str, int]:
        """Where the gateway listens for http."""
        return "127.0.0.1", self._ports[80, False]

    async def connect(self, service: int = 80, v6: bool = False) -> Streams:
        """A user's connection to the gateway."""
        return await asyncio.open_connection("::1" if v6 else "127.0.0.1", self._ports[service, v6])


def _network(pops: tuple[FakePop, ...]) -> NetworkSpec:
    ports = {pop.code: pop.port for pop in pops}

    def placed(pop: PopSpec) -> PopSpec:
        port = ports[pop.code]
        return msgspec.structs.replace(pop, http_port=port, https_port=port)

    network = laptop_network()
    return msgspec.structs.replace(
        network, pops=tuple(placed(pop) for pop in network.pops if pop.code in ports)
    )


@contextlib.asynccontextmanager
async def lab(
    home: Path, *codes: str, latency: str = "off", handler: Handler = answer_http
) -> AsyncIterator[Lab]:
    """A running lab with the PoPs `codes`."""
    pops = tuple(FakePop(code, handler) for code in codes)
    for pop in pops:
        await pop.start()
    running = Lab(home, pops, latency)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def get(streams: Streams, host: str, target: str = "/") -> tuple[str, str]:
    """One request on an open connection: the PoP that answered and its body.

    Raises:
        ConnectionResetError: the connection was reset.
    """
    reader, writer = streams
    if writer.is_closing():
        raise ConnectionResetError("reset before the request")
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("ended without an answer") from error
    fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    body = await reader.readexactly(int(fields["Content-Length"]))
    return fields["X-Edge-Location"], body.decode()
