"""The in-memory store of one worker: primary key → variants → `Entry`, within a hard bound of bytes.

It keeps bytes and finds them; whether they may be stored or served is `atoll.cache.rules`'s to say. Each
response has its own `Vary` (RFC 9111 §4.1): a lookup tries every list of names seen for the URL and takes
the response with the latest `Date`. A purge raises `purge_epoch`, the one number a hot path compares, and is
remembered for as long as a fetch that began before it might still deliver what it purged.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from atoll.cache.eviction import Node, S3Fifo
from atoll.cache.keys import vary_key
from atoll.http.fields import CacheControl, Headers, get

DEFAULT_CAPACITY: Final = 256 * 1024 * 1024
DEFAULT_MAX_OBJECT: Final = 16 * 1024 * 1024
MAX_VARIANTS: Final = 64
"""Per URL; the oldest makes room. `Vary: User-Agent` must not fill the store with one page."""

MAX_REMEMBERED_PURGES: Final = 4096
ENTRY_OVERHEAD: Final = 1536
"""What an entry costs besides its content and fields: objects, dictionary slots, queue links, measured."""

FIELD_OVERHEAD: Final = 132  # a tuple, its place in the list and two bytes objects


class Variant(NamedTuple):
    """Which of a URL's responses: the names its `Vary` lists and what the request held in them."""

    vary: tuple[bytes, ...]
    selection: bytes


Key = tuple[bytes, Variant]


class Entry:
    """One stored response. `headers` are those to send, without hop-by-hop fields and `Age`.

    `live` turns false when the entry leaves the store: replaced, evicted or purged. `node.freq` may be raised
    by whoever serves the entry without asking the store.
    """

    __slots__ = (
        "body",
        "cc",
        "date_s",
        "etag",
        "headers",
        "initial_age_s",
        "last_modified",
        "lifetime_s",
        "live",
        "node",
        "request_time_s",
        "response_time_s",
        "size",
        "status",
        "stored_seq",
        "tags",
        "vary",
    )

    def __init__(  # noqa: PLR0913 - a record: one keyword a field
        self,
        *,
        status: int,
        headers: Headers,
        body: bytes,
        request_time_s: float,
        response_time_s: float,
        date_s: float,
        lifetime_s: float,
        initial_age_s: float,
        cc: CacheControl,
        vary: tuple[bytes, ...],
        tags: tuple[bytes, ...] = (),
    ) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.request_time_s = request_time_s
        self.response_time_s = response_time_s
        self.date_s = date_s
        self.lifetime_s = lifetime_s
        self.initial_age_s = initial_age_s
        self.cc = cc
        self.vary = vary
        self.tags = tags
        self.etag = get(headers, b"etag")
        self.last_modified = get(headers, b"last-modified")
        fields = sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in headers)
        self.size = len(body) + fields + sum(map(len, vary)) + sum(map(len, tags)) + ENTRY_OVERHEAD
        self.stored_seq = 0
        self.live = False
        self.node: Node[Key] | None = None


class _Resource:
    """The responses of one URL, oldest first, and how many of them vary by which names."""

    __slots__ = ("entries", "varies")

    def __init__(self) -> None:
        self.entries: OrderedDict[Variant, Entry] = OrderedDict()
        self.varies: dict[tuple[bytes, ...], int] = {}

    def newest(self) -> Entry:
        """The response stored last."""
        return self.entries[next(reversed(self.entries))]

    def add(self, variant: Variant, entry: Entry) -> None:
        """Index `entry`; nothing is stored for `variant` yet."""
        self.entries[variant] = entry
        self.varies[variant.vary] = self.varies.get(variant.vary, 0) + 1

    def take(self, variant: Variant) -> Entry:
        """The entry of `variant`, no longer indexed."""
        left = self.varies[variant.vary] - 1
        if left:
            self.varies[variant.vary] = left
        else:
            del self.varies[variant.vary]
        return self.entries.pop(variant)


