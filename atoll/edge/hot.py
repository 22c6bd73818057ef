"""The hot table: requests seen before, byte for byte, and the responses prepared for them.

Identical bytes on a connection of the same scheme are an identical request, so whatever the full pipeline
decided for it holds as long as the stored response is fresh and still in the store. A response is
rendered once a second (its `Age` and `ttl` change once a second) and then only written. What is
asked for once in a while is rendered each time and shares its content with the store, so that a hundred
thousand of them take no more than their heads.
"""

from __future__ import annotations

from typing import Any, Final

from atoll.cache import rules
from atoll.cache.purge import PurgeLog, Verdict
from atoll.cache.store import Entry
from atoll.http.exchange import ConnectionInfo, HotEntry, PreparedHead, Stream
from atoll.http.fields import CacheControl, Headers, h2_fields

_SPARED: Final = 4  # that leave later than their turn, for one that comes
MAX_BODY: Final = 1024 * 1024
MAX_FRAMED: Final = 64 * 1024  # over HTTP/2 and 3, whose engines keep what waits for room
_APART: Final = 32 * 1024  # content that is written after its head, not with it
_OBJECT: Final = 64  # what a small Python object costs beside its bytes
_MOST_SHARED: Final = 1024
_KEPT: Final = 4 * 1024  # bytes of content that are kept rendered for what is asked for twice in a second


class Hot:
    """One stored response prepared for one kind of request.

    `member` begins its `Cache-Status`: what caches behind have said, and this one's name. It is for one
    protocol: HTTP/2 and HTTP/3, whose fields are the same, if `h2`, else HTTP/1.1.

    What is asked for rarely is far from the processor: each object that a hit touches costs it a walk to
    memory. So a hit touches few, and what many of them have in common is one object.
    """

    replays: Final = False
    __slots__ = (
        "_body",
        "_epoch",
        "_framed",
        "_head",
        "_lifetime_s",
        "_mark",
        "_member",
        "_purges",
        "_second",
        "_sibling",
        "_until_s",
        "_wire",
        "entry",
        "log_tail",
        "node",
        "rest",
    )

    def __init__(
        self,
        entry: Entry,
        member: bytes,
        head: PreparedHead,
        tail: bytes,
        purges: PurgeLog,
        *,
        h2: bool = False,
    ) -> None:
        assert isinstance(entry.body, bytes), "what is served from prepared bytes is in memory"
        self.entry = entry
        entry.tell(self)
        self._purges = purges
        self._epoch = purges.epoch
        self.log_tail = tail
        self._member = _SHARED.setdefault(member, member)
        self.node = entry.node
        self._body = entry.body
        self.rest = entry.body if len(entry.body) > _APART and not h2 else b""
        length = b"Content-Length: %d\r\n" % len(entry.body)
        self._head = b"" if h2 else head.lines + length
        self._lifetime_s = _SHARED.setdefault(entry.lifetime_s, entry.lifetime_s)
        self._until_s = entry.response_time_s + entry.lifetime_s - entry.initial_age_s
        _LATEST[0] = max(_LATEST[0], entry.response_time_s)
        # A sibling may be replaced by a better one while the store keeps what it was made of.
        self._sibling = None if type(entry) is Entry else entry
        # Prepared bytes hold from one second's beginning to the next, or to the end of freshness.
        self._mark = -1  # the last eight bits of the second of the last hit: small numbers are shared
        self._second = 0  # of the prepared bytes
        self._wire = b""
        self._framed = _Framed(head.fields, len(entry.body)) if h2 else None
        if len(_SHARED) > _MOST_SHARED:
            _SHARED.clear()

    def h1(self, now_s: float) -> bytes | None:
        """See `HotEntry.h1`."""
        checked = self._epoch == self._purges.epoch and self._sibling is None
        if not (checked and now_s < self._until_s) and not self._usable(now_s):
            return None
        second = int(now_s)
        if self._wire and self._second == second:
            return self._wire
        mark = second & 255
        ttl_s = self._ttl_s(now_s) if now_s < _LATEST[0] else self._until_s - now_s
        wire = b"%bAge: %d\r\nCache-Status: %b; hit; ttl=%d\r\n\r\n%b" % (
            self._head,
            self._lifetime_s - ttl_s,
            self._member,
            ttl_s,
            b"" if self.rest else self._body,
        )
        if mark == self._mark and len(wire) <= 2 * _KEPT:
            self._wire, self._second = wire, second
        elif self._wire:
            self._wire = b""
        self._mark = mark
        return wire

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        """See `HotEntry.h2`."""
        framed = self._framed
        assert framed is not None, "it is for HTTP/2"
        if not self._usable(now_s):
            return None
        second = int(now_s)
        if framed.second != second:
            framed.second = second
            framed.prepared = ([*framed.fields, *self.changing(now_s)], self._body)
        return framed.prepared

    def changing(self, now_s: float) -> Headers:
        """The fields that change once a second."""
        ttl_s = self._ttl_s(now_s)
        return [
            (b"age", b"%d" % (self._lifetime_s - ttl_s)),
            (b"cache-status", b"%b; hit; ttl=%d" % (self._member, ttl_s)),
        ]

    def release(self) -> None:
        """The entry has left the store, or this the table: its content is not to be held any longer."""
        self.entry.untell(self)
        self._until_s = 0.0
        self._body = self._wire = self.rest = b""
        self._sibling = None
        if self._framed is not None:
            self._framed.prepared = ([], b"")
        self.entry = _GONE
        self.node = None

    @property
    def body(self) -> bytes:
        """The content."""
        return self._body

    @property
    def size(self) -> int:
        """See `HotEntry`: what it does not share with the store."""
        framed = 4 * _OBJECT * (len(self._framed.fields) + 1) // 2 if self._framed is not None else 0
        return len(self._head) + len(self.log_tail) + framed + 8 * _OBJECT

    @property
    def wanted(self) -> bool:
        """See `HotEntry`."""
        return self.entry.live and self.node is not None and self.node.freq > 0

    def replay(self, conn: ConnectionInfo, stream: Stream, now_s: float) -> None:
        """See `HotEntry`: prepared bytes are all there is."""
        raise NotImplementedError

    def _ttl_s(self, now_s: float) -> float:
        """For how long it is fresh; a clock that has been set back makes nothing younger than it came."""
        age_s = rules.current_age_s(self.entry.initial_age_s, self.entry.response_time_s, now_s)
        lifetime_s: float = self._lifetime_s
        return lifetime_s - age_s

    def _usable(self, now_s: float) -> bool:
        if self._epoch != self._purges.epoch:
            if self._purges.verdict(self.entry.place, self.entry.purge_seq) is not Verdict.KEEP:
                return False
            self._epoch = self._purges.epoch
        return now_s < self._until_s and (self._sibling is None or self._sibling.live)


