"""Open-loop load: requests leave at a fixed rate, whatever the server does; their time counts from when due.

A closed loop (wrk, h2load) asks again when it has its answer, so a server that stalls is asked less and looks
better than it is. Here the i-th request is due at i / rate; it goes out on the first free connection, and
what it waited for one is part of its latency. Arrivals are evenly spaced, or a Poisson process with a seed.

    outcome = uvloop.run(run(Plan(port=8080, requests=(request,), rate_per_s=5000, duration_s=10)))
    outcome.latency_us.percentile(99.9)

HTTP/1.1, clear or TLS, one request at a time on each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import ssl
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from time import monotonic_ns
from typing import Final, cast

import httptools
import msgspec

from atoll.errors import AtollError
from atoll.lab.histogram import Histogram

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
_NS: Final = 1_000_000_000
_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_RECONNECT_S: Final = 0.05
_MOST_WAITING: Final = 1_000_000


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, how often, and for how long. `requests` are whole requests, asked in turn."""

    port: int
    requests: Sequence[bytes]
    rate_per_s: float
    duration_s: float
    host: str = "127.0.0.1"
    connections: int = 64
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    poisson_seed: int | None = None  # evenly spaced when None
    timeout_s: float = 10.0  # how long answers are waited for when the last request was due


class Outcome:
    """What came of it. `latency_us` counts answers of any status, from the time each request was due."""

    def __init__(self) -> None:
        self.latency_us = Histogram()
        self.statuses: Counter[int] = Counter()
        self.sent = 0
        self.lost = 0  # connections that ended in the middle of an answer
        self.unanswered = 0  # due, but not answered when the time was over
        self.refused = 0  # connections that could not be made
        self.body_bytes = 0
        self.took_s = 0.0

    @property
    def answered(self) -> int:
        """Answers, whatever their status."""
        return self.latency_us.count

    @property
    def failed(self) -> int:
        """Requests without an answer, and answers from 400 up."""
        return self.lost + self.unanswered + sum(n for status, n in self.statuses.items() if status >= 400)

    def percentiles_us(self) -> dict[str, int]:
        """`{"p50": …, "p99.99": …, "max": …}` in microseconds."""
        found = {f"p{percent:g}": self.latency_us.percentile(percent) for percent in PERCENTILES}
        return {**found, "max": self.latency_us.max}


async def run(plan: Plan) -> Outcome:
    """Carry a plan out.

    Raises:
        AtollError: nobody listens, or the plan asks for nothing.
    """
    if plan.rate_per_s <= 0 or plan.duration_s <= 0 or not plan.requests or plan.connections < 1:
        raise AtollError("an open loop needs a rate, a duration, a request and a connection")
    loop = _Loop(plan)
    await loop.connect()
    return await loop.run()


