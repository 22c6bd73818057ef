"""What origins answer, over HTTP/1.1: arbitrary bytes on a connection that would be used again.

Beside h11 as a client: an answer that is passed on has the same status, fields and body for h11; a connection
is kept only when h11 finds nothing behind the answer; and what comes in one piece with it never reaches the
call that is next. Whoever is told of an answer is told in order, and of one end.
"""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from typing import Final
from zlib import crc32

from atoll.errors import RemoteError
from atoll.http.call import USUAL, Call, Calls, ResponseHead, Terms
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers, strip_hop_by_hop
from atoll.http.trailers import allowed_trailers
from atoll.http.upstream_h1 import H1Upstream
from bench.fuzzing import responses
from bench.fuzzing.mutate import Mutator, pieces
from bench.fuzzing.readers import Answer, read_response
from bench.fuzzing.stand import transport

_UPGRADE: Final = Terms(upgrade=b"x")
_TOLERATED: Final = re.compile(
    rb"\A[\r\n]"  # a blank line before an answer
    rb"|(?m:^(?:RTSP|ICE)/[0-9.]+ )"  # another protocol's answer that is one of HTTP otherwise
    rb"|(?m:^HTTP/[0-9.]+ [0-9]{3} [^\n]*[\0-\x08\x0b-\x1f\x7f][^\n]*\r?\n)"  # a phrase that nobody passes on
    rb"|(?m:^0[0-9A-Fa-f]{20})"  # a chunk's size with zeros without an end
)
"""What h11 refuses and llhttp does not, and what harms nobody."""


class Noted(Call):
    """A call that notes what it is told, and whether that makes sense."""

    def __init__(self, pool: Calls, request: bytes, body: RequestBody | None) -> None:
        super().__init__(pool, request, body, 5.0)
        self.interim: list[int] = []
        self.status = 0
        self.fields: Headers = []
        self.parts: list[bytes] = []
        self.over = ""
        self.told = 0

    def informational(self, status: int, headers: Headers) -> None:
        self._note(self.status == 0)
        self.interim.append(status)

    def head(self, status: int, headers: Headers) -> None:
        self._note(self.status == 0)
        self.status, self.fields = status, headers

    def data(self, data: bytes) -> None:
        self._note(self.status != 0)
        self.parts.append(data)

    def end(self) -> None:
        self._note(self.status != 0)
        self.over = "end"

    def failed(self, error: RemoteError) -> None:
        self._note(True)
        self.over = "failed"

    def _note(self, right: bool) -> None:
        self.told += 1
        if self.over or not right:
            raise AssertionError("a call is told of something that cannot be now")

    @property
    def body_bytes(self) -> bytes:
        """All of the body."""
        return b"".join(self.parts)

    def summary(self) -> tuple[object, ...]:
        """What must not depend on how the bytes came."""
        return self.over, self.status, self.fields, self.body_bytes, self.trailers


class Pool:
    """A pool that only notes; with a `next_call` a connection that is free gets it at once."""

    def __init__(self, heads: dict[bytes, ResponseHead], next_call: Noted | None = None) -> None:
        self.active: set[Call] = set()
        self.heads = heads
        self.now_s = 0.0
        self.kept = False
        self.next_call = next_call
        self.retried: list[Call] = []

    def start(self, call: Call) -> None:
        """Never called."""

    def release(self, connection: H1Upstream) -> None:
        """See `H1Pool`."""
        self.kept = True
        call, self.next_call = self.next_call, None
        if call is not None:
            connection.begin(call)

    def forget(self, connection: H1Upstream) -> None:
        """See `H1Pool`."""

    def retry(self, call: Call) -> None:
        """See `H1Pool`."""
        self.retried.append(call)

    def remember(self, raw: bytes, head: ResponseHead) -> None:
        """See `H1Pool`."""
        self.heads[raw] = head


