"""HTTP/2 on arbitrary frames: the server engine, and what origins send to the client engine.

Neither raises, whatever comes; a broken connection says why and ends. What the server engine takes for a
request would be one request of the same meaning for an origin that speaks HTTP/1.1 or HTTP/2: no field, path
or host can hold the beginning of another. Whoever waits for an answer is told of one end.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Final
from zlib import crc32

from atoll.http import h2_wire as h2
from atoll.http.call import Call
from atoll.http.h2 import H2Connection
from atoll.http.upstream_h2 import H2Upstream
from bench.fuzzing import frames
from bench.fuzzing.frames import FrameMutator
from bench.fuzzing.h1 import sent_on
from bench.fuzzing.mutate import pieces
from bench.fuzzing.stand import Application, FakeTransport, Taken, client, transport
from bench.fuzzing.upstream import Noted

_EVERY: Final = 64  # inputs between two looks at another connection
_CANARY: Final = h2.PREFACE + h2.settings({}) + frames.client_seeds()[0][1]


class _Alarm(logging.Handler):
    """The engine logs what it did not expect, and goes on: here that is a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """What the engines log comes here, and to nobody else."""
        logger = logging.getLogger("atoll.http")
        told, logger.propagate = logger.propagate, False
        logger.addHandler(self)
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.propagate = told

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        error = record.exc_info[1] if record.exc_info else None
        self.heard.append(f"{type(error).__name__}: {error}")


class H2Target:
    """See `bench.fuzz.Target`."""

    name = "h2"

    def __init__(self) -> None:
        self._mutator = FrameMutator(frames.client_seeds(), frames.REQUEST)
        self.counts: Counter[str] = Counter()
        self._alarm = _Alarm()
        self._until_look = _EVERY

    def make(self, rng: Random) -> bytes:
        """What a client sends behind its preface."""
        return self._mutator.make(rng)

    def seeds(self) -> list[bytes]:
        """What is tried as it is, first."""
        return [b"".join(seed) for seed in frames.client_seeds()]

    def check(self, data: bytes) -> list[str]:
        """What is wrong with how `data` is understood."""
        with self._alarm.listening():
            return self._check(data)

    def _check(self, data: bytes) -> list[str]:
        rng = Random(crc32(data))
        sent = h2.PREFACE + data
        parts = [sent] if rng.random() < 0.5 else pieces(sent, rng)
        application, found = self._talk(parts, late=rng.random() < 0.3)
        for taken in application.taken:
            found += _sent_on(taken)
        self.counts["accepted"] += len(application.taken)
        self.counts["refused"] += len(application.refusals)
        self._until_look -= 1
        if not self._until_look:
            self._until_look = _EVERY
            healthy, wrong = self._talk([_CANARY])
            if wrong or len(healthy.taken) != 1 or not healthy.taken[0].done:
                found.append("another connection suffers")
        return found

    def _talk(self, parts: list[bytes], *, late: bool = False) -> tuple[Application, list[str]]:
        application = Application(late=late)
        connection = H2Connection(application, client())
        fake, real = transport()
        connection.connection_made(real)
        for part in parts:
            if fake.closed:
                break
            connection.data_received(part)
            application.answer_all()
        found = _unreadable(fake)
        if connection.closing and not (fake.ended or fake.closed):
            found.append("a connection that is given up stays open")
        connection.eof_received()
        connection.connection_lost(None)
        if any(not taken.done and not taken.failed for taken in application.taken):
            found.append("a body neither ends nor fails")
        found += [f"the engine fails: {text}" for text in self._alarm.heard]
        self._alarm.heard.clear()
        return application, found


def _unreadable(fake: FakeTransport) -> list[str]:
    """What the server says must be frames, whatever it was told."""
    rest = b"".join(fake.written)
    for frame in frames.split(rest):
        if len(frame) < 9 or len(frame) != 9 + int.from_bytes(frame[:3], "big") or frame[3] > h2.CONTINUATION:
            return ["the server says something that is no frame"]
    return []


def _sent_on(taken: Taken) -> list[str]:
    exchange = taken.exchange
    if taken.offered or exchange.target == b"*" or not taken.done:
        return []
    body = exchange.body
    return sent_on(
        exchange.method,
        exchange.target,
        exchange.authority,
        exchange.headers,
        taken.body if body is not None else None,
        body.trailers if body is not None else [],
    )


class _Pool:
    """See `H2Pool`."""

    def __init__(self) -> None:
        self.active: set[Call] = set()
        self.now_s = 0.0
        self.retried: list[Call] = []

    def start(self, call: Call) -> None:
        """Never called."""

    def shared_room(self, connection: H2Upstream) -> None:
        """Nobody waits."""

    def shared_lost(self, connection: H2Upstream) -> None:
        """It is thrown away in any case."""

    def retry(self, call: Call) -> None:
        """Note it."""
        self.retried.append(call)


class H2UpstreamTarget:
    """See `bench.fuzz.Target`."""

    name = "h2-upstream"

    def __init__(self) -> None:
        self._mutator = FrameMutator(frames.origin_seeds(), frames.RESPONSE)
        self.counts: Counter[str] = Counter()

    def make(self, rng: Random) -> bytes:
        """All that an origin sends on one connection."""
        return self._mutator.make(rng)

    def seeds(self) -> list[bytes]:
        """What is tried as it is, first."""
        return [b"".join(seed) for seed in frames.origin_seeds()]

    def check(self, data: bytes) -> list[str]:
        """What is wrong with how `data` is understood as the answer to three questions."""
        rng = Random(crc32(data))
        whole = _ask([data])
        found = [f"a call has {ends} ends" for ends in map(_ends, whole) if ends != 1]
        if [call.summary() for call in whole] != [call.summary() for call in _ask(pieces(data, rng))]:
            found.append("in pieces it is understood differently")
        self.counts["answers"] += sum(call.over == "end" for call in whole)
        return found


class _Asked(Noted):
    """A call that also knows whether it was given back to be sent again."""

    again = False


def _ask(parts: list[bytes]) -> list[_Asked]:
    pool = _Pool()
    connection = H2Upstream(pool, secure=False)
    fake, real = transport()
    connection.connection_made(real)
    methods = (b"GET", b"HEAD", b"GET")
    calls = [_Asked(pool, method + b" / HTTP/1.1\r\nHost: o\r\n\r\n", None) for method in methods]
    for call in calls:
        connection.begin(call)
    for part in parts:
        if fake.closed:
            break
        connection.data_received(part)
    connection.connection_lost(None)
    for call in calls:
        call.again = pool.retried.count(call) > 0
        if call.again and pool.retried.count(call) > 1:
            raise AssertionError("a call is given back twice")
    return calls


def _ends(call: _Asked) -> int:
    return (call.over != "") + call.again
