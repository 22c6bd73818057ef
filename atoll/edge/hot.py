"""The hot table: requests seen before, byte for byte, and the responses prepared for them.

Identical bytes on a connection of the same scheme are an identical request, so whatever the full pipeline
decided for it holds as long as the stored response is fresh and still in the store. A response is
rendered once a second (its `Age` and `ttl` change once a second) and then only written. What is
asked for once in a while is rendered each time and shares its content with the store, so that a hundred
thousand of them take no more than their heads.
"""

from __future__ import annotations

from typing import Final

from atoll.cache import rules
from atoll.cache.purge import PurgeLog, Verdict
from atoll.cache.store import Entry
from atoll.http.exchange import ConnectionInfo, HotEntry, Stream
from atoll.http.fields import CacheControl, Headers, h2_fields
from atoll.http.render import field_lines, status_line

_SPARED: Final = 4  # that leave later than their turn, for one that comes
MAX_BODY: Final = 1024 * 1024
MAX_FRAMED: Final = 64 * 1024  # over HTTP/2 and 3, whose engines keep what waits for room
_APART: Final = 32 * 1024  # content that is written after its head, not with it
_OBJECT: Final = 64  # what a small Python object costs beside its bytes
_KEPT: Final = 4 * 1024  # bytes of content that are kept rendered for what is asked for twice in a second


class Hot:
    """One stored response prepared for one kind of request.

    `member` begins its `Cache-Status`: what caches behind have said, and this one's name. It is for one
    protocol: HTTP/2 and HTTP/3, whose fields are the same, if `h2`, else HTTP/1.1.
    """

    replays: Final = False
    __slots__ = (
        "_body",
        "_epoch",
        "_from_s",
        "_h2",
        "_h2_fields",
        "_h2_from_s",
        "_h2_renew_s",
        "_head",
        "_initial_age_s",
        "_lifetime_s",
        "_member",
        "_purges",
        "_renew_s",
        "_response_time_s",
        "_until_s",
        "_wire",
        "entry",
        "log_tail",
        "node",
        "rest",
    )

    def __init__(
        self, entry: Entry, member: bytes, fields: Headers, tail: bytes, purges: PurgeLog, *, h2: bool = False
    ) -> None:
        assert isinstance(entry.body, bytes), "what is served from prepared bytes is in memory"
        self.entry = entry
        entry.tell(self)
        self._purges = purges
        self._epoch = purges.epoch
        self.log_tail = tail
        self._member = member
        self.node = entry.node
        self._body = entry.body
        self.rest = entry.body if len(entry.body) > _APART and not h2 else b""
        length = b"Content-Length: %d\r\n" % len(entry.body)
        self._head = b"" if h2 else status_line(entry.status) + field_lines(fields) + length
        self._initial_age_s = entry.initial_age_s
        self._response_time_s = entry.response_time_s
        self._lifetime_s = entry.lifetime_s
        self._until_s = entry.response_time_s + entry.lifetime_s - entry.initial_age_s
        # Prepared bytes hold from one second's beginning to the next, or to the end of freshness.
        self._from_s = self._h2_from_s = 0
        self._renew_s = self._h2_renew_s = 0.0
        self._wire = b""
        self._h2_fields: Headers = []
        if h2:
            self._h2_fields = [*h2_fields(fields), (b"content-length", b"%d" % len(entry.body))]
        self._h2: tuple[Headers, bytes] = ([], b"")

    def h1(self, now_s: float) -> bytes | None:
        """See `HotEntry.h1`."""
        again = self._from_s <= now_s < self._renew_s
        if again and self.entry.live and self._epoch == self._purges.epoch:
            if self._wire:
                return self._wire
        elif not self._usable(now_s):
            return None
        self._from_s = int(now_s)
        self._renew_s = min(self._from_s + 1.0, self._until_s)
        # What `rules.current_age_s` says; calling it costs as much as all the rest of this.
        since_s = now_s - self._response_time_s
        age_s = self._initial_age_s + since_s if since_s > 0.0 else self._initial_age_s
        wire = b"%bAge: %d\r\nCache-Status: %b; hit; ttl=%d\r\n\r\n%b" % (
            self._head,
            age_s,
            self._member,
            self._lifetime_s - age_s,
            b"" if self.rest else self._body,
        )
        self._wire = wire if again and len(wire) <= 2 * _KEPT else b""
        return wire

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        """See `HotEntry.h2`."""
        if (
            self._h2_from_s <= now_s < self._h2_renew_s
            and self.entry.live
            and self._epoch == self._purges.epoch
        ):
            return self._h2
        if not self._usable(now_s):
            return None
        self._h2_from_s = int(now_s)
        self._h2_renew_s = min(self._h2_from_s + 1.0, self._until_s)
        self._h2 = ([*self._h2_fields, *self.changing(now_s)], self._body)
        return self._h2

    def changing(self, now_s: float) -> Headers:
        """The fields that change once a second."""
        age, ttl = self._age_and_ttl(now_s)
        return [(b"age", b"%d" % age), (b"cache-status", b"%b; hit; ttl=%d" % (self._member, ttl))]

    def release(self) -> None:
        """The entry has left the store, or this the table: its content is not to be held any longer."""
        self.entry.untell(self)
        self._until_s = 0.0
        self._renew_s = self._h2_renew_s = 0.0
        self._body = self._wire = self.rest = b""
        self._h2 = ([], b"")
        self.entry = _GONE
        self.node = None

    @property
    def body(self) -> bytes:
        """The content."""
        return self._body

    @property
    def size(self) -> int:
        """See `HotEntry`: what it does not share with the store."""
        return len(self._head) + len(self.log_tail) + 4 * _OBJECT * len(self._h2_fields) // 2 + 12 * _OBJECT

    @property
    def wanted(self) -> bool:
        """See `HotEntry`."""
        return self.entry.live and self.node is not None and self.node.freq > 0

    def replay(self, conn: ConnectionInfo, stream: Stream, now_s: float) -> None:
        """See `HotEntry`: prepared bytes are all there is."""
        raise NotImplementedError

    def _usable(self, now_s: float) -> bool:
        if self._epoch != self._purges.epoch:
            if self._purges.verdict(self.entry.place, self.entry.purge_seq) is not Verdict.KEEP:
                return False
            self._epoch = self._purges.epoch
        return self.entry.live and now_s < self._until_s

    def _age_and_ttl(self, now_s: float) -> tuple[int, int]:
        entry = self.entry
        age_s = rules.current_age_s(entry.initial_age_s, entry.response_time_s, now_s)
        return int(age_s), int(entry.lifetime_s - age_s)


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
