"""What engines need around them: a transport without a network, and an application that notes all."""

from __future__ import annotations

import asyncio
from typing import cast

from atoll.http.exchange import ConnectionInfo, Exchange, HotEntry
from atoll.http.limits import Limits


class FakeTransport(asyncio.Transport):
    """Takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False
        self.aborted = False
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        """Whoever feeds does not look: engines have to keep or drop what comes all the same."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""


class Taken:
    """A request that the application was given, and what came of its body."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.parts: list[bytes] = []
        self.done = exchange.body is None
        self.failed = False
        self.offered = bool(exchange.upgrade)

    @property
    def body(self) -> bytes:
        """What has come of it."""
        return b"".join(self.parts)

    def body_data(self, data: bytes) -> None:
        """See `BodySink`."""
        if self.done or self.failed:
            raise AssertionError("a body goes on behind its end")
        self.parts.append(data)

    def body_end(self) -> None:
        """See `BodySink`."""
        if self.done or self.failed:
            raise AssertionError("a body ends twice")
        self.done = True
        self.exchange.stream.respond(200, [], b"ok")

    def body_failed(self) -> None:
        """See `BodySink`."""
        if self.done or self.failed:
            raise AssertionError("a body fails behind its end")
        self.failed = True


class Application:
    """Answers each request, at once or `late`: when it is told to. `tunnels`: it goes on with upgrades."""

    def __init__(self, *, late: bool = False, tunnels: bool = False) -> None:
        self.limits = LIMITS
        self.draining = False
        self.taken: list[Taken] = []
        self.refusals: list[tuple[int, str]] = []
        self._late = late
        self._tunnels = tunnels
        self._waiting: list[Taken] = []

    def opened(self, conn: ConnectionInfo) -> None:
        """Nothing is remembered of connections."""

    def handle(self, exchange: Exchange) -> None:
        """Note it."""
        taken = Taken(exchange)
        self.taken.append(taken)
        if self._late:
            self._waiting.append(taken)
        else:
            self._answer(taken)

    def answer_all(self) -> None:
        """Answer what waits; that may bring more."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for taken in waiting:
                self._answer(taken)

    def _answer(self, taken: Taken) -> None:
        exchange = taken.exchange
        if exchange.upgrade and self._tunnels:
            exchange.stream.start(101, [], None)
            assert exchange.body is not None
            exchange.body.attach(taken)
        elif exchange.upgrade or exchange.body is None:
            taken.done = True
            exchange.stream.respond(200, [], b"ok")
        else:
            exchange.body.attach(taken)

    def hot(self, key: object) -> HotEntry | None:
        """Nothing is remembered."""
        return None

    def count_hot(self, conn: ConnectionInfo, entry: HotEntry, now_s: float) -> None:
        """Never called."""

    def refused(self, conn: ConnectionInfo, status: int, reason: str) -> None:
        """Note it."""
        self.refusals.append((status, reason))


LIMITS = Limits()


def client() -> ConnectionInfo:
    """Somebody."""
    return ConnectionInfo("192.0.2.7", 4711, b"http")


def transport() -> tuple[FakeTransport, asyncio.Transport]:
    """The same transport as what it is, and as what engines take."""
    fake = FakeTransport()
    return fake, cast(asyncio.Transport, fake)