class _Run:
    def __init__(self, kind: str, parts: list[bytes], heads: dict[bytes, ResponseHead]) -> None:
        self.pool = Pool(heads)
        method = b"HEAD" if kind == "head" else b"GET"
        body = RequestBody() if kind == "upgrade" else None
        self.call = Noted(self.pool, method + b" / HTTP/1.1\r\nHost: o\r\n\r\n", body)
        self.call.terms = _UPGRADE if kind == "upgrade" else USUAL
        self.next_call = self.pool.next_call = Noted(self.pool, b"GET /2 HTTP/1.1\r\nHost: o\r\n\r\n", None)
        self.connection = H1Upstream(self.pool)
        self.transport, real = transport()
        self.connection.connection_made(real)
        self.pool.active.add(self.call)
        self.connection.begin(self.call)
        self.leaked = False
        for part in parts:
            if self.transport.closed:
                break
            self.connection.data_received(part)
            if len(parts) == 1:
                self.leaked = self.next_call.told > 0
        self.kept = self.pool.kept and not self.transport.closed
        self.connection.connection_lost(None)


class UpstreamTarget:
    """See `bench.fuzz.Target`."""

    name = "upstream"

    def __init__(self) -> None:
        self._mutator = Mutator(responses.seeds(), responses.WORDS)
        self.counts: Counter[str] = Counter()

    def make(self, rng: Random) -> bytes:
        """All that an origin sends on one connection."""
        return responses.grammar(rng) if rng.random() < 0.3 else self._mutator.make(rng)

    def seeds(self) -> list[bytes]:
        """What is tried as it is, first."""
        return responses.seeds()

    def check(self, data: bytes) -> list[str]:
        """What is wrong with how `data` is understood as the answer to a question."""
        rng = Random(crc32(data))
        kind = rng.choice(("get", "get", "get", "head", "upgrade"))
        heads: dict[bytes, ResponseHead] = {}
        whole = _Run(kind, [data], heads)
        found = []
        if whole.leaked:
            found.append("what came with one answer is the beginning of the next")
        if _Run(kind, [data], heads).call.summary() != whole.call.summary():
            found.append("the second time it is understood differently")
        if not whole.call.over:
            found.append("a call never ends")
        answer = read_response(b"HEAD" if kind == "head" else b"GET", data, kind == "upgrade")
        if whole.call.status == 101:
            self.counts["tunnels"] += 1
            found += _tunnel(whole, data)
        else:
            if _Run(kind, pieces(data, rng), {}).call.summary() != whole.call.summary():
                found.append("in pieces it is understood differently")
            if whole.call.over == "end":
                self.counts["answers"] += 1
                found += self._compare(whole, answer, data)
        self.counts["kept"] += whole.kept
        return found

    def _compare(self, whole: _Run, answer: Answer, data: bytes) -> list[str]:
        call = whole.call
        if not answer.status:
            self.counts["refused by h11 alone" if answer.refused else "cut short for h11 alone"] += 1
            if not answer.refused:
                return ["an answer that is cut short for h11"]
            known = call.head_only or _TOLERATED.search(data)  # after a HEAD no framing counts
            return [] if known else ["an answer that h11 refuses"]
        if call.status != answer.status:
            return ["h11 understands another status"]
        if call.body_bytes != answer.body:
            return ["h11 understands another body"]
        if _comparable(call.fields) != _comparable(strip_hop_by_hop(answer.headers)):
            return ["h11 understands other fields"]
        if call.trailers != allowed_trailers(answer.trailers):
            return ["h11 understands other trailers"]
        if whole.kept and answer.rest.strip(b"\r\n"):  # blank lines are part of no answer
            return ["a connection is kept with something behind its answer"]
        return []


def _tunnel(whole: _Run, data: bytes) -> list[str]:
    raw = whole.call.body_bytes
    if not data.endswith(raw) or not data[: len(data) - len(raw)].endswith(b"\r\n\r\n"):
        return ["a tunnel does not begin behind its head"]
    return ["a tunnel's connection is kept"] if whole.kept else []


def _comparable(headers: Headers) -> Headers:
    return [field for field in headers if field[0] != b"content-length"]