class Store:
    """Entries of one worker, evicted by `S3Fifo`."""

    def __init__(self, capacity: int = DEFAULT_CAPACITY, max_object: int = DEFAULT_MAX_OBJECT) -> None:
        self.capacity = capacity  # bytes
        self.purge_epoch = 0
        self._policy: S3Fifo[Key] = S3Fifo(capacity, max_object)
        self._resources: dict[bytes, _Resource] = {}
        self._purged: OrderedDict[bytes, int] = OrderedDict()
        self._forgotten_epoch = 0  # purges up to here are not remembered one by one
        self._next_seq = 1

    @property
    def bytes_used(self) -> int:
        """Bytes charged, never above the capacity."""
        return self._policy.bytes_used

    def __len__(self) -> int:
        return len(self._policy)

    def __contains__(self, primary: bytes) -> bool:
        return primary in self._resources

    def vary_of(self, primary: bytes) -> tuple[bytes, ...]:
        """The names that the newest response of a URL varies by; () when nothing is stored."""
        resource = self._resources.get(primary)
        return resource.newest().vary if resource is not None else ()

    def get(self, primary: bytes, request: Headers) -> Entry | None:
        """The entry that `request` selects, its use counted. Fresh or not is not asked here."""
        resource = self._resources.get(primary)
        if resource is None:
            return None
        found = None
        for vary in resource.varies:
            entry = resource.entries.get(Variant(vary, vary_key(vary, request)))
            if entry is not None and (found is None or _newer(entry, found)):
                found = entry
        if found is not None and found.node is not None:
            found.node.freq += 1
        return found

    def put(self, primary: bytes, request: Headers, entry: Entry, began_epoch: int | None = None) -> bool:
        """Store `entry` as the answer to `request`, in place of what that selected. Whether it was stored.

        `began_epoch` is `purge_epoch` as it was when the fetch began: a purge of this URL since then means
        that the response may be what was purged, and it is refused.
        """
        if began_epoch is not None and self._purged_since(primary, began_epoch):
            return False
        variant = Variant(entry.vary, vary_key(entry.vary, request))
        key = (primary, variant)
        size = entry.size + len(primary) + len(variant.selection)
        evicted = self._policy.admit(key, size)
        self._forget(key)
        if evicted is None:
            return False
        for gone in evicted:
            self._forget(gone)
        self._insert(key, entry)
        return True

    def purge(self, primary: bytes) -> int:
        """Drop every variant of a URL. How many there were."""
        self.purge_epoch += 1
        self._purged[primary] = self.purge_epoch
        self._purged.move_to_end(primary)
        if len(self._purged) > MAX_REMEMBERED_PURGES:
            _, self._forgotten_epoch = self._purged.popitem(last=False)
        resource = self._resources.get(primary)
        variants = list(resource.entries) if resource is not None else []
        for variant in variants:
            self._drop((primary, variant))
        return len(variants)

    def purge_all(self) -> int:
        """Drop everything. How many entries there were."""
        self.purge_epoch += 1
        self._purged.clear()
        self._forgotten_epoch = self.purge_epoch
        count = len(self)
        for resource in self._resources.values():
            for entry in resource.entries.values():
                entry.live = False
        self._resources.clear()
        self._policy.clear()
        return count

    def _purged_since(self, primary: bytes, epoch: int) -> bool:
        return max(self._forgotten_epoch, self._purged.get(primary, 0)) > epoch

    def _insert(self, key: Key, entry: Entry) -> None:
        primary, variant = key
        entry.node = self._policy.node(key)
        entry.live = True
        entry.stored_seq, self._next_seq = self._next_seq, self._next_seq + 1
        resource = self._resources.get(primary)
        if resource is None:
            resource = self._resources[primary] = _Resource()
        resource.add(variant, entry)
        if len(resource.entries) > MAX_VARIANTS:
            self._drop((primary, next(iter(resource.entries))))

    def _drop(self, key: Key) -> None:
        self._policy.remove(key)
        self._forget(key)

    def _forget(self, key: Key) -> None:
        """Take an entry out of the index; the policy has let go of it already."""
        primary, variant = key
        resource = self._resources.get(primary)
        if resource is not None and variant in resource.entries:
            resource.take(variant).live = False
            if not resource.entries:
                del self._resources[primary]


def _newer(one: Entry, other: Entry) -> bool:
    """The most recent response by `Date`; of equal ones the last stored (RFC 9111 §4.1)."""
    return (one.date_s, one.stored_seq) > (other.date_s, other.stored_seq)
