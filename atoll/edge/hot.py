"""The hot table: requests seen before, byte for byte, and the responses prepared for them.

Identical bytes on a connection of the same scheme are an identical request, so whatever the full pipeline
decided for it holds as long as the stored response is fresh and still in the store. A response is
rendered once a second (its `Age` and `ttl` change once a second) and then only written. The table
has two generations: when the young one is full the old one is dropped, so it never grows beyond twice
`_GENERATION` keys and needs no bookkeeping on a hit.
"""

from __future__ import annotations

from typing import Final

from atoll.cache import rules
from atoll.cache.purge import PurgeLog, Verdict
from atoll.cache.store import Entry
from atoll.http.exchange import ConnectionInfo, HotEntry, Stream
from atoll.http.fields import Headers, h2_fields
from atoll.http.render import field_lines, status_line

_GENERATION: Final = 65_536  # keys
MAX_BODY: Final = 64 * 1024
_OBJECT: Final = 64  # what a small Python object costs beside its bytes


class Hot:
    """One stored response prepared for one kind of request.

    `member` begins its `Cache-Status`: what caches behind have said, and this one's name.
    """

    replays: Final = False
    __slots__ = (
        "_body",
        "_epoch",
        "_fields",
        "_from_s",
        "_h2",
        "_h2_fields",
        "_h2_from_s",
        "_h2_renew_s",
        "_head",
        "_member",
        "_purges",
        "_renew_s",
        "_until_s",
        "_wire",
        "entry",
        "log_tail",
        "node",
    )

    def __init__(self, entry: Entry, member: bytes, fields: Headers, tail: bytes, purges: PurgeLog) -> None:
        assert isinstance(entry.body, bytes), "what is served from prepared bytes is in memory"
        self.entry = entry
        self._purges = purges
        self._epoch = purges.epoch
        self.log_tail = tail
        self._member = member
        self._fields = fields
        self.node = entry.node
        self._body = entry.body
        self._head = status_line(entry.status) + field_lines(fields)
        self._until_s = entry.response_time_s + entry.lifetime_s - entry.initial_age_s
        # Prepared bytes hold from one second's beginning to the next, or to the end of freshness.
        self._from_s = self._h2_from_s = 0
        self._renew_s = self._h2_renew_s = 0.0
        self._wire = b""
        self._h2_fields: Headers = []
        self._h2: tuple[Headers, bytes] = ([], b"")

    def h1(self, now_s: float) -> bytes | None:
        """See `HotEntry.h1`."""
        if self._from_s <= now_s < self._renew_s and self.entry.live and self._epoch == self._purges.epoch:
            return self._wire
        if not self._usable(now_s):
            return None
        age, ttl = self._age_and_ttl(now_s)
        self._from_s = int(now_s)
        self._renew_s = min(self._from_s + 1.0, self._until_s)
        self._wire = b"%bAge: %d\r\nCache-Status: %b; hit; ttl=%d\r\nContent-Length: %d\r\n\r\n%b" % (
            self._head,
            age,
            self._member,
            ttl,
            len(self._body),
            self._body,
        )
        return self._wire

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
        if not self._h2_fields:
            length = (b"content-length", b"%d" % len(self._body))
            self._h2_fields = [*h2_fields(self._fields), length]
        self._h2_from_s = int(now_s)
        self._h2_renew_s = min(self._h2_from_s + 1.0, self._until_s)
        self._h2 = ([*self._h2_fields, *self.changing(now_s)], self._body)
        return self._h2

    def fields(self) -> Headers:
        """The fields that do not change."""
        return self._fields

    def changing(self, now_s: float) -> Headers:
        """The fields that change once a second."""
        age, ttl = self._age_and_ttl(now_s)
        return [(b"age", b"%d" % age), (b"cache-status", b"%b; hit; ttl=%d" % (self._member, ttl))]

    @property
    def body(self) -> bytes:
        """The content."""
        return self._body

    @property
    def size(self) -> int:
        """See `HotEntry`: the response once rendered, the parts it is made of, and the record."""
        return len(self._body) + 2 * len(self._head) + len(self.log_tail) + 16 * _OBJECT

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


class HotTable:
    """Request key (h1 bytes, or target and fields of h2) → what answers it, for one scheme.

    `budget` bounds the bytes of a generation: keys and answers are as many and as long as clients make them.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._bytes = 0
        self._young: dict[object, HotEntry] = {}
        self._old: dict[object, HotEntry] = {}

    def get(self, key: object) -> HotEntry | None:
        """What answers a request seen before."""
        found = self._young.get(key)
        if found is not None:
            return found
        found = self._old.get(key)
        if found is not None:
            self.add(key, found)
        return found

    def add(self, key: object, hot: HotEntry) -> None:
        """Remember that `key` is answered by `hot`."""
        self._bytes += key_size(key) + hot.size
        if len(self._young) >= _GENERATION or self._bytes > self.budget:
            self._old, self._young = self._young, {}
            self._bytes = key_size(key) + hot.size
        self._young[key] = hot


def key_size(key: object) -> int:
    """Bytes that a key takes, roughly: its own and what Python adds for each part."""
    if isinstance(key, bytes):
        return len(key) + _OBJECT
    return sum(map(key_size, key)) + _OBJECT if isinstance(key, tuple) else _OBJECT
