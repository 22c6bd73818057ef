"""The in-memory store of one worker: primary key → variants → `Entry`, within a hard bound of bytes.

It keeps bytes and finds them; whether they may be stored or served is `atoll.cache.rules`'s to say. Each
response has its own `Vary` (RFC 9111 §4.1): a lookup tries every list of names seen for the URL and takes
the response with the latest `Date`. What the network purges is not looked for: a lookup asks the purge log.
What this worker learns to be invalid is dropped at once, and remembered for as long as a fetch that began
before might still deliver it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple, Protocol

from atoll.cache.eviction import Node, S3Fifo
from atoll.cache.keys import vary_key
from atoll.cache.partial import Partial
from atoll.cache.purge import Place, PurgeLog, Verdict
from atoll.config.purge import Selector
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
WHOLE: Final = Variant((), b"")
"""Of a response that does not vary: one for all, as most are."""

NOWHERE: Final = Place(b"", b"", ())


def variant_of(vary: tuple[bytes, ...], request: Headers) -> Variant:
    """What `request` selects among responses that vary by these names."""
    return Variant(vary, vary_key(vary, request)) if vary else WHOLE


class LargeContent(Protocol):
    """Content that is not in memory."""

    def __len__(self) -> int:
        """Bytes of it."""

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to before `end`; raises `OSError` when they are not what was stored."""

    def file(self, start: int, end: int) -> int:
        """A descriptor that has the bytes `start` to before `end` where they are; raises as `read` does."""


class Dependant(Protocol):
    """What has been made of an entry, and holds on to it."""

    def release(self) -> None:
        """The entry has left the store: let go of it."""


class Entry:
    """One stored response. `headers` are those to send, without hop-by-hop fields and `Age`.

    `live` turns false when the entry leaves the store: replaced, evicted or purged. `node.freq` may be raised
    by whoever serves the entry without asking the store. `partial` is what is there of a 200 response that
    came in parts; its `body` is empty until all of it is. `purge_seq` is the last purge that had been applied
    when its fetch began, `judged` the epoch of the log under which it was found to be kept; `softened` turns
    true when a soft purge ends its freshness.
    """

    __slots__ = (
        "__weakref__",
        "body",
        "cc",
        "date_s",
        "dependants",
        "etag",
        "headers",
        "initial_age_s",
        "judged",
        "last_modified",
        "lifetime_s",
        "live",
        "node",
        "partial",
        "place",
        "purge_seq",
        "request_time_s",
        "response_time_s",
        "size",
        "softened",
        "status",
        "stored_seq",
        "variant",
        "vary",
    )

    def __init__(  # noqa: PLR0913 - a record: one keyword a field
        self,
        *,
        status: int,
        headers: Headers,
        body: bytes | LargeContent,
        request_time_s: float,
        response_time_s: float,
        date_s: float,
        lifetime_s: float,
        initial_age_s: float,
        cc: CacheControl,
        vary: tuple[bytes, ...],
        place: Place = NOWHERE,
        purge_seq: int = 0,
        partial: Partial | None = None,
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
        self.place = place
        self.purge_seq = purge_seq
        self.partial = partial
        self.judged = -1
        self.softened = False
        self.etag = get(headers, b"etag")
        self.last_modified = get(headers, b"last-modified")
        self.size = 0
        self.weigh()
        self.stored_seq = 0
        self.variant = WHOLE
        self.live = False
        self.node: Node[Key] | None = None
        self.dependants: Dependant | dict[Dependant, None] | None = None  # mostly there is one

    def tell(self, dependant: Dependant) -> None:
        """Have `dependant` let go of it when it leaves the store."""
        if self.dependants is None:
            self.dependants = dependant
            return
        if not isinstance(self.dependants, dict):
            self.dependants = {self.dependants: None}
        self.dependants[dependant] = None

    def untell(self, dependant: Dependant) -> None:
        """`dependant` is no more."""
        if isinstance(self.dependants, dict):
            self.dependants.pop(dependant, None)
        elif self.dependants is dependant:
            self.dependants = None

    def leave(self) -> None:
        """It is not in the store any more."""
        self.live = False
        dependants, self.dependants = self.dependants, None
        if isinstance(dependants, dict):
            for dependant in dependants:
                dependant.release()
        elif dependants is not None:
            dependants.release()

    @property
    def in_memory(self) -> bool:
        """Whether its content is."""
        return isinstance(self.body, bytes)

    def weigh(self) -> None:
        """Work out its size in memory, all overhead included."""
        fields = sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in self.headers)
        names = sum(map(len, self.vary)) + sum(map(len, self.place.tags))
        held = len(self.body) if isinstance(self.body, bytes) else 0
        if self.partial is not None:
            held += self.partial.size
        self.size = held + fields + names + ENTRY_OVERHEAD


class ContentWriter(Protocol):
    """Long content on its way to where it is kept."""

    def write(self, data: bytes) -> None:
        """Append; raises `OSError` when it cannot be kept."""

    def read(self, start: int, end: int) -> bytes:
        """What has been written from `start` to before `end`; raises `OSError`."""

    def commit(self, began_epoch: int) -> bool:
        """It is whole: whether it is stored. `began_epoch` as for `Store.put`."""

    def abandon(self) -> None:
        """It never will be."""


