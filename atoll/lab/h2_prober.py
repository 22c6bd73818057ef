"""An open-loop prober that asks over HTTP/2: streams on a few connections, each request once.

It behaves as RFC 9113 §6.8 wants: after a GOAWAY it opens no more streams there, and waits for those that are
open. A request fails when its stream is refused or reset, or when its connection ends before its answer.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, cast

import zttp

from atoll.lab.prober import TIMEOUT_S, Sample

MAX_STREAMS: Final = 32  # open at once on one connection; more open another
_SWEEP_S: Final = 0.1


class H2Prober:
    """Asks one URL at a steady rate over TLS and keeps a sample of each request."""

    def __init__(self, address: tuple[str, int], host: str, path: str, rate: float) -> None:
        self._address = address
        self._host = host
        self.head = [
            (b"host", host.encode()),
            (b"accept", b"*/*"),
        ]
        self.path = path.encode()
        self._rate = rate
        self._tls = ssl.create_default_context()
        self._tls.check_hostname = False  # it is asked of the PoP's own address
        self._tls.verify_mode = ssl.CERT_NONE
        self._tls.set_alpn_protocols(["h2"])
        self._loop = asyncio.get_running_loop()
        self._connections: set[_Connection] = set()
        self._opening: asyncio.Task[None] | None = None
        self._waiting: list[Sample] = []
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._began_s = 0.0
        self._news = asyncio.Event()
        self.samples: list[Sample] = []
        self.connections = 0  # opened

    async def start(self) -> None:
        """Begin asking, on a connection that is there."""
        await self._open()
        self._began_s = self._loop.time()
        self._tick()
        self._sweep()

    async def stop(self) -> None:
        """Ask no more, and wait until all that was asked has ended one way or the other."""
        self._timers.pop("tick").cancel()
        while self._opening or self._waiting or any(c.open for c in self._connections):
            self._news.clear()
            await self._news.wait()
        self._timers.pop("sweep").cancel()
        for connection in tuple(self._connections):
            connection.close()

    def _tick(self) -> None:
        now_s = self._loop.time()
        while (due_s := self._began_s + len(self.samples) / self._rate) <= now_s:
            sample = Sample(due_s)
            self.samples.append(sample)
            self._ask(sample)
        self._timers["tick"] = self._loop.call_at(due_s, self._tick)

    def _ask(self, sample: Sample) -> None:
        for connection in self._connections:
            if connection.usable:
                connection.ask(sample)
                return
        self._waiting.append(sample)
        if self._opening is None:
            self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, connection = await self._loop.create_connection(
                    lambda: _Connection(self), *self._address, ssl=self._tls, server_hostname=self._host
                )
        except (OSError, TimeoutError) as error:
            self._give_up(str(error) or "connecting took too long")
        else:
            self.connections += 1
            self._connections.add(connection)
        self._opening = None
        waiting, self._waiting = self._waiting, []
        for sample in waiting:
            self._ask(sample)
        self._news.set()

    def _give_up(self, error: str) -> None:
        for sample in self._waiting:
            sample.first_error = error
        self._waiting.clear()

    def ended(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._connections.discard(connection)
        self._news.set()

    def told(self) -> None:
        """A request has ended."""
        self._news.set()

    def _sweep(self) -> None:
        for connection in tuple(self._connections):
            connection.check(self._loop.time())
        self._timers["sweep"] = self._loop.call_later(_SWEEP_S, self._sweep)


class _Connection(asyncio.Protocol):
    def __init__(self, prober: H2Prober) -> None:
        self._prober = prober
        self._loop = asyncio.get_running_loop()
        self._engine = zttp.Connection(zttp.CLIENT, zttp.HTTP2)
        self._transport: asyncio.Transport | None = None
        self._leaving = False
        self.open: dict[int, Sample] = {}

    @property
    def usable(self) -> bool:
        """Whether one more stream may be opened."""
        alive = self._transport is not None and not self._transport.is_closing()
        return alive and not self._leaving and len(self.open) < MAX_STREAMS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._engine.initiate_connection()
        self._flush()

    def ask(self, sample: Sample) -> None:
        """Open a stream."""
        stream = self._engine.send_request(b"GET", self._prober.path, b"2", self._prober.head)
        stream.end_message()
        self.open[stream.stream_id] = sample
        self._flush()

    def check(self, now_s: float) -> None:
        """Give up on answers that take too long."""
        if any(now_s - sample.due_s > TIMEOUT_S for sample in self.open.values()):
            self._fail_all("no answer in time")
            self.close()

    def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        try:
            self._engine.receive_data(data)
            while (event := self._engine.next_event()) is not zttp.NEED_DATA:
                if event is zttp.CONNECTION_CLOSED:
                    break
                self._take(event)
        except zttp.ProtocolError as error:
            self._fail_all(f"not HTTP/2: {error}")
            self.close()
            return
        self._flush()
        if self._leaving and not self.open:
            self.close()

    def _take(self, event: object) -> None:
        if isinstance(event, zttp.Response):
            if event.status_code != 200:
                self._end(event.stream_id, f"status {event.status_code}")
        elif isinstance(event, zttp.EndOfMessage):
            self._end(event.stream_id, "")
        elif isinstance(event, zttp.RstStream):
            self._end(event.stream_id, f"stream reset ({event.error_code})")
        elif isinstance(event, zttp.GoAway):
            self._leaving = True
            for stream_id in [number for number in self.open if number > event.last_stream_id]:
                self._end(stream_id, "refused by GOAWAY")

    def _end(self, stream_id: int, error: str) -> None:
        sample = self.open.pop(stream_id, None)
        if sample is None:
            return
        if error:
            sample.first_error = error
        else:
            sample.done_s = self._loop.time()
        self._prober.told()

    def _flush(self) -> None:
        data = self._engine.data_to_send()
        if data and self._transport is not None:
            self._transport.write(data)

    def _fail_all(self, error: str) -> None:
        for stream_id in tuple(self.open):
            self._end(stream_id, error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail_all("reset" if isinstance(exc, ConnectionResetError) else "closed")
        self._prober.ended(self)
