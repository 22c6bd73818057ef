"""The hot table: requests seen before, byte for byte, and the responses prepared for them.

Identical bytes on a connection of the same scheme are an identical request, so whatever the full pipeline
decided for it holds as long as the stored response is fresh and nothing has been purged. A response is
rendered once a second (its `Age` and `ttl` change once a second) and then only written. The table
has two generations: when the young one is full the old one is dropped, so it never grows beyond twice
`_GENERATION` keys and needs no bookkeeping on a hit.
"""

from __future__ import annotations

from typing import Final

from atoll.cache.store import Entry, Store
from atoll.edge.clock import Clock
from atoll.http.fields import Headers
from atoll.http.render import field_lines, status_line

_GENERATION: Final = 65_536
_MAX_BODY: Final = 64 * 1024


class Hot:
    """One stored response prepared for one kind of request."""

    __slots__ = (
        "_body",
        "_clock",
        "_epoch",
        "_fields",
        "_h2",
        "_h2_second",
        "_head",
        "_node",
        "_pop",
        "_second",
        "_store",
        "_stored_age_s",
        "_until_s",
        "_wire",
        "alive",
        "entry",
        "log_tail",
    )

    def __init__(
        self, entry: Entry, store: Store, clock: Clock, pop: bytes, fields: Headers, tail: bytes
    ) -> None:
        self.entry = entry
        self.alive = True
        self.log_tail = tail
        self._store = store
        self._clock = clock
        self._pop = pop
        self._fields = fields
        self._node = entry.node
        self._body = entry.body
        self._epoch = store.purge_epoch
        self._head = status_line(entry.status) + field_lines(fields)
        self._stored_age_s = entry.initial_age_s - entry.response_time_s
        self._until_s = entry.lifetime_s - self._stored_age_s
        self._second = self._h2_second = -1
        self._wire = b""
        self._h2: tuple[Headers, bytes] = ([], b"")

    def h1(self, now_s: float) -> bytes | None:
        """See `HotEntry.h1`."""
        second = int(now_s)
        if second == self._second and self.alive and self._store.purge_epoch == self._epoch:
            return self._wire
        if not self._usable(now_s):
            return None
        age, ttl = self._age_and_ttl(now_s)
        self._second = second
        self._wire = b"%bAge: %d\r\nCache-Status: atoll-%b; hit; ttl=%d\r\nContent-Length: %d\r\n\r\n%b" % (
            self._head,
            age,
            self._pop,
            ttl,
            len(self._body),
            self._body,
        )
        return self._wire

    def h2(self, now_s: float) -> tuple[Headers, bytes] | None:
        """See `HotEntry.h2`."""
        second = int(now_s)
        if second == self._h2_second and self.alive and self._store.purge_epoch == self._epoch:
            return self._h2
        if not self._usable(now_s):
            return None
        self._h2_second = second
        fields = [*self._fields, *self.changing(now_s), (b"content-length", b"%d" % len(self._body))]
        self._h2 = (fields, self._body)
        return self._h2

    def fields(self) -> Headers:
        """The fields that do not change."""
        return self._fields

    def changing(self, now_s: float) -> Headers:
        """The fields that change once a second."""
        age, ttl = self._age_and_ttl(now_s)
        return [(b"age", b"%d" % age), (b"cache-status", b"atoll-%b; hit; ttl=%d" % (self._pop, ttl))]

    def touch(self) -> None:
        """Count a use for eviction."""
        node = self._node
        if node is not None and node.freq < 3:
            node.freq += 1

    def _usable(self, now_s: float) -> bool:
        if not self.alive or now_s >= self._until_s or self._store.purge_epoch != self._epoch:
            self.alive = False
        self._clock.tick(now_s)
        return self.alive

    def _age_and_ttl(self, now_s: float) -> tuple[int, int]:
        age = int(now_s + self._stored_age_s)
        return max(age, 0), int(self._until_s - now_s)


class HotTable:
    """Request key (h1 bytes, or target and fields of h2, with the scheme) → `Hot`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._young: dict[object, Hot] = {}
        self._old: dict[object, Hot] = {}
        self._by_primary: dict[bytes, list[Hot]] = {}

    def get(self, key: object) -> Hot | None:
        """The prepared response for a request seen before."""
        found = self._young.get(key)
        if found is not None:
            return found
        found = self._old.get(key)
        if found is not None and found.alive:
            self._insert(key, found)
            return found
        return None

    def known(self, primary: bytes, entry: Entry) -> Hot | None:
        """What is already prepared for `entry`."""
        for hot in self._by_primary.get(primary, ()):
            if hot.entry is entry and hot.alive:
                return hot
        return None

    def add(self, key: object, primary: bytes, hot: Hot) -> None:
        """Remember that `key` is answered by `hot`."""
        if len(hot.entry.body) > _MAX_BODY:
            return
        self._insert(key, hot)
        same = self._by_primary.setdefault(primary, [])
        if hot not in same:
            same.append(hot)

    def drop(self, primary: bytes) -> None:
        """Something about `primary` has changed: its prepared responses are not served again."""
        for hot in self._by_primary.pop(primary, ()):
            hot.alive = False

    def clear(self) -> None:
        """Forget everything (a new routing table, a purge of all)."""
        for same in self._by_primary.values():
            for hot in same:
                hot.alive = False
        self._by_primary.clear()
        self._young.clear()
        self._old.clear()

    def _insert(self, key: object, hot: Hot) -> None:
        if len(self._young) >= _GENERATION:
            self._old = self._young
            self._young = {}
            self._by_primary = {
                primary: alive
                for primary, same in self._by_primary.items()
                if (alive := [hot for hot in same if hot.alive])
            }
        self._young[key] = hot