class _Lane(asyncio.Protocol):
    """One connection."""

    def __init__(self, owner: _Loop) -> None:
        self._owner = owner
        self._due_ns = 0
        self.busy = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, due_ns: int) -> None:
        """Ask; it is free."""
        assert self._transport is not None, "connected lanes only are free"
        self.busy, self._due_ns = True, due_ns
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_body(self, body: bytes) -> None:
        self._owner.outcome.body_bytes += len(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # an interim response
        self.busy = False
        self._owner.answered(self, status, self._due_ns, self._parser.should_keep_alive())

    def eof_received(self) -> None:
        if self.busy:  # a body without a length ends here
            with contextlib.suppress(httptools.HttpParserError):
                self._parser.feed_data(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._owner.ended(self)

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()


class _Loop:
    """All connections of a plan, and who is due."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.outcome = Outcome()
        self._free: deque[_Lane] = deque()
        self._waiting: deque[int] = deque()  # when requests without a connection were due
        self._lanes: set[_Lane] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._next = 0
        self._due: Iterator[int] = iter(())
        self._next_due_ns: int | None = None
        self._all_sent = asyncio.Event()
        self._quiet = asyncio.Event()

    async def connect(self) -> None:
        """Open every connection.

        Raises:
            AtollError: nobody listens.
        """
        try:
            await asyncio.gather(*(self._open() for _ in range(self._plan.connections)))
        except (OSError, ssl.SSLError) as error:
            self._end()
            raise AtollError(f"no connection to {self._plan.host}:{self._plan.port}: {error}") from error

    async def _open(self) -> None:
        plan = self._plan
        name = plan.server_name if plan.tls is not None else None
        _, lane = await asyncio.get_running_loop().create_connection(
            lambda: _Lane(self), plan.host, plan.port, ssl=plan.tls, server_hostname=name
        )
        self._lanes.add(lane)
        self._release(lane)

    async def run(self) -> Outcome:
        """Send everything that becomes due, then wait for the answers."""
        began_ns = monotonic_ns()
        with _Alarm(self._send_due) as alarm:
            self._due = _arrivals(self._plan, began_ns)
            self._next_due_ns = next(self._due, None)
            self._send_due(alarm)
            await self._all_sent.wait()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._until_quiet(), self._plan.timeout_s)
        self.outcome.took_s = (monotonic_ns() - began_ns) / _NS
        self.outcome.unanswered = len(self._waiting) + sum(lane.busy for lane in self._lanes)
        self._end()
        return self.outcome

    def _send_due(self, alarm: _Alarm) -> None:
        now_ns = monotonic_ns()
        while (due_ns := self._next_due_ns) is not None and due_ns <= now_ns:
            self._send(due_ns)
            self._next_due_ns = next(self._due, None)
        if due_ns is None:
            self._all_sent.set()
        else:
            alarm.set(due_ns)

    async def _until_quiet(self) -> None:
        while self._waiting or any(lane.busy for lane in self._lanes):
            self._quiet.clear()
            await self._quiet.wait()

    def _send(self, due_ns: int) -> None:
        if self._free:
            self._ask(self._free.popleft(), due_ns)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append(due_ns)
        else:
            self.outcome.lost += 1

    def _ask(self, lane: _Lane, due_ns: int) -> None:
        requests = self._plan.requests
        lane.send(requests[self._next % len(requests)], due_ns)
        self._next += 1
        self.outcome.sent += 1

    def answered(self, lane: _Lane, status: int, due_ns: int, keep: bool) -> None:
        """An answer is complete."""
        self.outcome.latency_us.record((monotonic_ns() - due_ns) // 1000)
        self.outcome.statuses[status] += 1
        self._quiet.set()
        if keep:
            self._release(lane)
        else:
            lane.close()

    def _release(self, lane: _Lane) -> None:
        if self._waiting:
            self._ask(lane, self._waiting.popleft())
        else:
            self._free.append(lane)

    def ended(self, lane: _Lane) -> None:
        """A connection is gone; another takes its place."""
        self._lanes.discard(lane)
        with contextlib.suppress(ValueError):
            self._free.remove(lane)
        if lane.busy and not self._closing:
            self.outcome.lost += 1
        lane.busy = False
        self._quiet.set()
        if not self._closing:
            task = asyncio.get_running_loop().create_task(self._reopen())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reopen(self) -> None:
        while not self._closing:
            try:
                await self._open()
            except (OSError, ssl.SSLError):
                self.outcome.refused += 1
                await asyncio.sleep(_RECONNECT_S)
            else:
                return

    def _end(self) -> None:
        self._closing = True
        for task in self._tasks:
            task.cancel()
        for lane in list(self._lanes):
            lane.close()


def _arrivals(plan: Plan, began_ns: int) -> Iterator[int]:
    """When requests are due."""
    end_ns = began_ns + round(plan.duration_s * _NS)
    if plan.poisson_seed is None:
        count = max(1, round(plan.rate_per_s * plan.duration_s))
        yield from (began_ns + round(number * _NS / plan.rate_per_s) for number in range(count))
        return
    generator = random.Random(plan.poisson_seed)
    due_ns = began_ns
    while due_ns < end_ns:
        yield due_ns
        due_ns += round(generator.expovariate(plan.rate_per_s) * _NS)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_nsec", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("it_interval", _Timespec), ("it_value", _Timespec))


class _Alarm:
    """A kernel timer (timerfd_create(2)) in the running loop, whose own timers count whole milliseconds."""

    def __init__(self, call: Callable[[_Alarm], None]) -> None:
        """`call` is called with the alarm when the time it was set to has come.

        Raises:
            AtollError: this is not Linux.
        """
        if sys.platform != "linux":
            raise AtollError("open-loop load needs Linux", hint="its clock is a timerfd")
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._timer = int(self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))
        if self._timer < 0:
            raise AtollError(f"no timer: {os.strerror(ctypes.get_errno())}")
        self._call = call

    def __enter__(self) -> _Alarm:
        asyncio.get_running_loop().add_reader(self._timer, self._fired)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._timer)
        os.close(self._timer)

    def set(self, at_ns: int) -> None:
        """Ring at `at_ns` of the monotonic clock; at once when that is over."""
        at = _Itimerspec(_Timespec(0, 0), _Timespec(at_ns // _NS, at_ns % _NS))
        self._libc.timerfd_settime(self._timer, _ABSOLUTE, ctypes.byref(at), None)

    def _fired(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._timer, 8)
        self._call(self)
