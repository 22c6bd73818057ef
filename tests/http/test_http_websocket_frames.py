"""WebSocket frames through the edge to a strict echo server and back (RFC 6455), over HTTP/1.1 and HTTP/2.

The edge looks at no frame. So whatever a client says, well-formed or not, has to arrive as it is, and the
server's verdict, too: the same table over both versions, frames whole and byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import msgspec
import pytest
import pytest_asyncio
from edge_world import HOST, WAIT_S, World, running
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bench.websocket_bridge import Bridge

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN: Final = 0x80
_MASK: Final = b"\x11\x22\x33\x44"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """A client's frame, its length in as few bytes as possible."""
    mask_bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        length = bytes((mask_bit | size,))
    elif size < 65_536:
        length = bytes((mask_bit | 126,)) + size.to_bytes(2, "big")
    else:
        length = bytes((mask_bit | 127,)) + size.to_bytes(8, "big")
    key = _MASK * (size // 4 + 1)
    body = int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big") if masked else 0
    content = body.to_bytes(size, "big") if masked else payload
    return bytes(((FIN if fin else 0) | rsv << 4 | opcode,)) + length + (_MASK if masked else b"") + content


def close(code: int, reason: bytes = b"") -> bytes:
    """A client's close."""
    return frame(CLOSE, struct.pack(">H", code) + reason)


class Said(NamedTuple):
    """A frame of the server's; a close by its code."""

    opcode: int
    payload: bytes | int


class Case(NamedTuple):
    """What a client sends, and all that it hears before the connection ends.

    `end` is sent once it has heard all but the last: a server may answer a close before what came with it.
    """

    name: str
    sent: bytes
    heard: list[Said]
    end: bytes = b""
    more: bytes = b""  # in the same piece, as if the client had not noticed


def ok(name: str, *frames: bytes, echo: list[Said]) -> Case:
    """What is fine: the client ends it."""
    return Case(name, b"".join(frames), [*echo, Said(CLOSE, 1000)], close(1000))


def wrong(name: str, *frames: bytes, code: int = 1002) -> Case:
    """What the server ends."""
    return Case(name, b"".join(frames), [Said(CLOSE, code)], more=frame(TEXT, b"never"))


SIZES: Final = (0, 1, 125, 126, 127, 128, 65_535, 65_536, 300_000)
EURO: Final = "€".encode()
CASES: Final = [
    *(ok(f"text of {n}", frame(TEXT, b"a" * n), echo=[Said(TEXT, b"a" * n)]) for n in SIZES),
    *(ok(f"bytes, {n}", frame(BINARY, b"\xfe" * n), echo=[Said(BINARY, b"\xfe" * n)]) for n in SIZES),
    ok("two fragments", frame(TEXT, b"ab", fin=False), frame(CONT, b"c"), echo=[Said(TEXT, b"abc")]),
    ok(
        "empty fragments", frame(TEXT, fin=False), frame(CONT, fin=False), frame(CONT), echo=[Said(TEXT, b"")]
    ),
    ok(
        "a ping between fragments",
        frame(TEXT, b"a", fin=False),
        frame(PING, b"p"),
        frame(CONT, b"b"),
        echo=[Said(PONG, b"p"), Said(TEXT, b"ab")],
    ),
    ok(
        "many fragments",
        frame(TEXT, b"a", fin=False),
        frame(CONT, b"b", fin=False) * 200,
        frame(CONT),
        echo=[Said(TEXT, b"a" + b"b" * 200)],
    ),
    ok("many messages", frame(TEXT, b"m") * 500, echo=[Said(TEXT, b"m")] * 500),
    ok("ping", frame(PING), echo=[Said(PONG, b"")]),
    ok("ping with 125 bytes", frame(PING, b"p" * 125), echo=[Said(PONG, b"p" * 125)]),
    ok("a pong that nobody asked for", frame(PONG, b"x"), frame(TEXT, b"a"), echo=[Said(TEXT, b"a")]),
    ok(
        "a character in two",
        frame(TEXT, EURO[:1], fin=False),
        frame(CONT, EURO[1:]),
        echo=[Said(TEXT, EURO)],
    ),
    *(
        Case(f"close with {c}", close(c), [Said(CLOSE, c)])
        for c in (1000, 1001, 1003, 1007, 1009, 1011, 3000, 4999)
    ),
    Case("close without a code", frame(CLOSE), [Said(CLOSE, b"")]),
    Case("close with a reason", close(1000, b"bye"), [Said(CLOSE, 1000)]),
    Case("close and then more", close(1000), [Said(CLOSE, 1000)], more=frame(TEXT, b"never")),
    *(wrong(f"close with {c}", close(c)) for c in (0, 999, 1004, 1005, 1006, 1016, 2999, 5000)),
    wrong("close with one byte", frame(CLOSE, b"\x03")),
    wrong("close with a reason of no UTF-8", close(1000, b"\xff"), code=1007),
    wrong("close with 126 bytes", close(1000, b"a" * 124)),
    wrong("ping with 126 bytes", frame(PING, b"p" * 126)),
    wrong("ping in fragments", frame(PING, b"p", fin=False), frame(CONT)),
    wrong("continuation of nothing", frame(CONT, b"a")),
    wrong("a message inside another", frame(TEXT, b"a", fin=False), frame(TEXT, b"b")),
    *(wrong(f"reserved bit {bit}", frame(TEXT, b"a", rsv=bit)) for bit in (1, 2, 4)),
    *(wrong(f"opcode {opcode}", frame(opcode, b"a")) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
    wrong("a frame without a mask", frame(TEXT, b"a", masked=False)),
    wrong("no UTF-8", frame(TEXT, b"\xff\xfe"), code=1007),
    wrong("a character that is cut off", frame(TEXT, EURO[:2]), code=1007),
    wrong("a surrogate", frame(TEXT, b"\xed\xa0\x80"), code=1007),
]


async def echo(connection: ServerConnection) -> None:
    """All messages; `crash` ends the connection without a word, `protocol` says which was chosen."""
    with contextlib.suppress(ConnectionClosed):
        async for message in connection:
            if message == "crash":
                connection.transport.abort()
                return
            await connection.send(connection.subprotocol or "none" if message == "protocol" else message)


def chosen(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """`chat`, to whoever speaks it."""
    return Subprotocol("chat") if "chat" in offered else None


class Echo(NamedTuple):
    """An edge before an echo server, and where to connect to for each version on the edge's side."""

    world: World
    h1: tuple[str, int]
    h2: tuple[str, int]
    seen: list[ServerConnection]

    def address(self, version: str) -> tuple[str, int]:
        """Where to connect to."""
        return self.h1 if version == "h1" else self.h2


@pytest_asyncio.fixture
async def behind() -> AsyncIterator[Echo]:
    """It runs."""
    seen: list[ServerConnection] = []

    async def noted(connection: ServerConnection) -> None:
        seen.append(connection)
        await echo(connection)

    async with (
        running() as world,
        serve(noted, "127.0.0.1", 0, max_size=None, ping_interval=None, select_subprotocol=chosen) as server,
    ):
        world.origin.stop()
        world.origin.port = next(iter(server.sockets)).getsockname()[1]
        snapshot = world.snapshot(2)
        network = snapshot.network
        origin = msgspec.structs.replace(network.origins[0], health_path="")
        network = msgspec.structs.replace(network, origins=(origin,))
        world.edge.apply(msgspec.structs.replace(snapshot, network=network))

        async def bridge(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            edge = await world.connect()
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await Bridge((reader, writer), edge, HOST).run()
            edge[1].close()
            writer.close()

        bridges = await asyncio.start_server(bridge, "127.0.0.1", 0)
        async with bridges:
            yield Echo(world, world.address, bridges.sockets[0].getsockname()[:2], seen)
        world.origin = type(world.origin)()
        await world.origin.start()


async def opened(behind: Echo, version: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A WebSocket, ready for frames."""
    reader, writer = await asyncio.open_connection(*behind.address(version))
    writer.write(
        b"GET /chat HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), WAIT_S)
    assert head.startswith(b"HTTP/1.1 101 ")
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return reader, writer


def read_frames(data: bytes) -> list[Said]:
    """A server's frames; none is cut short, masked or fragmented."""
    found, at = [], 0
    while at < len(data):
        first, size, at = data[at], data[at + 1], at + 2
        assert first & 0xF0 == FIN
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        payload, at = data[at : at + size], at + size
        assert len(payload) == size
        closes = first & 15 == CLOSE and size >= 2
        found.append(Said(first & 15, int.from_bytes(payload[:2], "big") if closes else payload))
    return found


async def conversation(behind: Echo, version: str, case: Case, pieces: list[bytes]) -> list[Said]:
    """All that is heard."""
    reader, writer = await opened(behind, version)
    for piece in pieces:
        writer.write(piece)
        await asyncio.sleep(0)
    data = b""
    if case.end:
        first = b"".join(
            frame(s.opcode, s.payload, masked=False) for s in case.heard if isinstance(s.payload, bytes)
        )
        data = await asyncio.wait_for(reader.readexactly(len(first)), WAIT_S)
        writer.write(case.end)
    while more := await asyncio.wait_for(reader.read(65_536), WAIT_S):
        data += more
    writer.close()
    return read_frames(data)


def test_there_are_no_two_cases_of_one_name() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_frames_pass_as_they_are(behind: Echo, case: Case, version: str) -> None:
    assert await conversation(behind, version, case, [case.sent + case.more]) == case.heard


@pytest.mark.parametrize("version", ["h1", "h2"])
async def test_frames_may_come_byte_by_byte(behind: Echo, version: str) -> None:
    short = [case for case in CASES if len(case.sent) < 60]
    assert len(short) > 20
    for case in short:
        pieces = [case.sent[at : at + 1] for at in range(len(case.sent))]
        assert await conversation(behind, version, case, pieces) == case.heard, case.name


@pytest.mark.parametrize("version", ["h1", "h2"])
async def test_extensions_and_subprotocols_are_agreed_upon_by_the_ends(behind: Echo, version: str) -> None:
    host, port = behind.address(version)
    url = f"ws://shop.test:{port}/chat"
    async with connect(
        url, host=host, port=port, subprotocols=[Subprotocol("chat")], max_size=None
    ) as client:
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        await client.send("protocol")
        assert await client.recv() == "chat"
        for message in ("a" * 100_000, b"\0" * 1_000_000, "", "ä" * 70_000):
            await client.send(message)
            assert await client.recv() == message
    async with connect(url, host=host, port=port, compression=None) as plain:
        assert plain.response is not None
        assert "Sec-WebSocket-Extensions" not in plain.response.headers
        await plain.send("protocol")
        assert await plain.recv() == "none"


@pytest.mark.parametrize("version", ["h1", "h2"])
async def test_each_end_learns_that_the_other_has_gone(behind: Echo, version: str) -> None:
    reader, writer = await opened(behind, version)
    writer.write(frame(TEXT, b"crash"))
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), WAIT_S) == b""
    reader, writer = await opened(behind, version)
    await asyncio.sleep(0)
    writer.transport.abort()
    await asyncio.wait_for(behind.seen[-1].wait_closed(), WAIT_S)
    assert behind.world.edge.tunnels.open == 0


@pytest.mark.parametrize("version", ["h1", "h2"])
async def test_many_at_once_do_not_mix(behind: Echo, version: str) -> None:
    async def one(number: int) -> None:
        reader, writer = await opened(behind, version)
        for turn in range(5):
            text = b"%d of %d" % (turn, number)
            writer.write(frame(TEXT, text))
            assert await asyncio.wait_for(reader.readexactly(len(text) + 2), WAIT_S) == b"\x81%c%b" % (
                len(text),
                text,
            )
        writer.write(close(1000))
        assert read_frames(await asyncio.wait_for(reader.read(), WAIT_S)) == [Said(CLOSE, 1000)]
        writer.close()

    await asyncio.gather(*(one(number) for number in range(30)))
