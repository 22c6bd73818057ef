"""WebSockets over HTTP/2 for clients that only speak HTTP/1.1: RFC 6455's handshake in, RFC 8441's out.

`python -m bench.websocket_bridge PORT LISTEN` listens on LISTEN and opens a connection of its own, with one
stream, to 127.0.0.1:PORT for every client, by an independent HTTP/2 library. Frames pass as they are.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import sys
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes

from bench.objects import HOST

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_STREAM: Final = 1
_DROPPED: Final = frozenset((b"host", b"connection", b"upgrade", b"sec-websocket-key"))
_CHOSEN: Final = frozenset((b"sec-websocket-extensions", b"sec-websocket-protocol"))
_WINDOW: Final = 2**24
_BLOCK: Final = 65_536
_LINGER_S: Final = 1.0


class Bridge:
    """One client, and its stream."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        authority: bytes = HOST.encode(),
    ) -> None:
        self._authority = authority
        self._client_in, self._client = client
        self._server_in, self._server = server
        config = h2.config.H2Configuration(
            client_side=True, header_encoding=False, validate_outbound_headers=False
        )
        self._h2 = h2.connection.H2Connection(config)
        self._key = b""
        self._waiting = bytearray()  # from the client, for the server's window
        self._opened = False
        self._client_done = False
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Until both sides have had enough."""
        line, *fields = (await self._client_in.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW})
        self._h2.increment_flow_control_window(_WINDOW)
        pairs = [(name.lower(), value.strip()) for name, _, value in (f.partition(b":") for f in fields)]
        self._key = dict(pairs)[b"sec-websocket-key"]
        self._request = [
            (b":method", b"CONNECT"),
            (b":protocol", b"websocket"),
            (b":scheme", b"http"),
            (b":path", line.split(b" ")[1]),
            (b":authority", self._authority),
            *(pair for pair in pairs if pair[0] not in _DROPPED),
        ]
        self._flush()
        reading = asyncio.create_task(self._read_client())
        try:
            await self._read_server()
        finally:
            reading.cancel()
        await self._part()

    async def _part(self) -> None:
        """Closed with something unread, a socket loses what is on its way: read on for a moment."""
        if self._client.is_closing():
            return
        with contextlib.suppress(OSError, TimeoutError):
            self._client.write_eof()
            async with asyncio.timeout(_LINGER_S):
                while await self._client_in.read(_BLOCK):
                    pass

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self._server.write(data)

    async def _read_server(self) -> None:
        with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
            while not self._over.is_set() and (data := await self._server_in.read(_BLOCK)):
                for event in self._h2.receive_data(data):
                    self._take(event)
                self._send_waiting()
                self._flush()
                await self._client.drain()

    def _take(self, event: h2.events.Event) -> None:
        if self._over.is_set():
            return  # what follows the end of a stream takes nothing back
        if isinstance(event, h2.events.RemoteSettingsChanged) and not self._opened:
            changed = event.changed_settings.get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
            if changed is None or changed.new_value != 1:
                self._fail(b"501 No extended CONNECT")
                return
            self._opened = True
            self._h2.send_headers(_STREAM, self._request)
        elif isinstance(event, h2.events.ResponseReceived):
            self._answer([(bytes(name), bytes(value)) for name, value in event.headers or []])
        elif isinstance(event, h2.events.DataReceived):
            self._client.write(event.data or b"")
            if event.flow_controlled_length:
                self._h2.acknowledge_received_data(event.flow_controlled_length, _STREAM)
        elif isinstance(event, h2.events.StreamEnded):
            self._over.set()
        elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
            self._client.transport.abort()
            self._over.set()

    def _answer(self, headers: list[tuple[bytes, bytes]]) -> None:
        status = dict(headers)[b":status"]
        if status != b"200":
            self._fail(status + b" Refused")
            return
        accept = base64.b64encode(hashlib.sha1(self._key + _GUID, usedforsecurity=False).digest())
        kept = [b"%b: %b\r\n" % field for field in headers if field[0] in _CHOSEN]
        self._client.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: %b\r\n%b\r\n" % (accept, b"".join(kept))
        )

    def _fail(self, status: bytes) -> None:
        self._client.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
        self._over.set()

    async def _read_client(self) -> None:
        with contextlib.suppress(ConnectionError, h2.exceptions.ProtocolError):
            while data := await self._client_in.read(_BLOCK):
                self._waiting += data
                self._send_waiting()
                self._flush()
                await self._server.drain()
            self._client_done = True
            self._send_waiting()
            self._flush()

    def _send_waiting(self) -> None:
        """What the windows have room for."""
        if not self._opened:
            return
        while self._waiting:
            room = min(self._h2.local_flow_control_window(_STREAM), self._h2.max_outbound_frame_size)
            if room <= 0:
                return
            self._h2.send_data(_STREAM, bytes(self._waiting[:room]))
            del self._waiting[:room]
        if self._client_done:
            self._client_done = False
            self._h2.end_stream(_STREAM)


async def serve(port: int, listen: int) -> None:
    """Bridges from `listen` to `port`, for ever."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server = await asyncio.open_connection("127.0.0.1", port)
            try:
                await Bridge((reader, writer), server).run()
            finally:
                server[1].close()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(one, "127.0.0.1", listen)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