class Cache(Protocol):
    """What the edge keeps responses in: `Store`, or `atoll.cache.levels.Levels`."""

    capacity: int
    max_object: int

    @property
    def log(self) -> PurgeLog:
        """What has been purged."""

    @property
    def purge_epoch(self) -> int:
        """See `Store`."""

    @property
    def bytes_used(self) -> int:
        """See `Store`."""

    def __len__(self) -> int: ...

    def __contains__(self, primary: bytes) -> bool: ...

    def vary_of(self, primary: bytes) -> tuple[bytes, ...]:
        """See `Store`."""

    def get(self, primary: bytes, request: Headers) -> Entry | None:
        """See `Store`."""

    def variants(self, primary: bytes) -> list[Entry]:
        """See `Store`."""

    def put(self, primary: bytes, request: Headers, entry: Entry, began_epoch: int | None = None) -> bool:
        """See `Store`."""

    def renew(self, primary: bytes, variant: Variant, entry: Entry, began_epoch: int | None = None) -> bool:
        """See `Store`."""

    def writer(
        self, primary: bytes, request: Headers, entry: Entry, length: int | None
    ) -> ContentWriter | None:
        """See `Store`."""

    def purge(self, primary: bytes) -> int:
        """See `Store`."""

    def apply_purge(self, seq: int, selector: Selector) -> bool:
        """See `Store`."""

    def behind(self, seq: int) -> None:
        """See `Store`."""

    def dropped_since(self, primary: bytes, epoch: int | None) -> bool:
        """See `Store`."""


class _Resource:
    """The responses of one URL, oldest first, and how many of them vary by which names."""

    __slots__ = ("entries", "varies")

    def __init__(self) -> None:
        self.entries: dict[Variant, Entry] = {}
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

    def __init__(
        self,
        capacity: int = DEFAULT_CAPACITY,
        max_object: int = DEFAULT_MAX_OBJECT,
        log: PurgeLog | None = None,
    ) -> None:
        self.capacity = capacity  # bytes
        self.max_object = min(max_object, capacity // 8)
        self.log = PurgeLog() if log is None else log
        self.purge_epoch = 0  # of what this worker has dropped
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
        while True:
            found = self._select(primary, request)
            if found is None or self._kept(primary, found):
                break
        if found is not None and found.node is not None:
            found.node.freq += 1
        return found

    def variants(self, primary: bytes) -> list[Entry]:
        """Every entry of a URL, the one stored last first."""
        resource = self._resources.get(primary)
        entries = list(resource.entries.values()) if resource is not None else []
        return [entry for entry in reversed(entries) if self._kept(primary, entry)]

    def _select(self, primary: bytes, request: Headers) -> Entry | None:
        resource = self._resources.get(primary)
        found = None
        for vary in resource.varies if resource is not None else ():
            assert resource is not None
            entry = resource.entries.get(variant_of(vary, request))
            if entry is not None and (found is None or _newer(entry, found)):
                found = entry
        return found

    def _kept(self, primary: bytes, entry: Entry) -> bool:
        """Whether no purge has taken `entry` away; it is dropped when one has."""
        if entry.judged == self.log.epoch:
            return True
        verdict = self.log.verdict(entry.place, entry.purge_seq)
        if verdict is Verdict.GONE:
            self._drop((primary, entry.variant))
            return False
        entry.softened = entry.softened or verdict is Verdict.STALE
        entry.judged = self.log.epoch
        return True

    def put(self, primary: bytes, request: Headers, entry: Entry, began_epoch: int | None = None) -> bool:
        """Store `entry` as the answer to `request`, in place of what that selected. Whether it was stored.

        `began_epoch` is `purge_epoch` as it was when the fetch began: a purge of this URL since then means
        that the response may be what was purged, and it is refused.
        """
        return self.put_variant(primary, variant_of(entry.vary, request), entry, began_epoch)

    def put_variant(
        self, primary: bytes, variant: Variant, entry: Entry, began_epoch: int | None = None
    ) -> bool:
        """`put`, in the place of a variant that is known."""
        if self.dropped_since(primary, began_epoch):
            return False
        if self.log.verdict(entry.place, entry.purge_seq) is Verdict.GONE:
            return False
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
                entry.leave()
        self._resources.clear()
        self._policy.clear()
        return count

    def renew(self, primary: bytes, variant: Variant, entry: Entry, began_epoch: int | None = None) -> bool:
        """Put `entry`, the same content with new fields, in the place of a variant that is known."""
        return self.put_variant(primary, variant, entry, began_epoch)

    def writer(
        self, primary: bytes, request: Headers, entry: Entry, length: int | None
    ) -> ContentWriter | None:
        """Where content too long for memory goes; None, as there is nothing but memory."""
        return None

    def apply_purge(self, seq: int, selector: Selector) -> bool:
        """A purge of the whole network. False when it had been applied before."""
        return self.log.add(seq, selector)

    def behind(self, seq: int) -> None:
        """Purges up to `seq` are not known: see `PurgeLog.behind`."""
        self.log.behind(seq)

    def forget(self, primary: bytes, variant: Variant) -> None:
        """Drop one variant, if it is there."""
        self._drop((primary, variant))

    def dropped_since(self, primary: bytes, epoch: int | None) -> bool:
        """Whether this URL has been purged here since `purge_epoch` was `epoch`; None has never been."""
        if epoch is None:
            return False
        return max(self._forgotten_epoch, self._purged.get(primary, 0)) > epoch

    def _insert(self, key: Key, entry: Entry) -> None:
        primary, variant = key
        entry.node = self._policy.node(key)
        entry.variant = variant
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
            resource.take(variant).leave()
            if not resource.entries:
                del self._resources[primary]


def _newer(one: Entry, other: Entry) -> bool:
    """The most recent response by `Date`; of equal ones the last stored (RFC 9111 §4.1)."""
    return (one.date_s, one.stored_seq) > (other.date_s, other.stored_seq)
