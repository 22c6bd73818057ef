"""An open-loop prober: one HTTP/1.1 request each 1/rate seconds, whatever became of those before.

It behaves as a careful browser: kept-alive connections, one request at a time on each, and a request whose
connection fails before the answer is there is tried once more on a connection of its own. Both outcomes are
kept, so that nobody has to guess which one a number means. Closed loops lie about outages: they stop asking
while nobody answers (coordinated omission).
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

import httptools
import msgspec

TIMEOUT_S: Final = 2.0
_SWEEP_S: Final = 0.1


class Sample(msgspec.Struct):
    """One request. Times are of the event loop's clock; an empty error is a success."""

    due_s: float
    done_s: float = 0.0
    said: str = ""  # the answer's field that the prober watches: which PoP, or which version
    first_error: str = ""
    retry_error: str = ""  # the second try's, when there was one and it failed

    @property
    def answered(self) -> bool:
        """The user got an answer, be it after one retry."""
        return self.done_s > 0.0 and not self.retry_error


class Prober:
    """Asks one URL at a steady rate and keeps a sample of each request.

    With `anew` each request has a connection of its own, and says so.
    """

    def __init__(
        self,
        address: tuple[str, int],
        host: str,
        path: str,
        rate: float,
        watch: bytes = b"x-edge-location",
        *,
        anew: bool = False,
    ) -> None:
        self._address = address
        self._watch = watch
        close = "Connection: close\r\n" if anew else ""
        self._request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\n{close}\r\n".encode()
        self._rate = rate
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._began_s = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._news = asyncio.Event()
        self.samples: list[Sample] = []
        self.last = ""  # what the latest answer said

    def start(self) -> None:
        """Begin asking."""
        self._began_s = self._loop.time()
        self._tick()
        self._sweep()

    async def stop(self) -> None:
        """Ask no more, and wait until all that was asked has ended one way or the other."""
        self._timers.pop("tick").cancel()
        while self._busy or self._tasks:
            await self._next_answer()
        self._timers.pop("sweep").cancel()
        for connection in self._idle:
            connection.close()

    async def until_said(self, wanted: str) -> None:
        """Wait until an answer says `wanted`."""
        while self.last != wanted:
            await self._next_answer()

    async def _next_answer(self) -> None:
        self._news.clear()
        await self._news.wait()

    def _tick(self) -> None:
        now_s = self._loop.time()
        while (due_s := self._began_s + len(self.samples) / self._rate) <= now_s:
            sample = Sample(due_s)
            self.samples.append(sample)
            self._ask(sample)
        self._timers["tick"] = self._loop.call_at(due_s, self._tick)

    def _ask(self, sample: Sample) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                self._busy.add(connection)
                connection.ask(sample)
                return
        self._ask_anew(sample)

    def _ask_anew(self, sample: Sample) -> None:
        task = self._loop.create_task(self._open(sample))
        self._tasks.add(task)
        task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._news.set()

    async def _open(self, sample: Sample) -> None:
        def factory() -> _Connection:
            return _Connection(self, self._request, self._watch)

        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, connection = await self._loop.create_connection(factory, *self._address)
        except TimeoutError:
            self.failed(sample, "connecting took too long")
        except OSError as error:
            self.failed(sample, error.strerror or str(error))
        else:
            self._busy.add(connection)
            connection.ask(sample)

    def answered(self, connection: _Connection, sample: Sample, status: int, said: str, keep: bool) -> None:
        """`sample` has its answer."""
        self._busy.discard(connection)
        if keep:
            self._idle.append(connection)
        else:
            connection.close()
        if status >= 500:
            self.failed(sample, f"status {status}")
            return
        sample.done_s = self._loop.time()
        sample.said = self.last = said
        self._news.set()

    def lost(self, connection: _Connection, sample: Sample | None, error: str) -> None:
        """A connection is gone, with `sample` unanswered on it."""
        self._busy.discard(connection)
        if sample is not None:
            self.failed(sample, error)

    def failed(self, sample: Sample, error: str) -> None:
        """One try of `sample` has failed: the first is followed by a second."""
        if sample.first_error:
            sample.done_s, sample.retry_error = self._loop.time(), error
        else:
            sample.first_error = error
            self._ask_anew(sample)
        self._news.set()

    def _sweep(self) -> None:
        for connection in tuple(self._busy):
            connection.check(self._loop.time())
        self._timers["sweep"] = self._loop.call_later(_SWEEP_S, self._sweep)


class _Connection(asyncio.Protocol):
    """A kept-alive connection with at most one request on it."""

    def __init__(self, prober: Prober, request: bytes, watch: bytes) -> None:
        self._prober = prober
        self._request = request
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._sample: Sample | None = None
        self._asked_s = 0.0
        self._said = ""
        self._parser = httptools.HttpResponseParser(self)

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, sample: Sample) -> None:
        """Send the request for `sample`."""
        assert self._transport is not None
        self._sample, self._said = sample, ""
        self._asked_s = self._loop.time()
        if self._transport.is_closing():
            self.connection_lost(None)
        else:
            self._transport.write(self._request)

    def check(self, now_s: float) -> None:
        """Give up on an answer that takes too long."""
        if self._sample is not None and now_s - self._asked_s > TIMEOUT_S:
            self._give_up("no answer in time")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _give_up(self, error: str) -> None:
        sample, self._sample = self._sample, None
        self.close()
        self._prober.lost(self, sample, error)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._give_up(f"not HTTP: {error}")

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == self._watch:
            self._said = value.decode("latin-1")

    def on_message_complete(self) -> None:
        sample, self._sample = self._sample, None
        keep = self._parser.should_keep_alive()
        status = self._parser.get_status_code()
        if sample is not None:
            self._prober.answered(self, sample, status, self._said, keep)

    def connection_lost(self, exc: Exception | None) -> None:
        sample, self._sample = self._sample, None
        self._prober.lost(self, sample, "reset" if isinstance(exc, ConnectionResetError) else "closed")
