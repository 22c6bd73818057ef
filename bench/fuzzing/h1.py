"""The HTTP/1.1 server engine on arbitrary bytes, beside other readers, and what would be sent on of it.

For each input: whole, in pieces, and answered late, the engine understands the same requests. Of every one
that it understands, h11 says the same, and no other reader says something else: another method, target, host,
field, body, or another place where it ends. What would be sent to an origin of it is, for h11, one request of
the same meaning.
"""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from typing import Final
from zlib import crc32

from atoll.edge.accept import accept_headers
from atoll.http import h2_messages, hpack
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.h1 import H1Connection
from atoll.http.trailers import allowed_trailers
from atoll.http.upstream import known_length, render_request
from bench.fuzzing import requests
from bench.fuzzing.mutate import Mutator, pieces
from bench.fuzzing.readers import Heard, Reading, read_h11, read_llhttp, read_zttp
from bench.fuzzing.stand import Application, Taken, client, transport

_ABSOLUTE: Final = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
_LONG_SIZE: Final = re.compile(rb"(?m)^0[0-9A-Fa-f]{20}")
"""A chunk's size with so many zeros that h11 reads no further: all that it refuses and we do not."""

_PORT: Final = re.compile(rb":0*([0-9]*)\Z")
_MADE_HERE: Final = frozenset((b"content-length", b"transfer-encoding", b"host"))


class _Run:
    """The engine with what it has understood."""

    def __init__(self, parts: list[bytes], *, late: bool = False, tunnels: bool = False) -> None:
        self.application = Application(late=late, tunnels=tunnels)
        connection = H1Connection(self.application, client())
        self.transport, real = transport()
        connection.connection_made(real)
        for part in parts:
            if self.transport.closed:
                break
            connection.data_received(part)
            if late:
                self.application.answer_all()
        stopped = connection.closing or self.transport.closed or self.transport.ended
        self.open = not (stopped or self.application.refusals or connection._deaf)
        self.tunnel = connection._raw_body is not None
        if not self.transport.closed:
            connection.eof_received()
            self.application.answer_all()
        connection.connection_lost(None)
        self.taken = self.application.taken

    def complete(self) -> list[Taken]:
        """The requests that are there as a whole."""
        return [taken for taken in self.taken if taken.done and not taken.failed]

    def summary(self) -> list[tuple[object, ...]]:
        """What must not depend on how the bytes came.

        What follows an upgrade does, rightly: before its answer it is meant for another protocol.
        """
        found: list[tuple[object, ...]] = []
        for taken in self.complete():
            exchange = taken.exchange
            found.append((exchange.method, exchange.authority, exchange.target, exchange.headers, taken.body))
            if taken.offered:
                break
        return found


class H1Target:
    """See `bench.fuzz.Target`."""

    name = "h1"

    def __init__(self) -> None:
        self._mutator = Mutator(requests.seeds(), requests.WORDS)
        self.counts: Counter[str] = Counter()

    def make(self, rng: Random) -> bytes:
        """A connection's bytes."""
        kind = rng.random()
        if kind < 0.3:
            return requests.grammar(rng)
        return self._mutator.make(rng)

    def seeds(self) -> list[bytes]:
        """What is tried as it is, first."""
        return requests.seeds()

    def check(self, data: bytes) -> list[str]:
        """What is wrong with how `data` is understood."""
        rng = Random(crc32(data))
        whole = _Run([data])
        found = self._compare_runs(whole, data, rng)
        complete = whole.complete()
        found += self._compare_readers(whole, complete, data)
        for taken in complete:
            found += _sent_on(taken)
            if taken.exchange.raw is not None:
                found += _recognised(taken, data)
        self.counts["accepted"] += len(complete)
        self.counts["refused"] += len(whole.application.refusals)
        return found

    def _compare_runs(self, whole: _Run, data: bytes, rng: Random) -> list[str]:
        summary = whole.summary()
        found = []
        if _Run(pieces(data, rng)).summary() != summary:
            found.append("in pieces it is understood differently")
        if _Run(pieces(data, rng), late=True).summary() != summary:
            found.append("answered late it is understood differently")
        if any(taken.offered for taken in whole.taken):
            found += self._tunnel(data)
        elif b"pgrade" in data:
            self.counts["upgrades ignored"] += 1
        return found

    def _tunnel(self, data: bytes) -> list[str]:
        """An upgrade that is gone on with: what follows its head, and no more, is for the other protocol."""
        run = _Run([data], tunnels=True)
        last = run.taken[-1] if run.taken else None
        if last is None or not last.offered:
            return []
        self.counts["tunnels"] += 1
        raw = last.body
        before = data[: len(data) - len(raw)]
        if not data.endswith(raw) or not before.endswith(b"\r\n\r\n"):
            return ["a tunnel does not begin behind its head"]
        reading = read_h11(before, declines=True)
        if reading.ending != "refused" and len(reading.messages) != len(run.taken):
            return ["a tunnel begins elsewhere for h11"]
        return []

    def _compare_readers(self, whole: _Run, complete: list[Taken], data: bytes) -> list[str]:
        readings = {"h11": read_h11(data), "llhttp": read_llhttp(data), "zttp": read_zttp(data)}
        found = []
        for at, taken in enumerate(complete):
            said = 0
            for name, reading in readings.items():
                if at < len(reading.messages):
                    said += 1
                    wrong = differs(taken, reading.messages[at])
                    if wrong:
                        found.append(f"{name} understands another {wrong}")
                elif reading.ending == "open":
                    found.append(f"{name} waits for the rest of what is accepted")
                elif reading.ending == "refused" and at == len(reading.messages):
                    self.counts[f"refused by {name} alone"] += 1
                    if name == "h11" and not _LONG_SIZE.search(data):
                        found.append("accepted what h11 refuses")
            if not said and all(reading.ending == "refused" for reading in readings.values()):
                found.append("accepted what everybody refuses")
        if whole.open:
            found += _swallowed(readings, len(complete))
        return found