class _Framed:
    """What HTTP/2 and HTTP/3 send: fields, and both as they are in one second."""

    __slots__ = ("fields", "prepared", "second")

    def __init__(self, fields: Headers, length: int) -> None:
        self.fields: Headers = [*h2_fields(fields), (b"content-length", b"%d" % length)]
        self.second = -1
        self.prepared: tuple[Headers, bytes] = ([], b"")


_LATEST: Final = [0.0]
"""The latest time that any response came at: before it, a clock has been set back."""

_SHARED: Final[dict[Any, Any]] = {}
"""Equal values that many have, by themselves."""


_GONE: Final = Entry(
    status=200,
    headers=[],
    body=b"",
    request_time_s=0.0,
    response_time_s=0.0,
    date_s=0.0,
    lifetime_s=0.0,
    initial_age_s=0.0,
    cc=CacheControl(),
    vary=(),
)
"""Stands for an entry that has left: it is never live."""


class HotTable:
    """Request key (h1 bytes, or target and fields of h2) → what answers it, for one scheme.

    `budget` bounds its bytes: keys and answers are as many and as long as clients make them. The oldest
    leaves, unless its response has been asked for since the store last looked.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._bytes = 0
        self._known: dict[object, HotEntry] = {}
        self.get = self._known.get

    def __len__(self) -> int:
        return len(self._known)

    def clear(self) -> None:
        """Forget all."""
        for hot in self._known.values():
            hot.release()
        self._known.clear()
        self._bytes = 0

    def add(self, key: object, hot: HotEntry) -> None:
        """Remember that `key` is answered by `hot`."""
        known = self._known
        before = known.pop(key, None)
        if before is not None:
            self._bytes -= key_size(key) + before.size
            if before is not hot:
                before.release()
        known[key] = hot
        self._bytes += key_size(key) + hot.size
        spared = 0
        while self._bytes > self.budget:
            oldest = next(iter(known))
            leaving = known.pop(oldest)
            if spared < _SPARED and leaving.wanted:
                known[oldest] = leaving
                spared += 1
            else:
                self._bytes -= key_size(oldest) + leaving.size
                leaving.release()


def key_size(key: object) -> int:
    """Bytes that a key takes, roughly: its own and what Python adds for each part."""
    if isinstance(key, bytes):
        return len(key) + _OBJECT
    return sum(map(key_size, key)) + _OBJECT if isinstance(key, tuple) else _OBJECT