def _swallowed(readings: dict[str, Reading], complete: int) -> list[str]:
    """The connection is open, and somebody has understood more requests in the same bytes."""
    return [
        f"{name} understands a request more"
        for name, reading in readings.items()
        if len(reading.messages) > complete and reading.messages[complete].method != b"PRI"
    ]


def differs(taken: Taken, heard: Heard) -> str:
    """In what a reader understands a request differently; "" if in nothing."""
    exchange = taken.exchange
    if exchange.method != heard.method:
        return "method"
    hosts = [value for name, value in heard.headers if name == b"host"]
    target, host = heard.target, hosts[0] if hosts else b""
    if len(hosts) > 1:
        return "number of hosts"
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute:
        host, target = absolute[1], absolute[2]
        target = target if target.startswith(b"/") else b"/" + target
    if target != exchange.target:
        return "target"
    if _plain_port(host.lower()) != _plain_port(exchange.authority):
        return "host"
    if _comparable(heard.headers) != _comparable(exchange.headers):
        return "set of fields"
    if taken.offered:
        return "" if not heard.body else "body of an upgrade"
    if taken.body != heard.body:
        return "body"
    if exchange.body is not None and exchange.body.trailers != allowed_trailers(heard.trailers):
        return "set of trailers"
    return ""


def _plain_port(host: bytes) -> bytes:
    return _PORT.sub(lambda match: b":" + match[1] if match[1] else b"", host)


def _comparable(headers: Headers) -> Headers:
    """Without the host, which is told apart; codings in lowercase, as h11 has them."""
    return [
        (name, value.lower() if name in (b"transfer-encoding", b"expect") else value)
        for name, value in headers
        if name != b"host"
    ]


def _recognised(taken: Taken, data: bytes) -> list[str]:
    """A request that is recognised by its bytes later on: they must hold it and nothing else."""
    raw = taken.exchange.raw
    assert isinstance(raw, bytes)
    if data.count(raw) < 1:
        return ["a request is to be recognised by bytes that were not sent"]
    again = _Run([raw]).summary()
    own = (
        taken.exchange.method,
        taken.exchange.authority,
        taken.exchange.target,
        taken.exchange.headers,
        b"",
    )
    return [] if again == [own] else ["a request is to be recognised by the bytes of another"]


# --- sent on


def _sent_on(taken: Taken) -> list[str]:
    exchange = taken.exchange
    if taken.offered or exchange.target == b"*":
        return []
    return sent_on(
        exchange.method,
        exchange.target,
        exchange.authority or b"site.test",
        exchange.headers,
        taken.body if exchange.body is not None else None,
        exchange.body.trailers if exchange.body is not None else [],
    )


def sent_on(
    method: bytes, target: bytes, host: bytes, headers: Headers, body: bytes | None, trailers: Headers
) -> list[str]:
    """What is wrong with the request as an origin gets it, over HTTP/1.1 and over HTTP/2."""
    fields = accept_headers(headers, method)
    own = RequestBody() if body is not None else None
    head = render_request(method, target, host, fields, own)
    wire = head if body is None else head + _framed(body, trailers, known_length(fields))
    reading = read_h11(wire)
    if len(reading.messages) != 1 or reading.begun or reading.ending == "refused":
        return [f"what is sent on is {len(reading.messages)} requests for h11, then {reading.ending}"]
    heard = reading.messages[0]
    if (heard.method, heard.target, heard.body) != (method, target, body or b""):
        return ["what is sent on has another method, target or body for h11"]
    if [value for name, value in heard.headers if name == b"host"] != [host]:
        return ["what is sent on has another host for h11"]
    if _without_framing(heard.headers) != _without_framing(fields):
        return ["what is sent on has other fields for h11"]
    return _as_http2(head)


def _framed(body: bytes, trailers: Headers, length: int | None) -> bytes:
    """As `H1Upstream.send` does it."""
    if length is not None:
        return body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return chunk + b"0\r\n" + b"".join(b"%b: %b\r\n" % field for field in trailers) + b"\r\n"


def _without_framing(headers: Headers) -> Headers:
    return [field for field in headers if field[0] not in _MADE_HERE]


def _as_http2(head: bytes) -> list[str]:
    fields = h2_messages.request_fields(head[:-4], b"http")
    wrong = h2_messages.wrong_with([field for field in fields if field[0] != b"te" and field[0][:1] != b":"])
    if wrong:
        return [f"what is sent on is malformed in HTTP/2: {wrong}"]
    if hpack.decode(hpack.encode(fields), 300) != fields:
        return ["what is sent on changes on its way through HPACK"]
    return []
