"""The machine's cache against a model that remembers everything, over random histories.

A store may forget what it had to evict. What it serves has to be the last that was stored for the URL and
what the request holds, with its last metadata, and judged by the purges since; and what cannot have been
evicted has to be there.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import msgspec
from disk_cache import audit, entry_of_body, seeded_body
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from atoll.cache.disk import DiskStore
from atoll.cache.keys import vary_key
from atoll.cache.purge import Place, PurgeLog, Verdict
from atoll.cache.store import Entry
from atoll.cache.writer import BodyWriter
from atoll.config.purge import Selector
from atoll.http.fields import Headers

CAPACITY = 4 * 1024 * 1024
PATHS = [b"a.example/1", b"a.example/2", b"a.example/22", b"b.example/1"]
REQUESTS: list[Headers] = [[], [(b"x", b"1")], [(b"x", b"2"), (b"y", b"1")]]
VARIES: list[tuple[bytes, ...]] = [(), (b"x",), (b"x", b"y")]
TAGS = [(), (b"default\0t",), (b"default\0t", b"default\0u")]
SELECTORS = [
    Selector(kind="url", value="a.example/1"),
    Selector(kind="prefix", value="a.example/2"),
    Selector(kind="host", value="b.example"),
    Selector(kind="tag", value="u"),
    Selector(kind="tag", value="t", soft=True),
    Selector(kind="all", soft=True),
    Selector(kind="all"),
]
LENGTHS = [0, 1, 200, 5000, 16_384, 16_385, 200_000, 300_000]

Key = tuple[bytes, tuple[bytes, ...], bytes]


class Known(msgspec.Struct):
    """What was stored last for a key."""

    body: bytes
    date_s: float
    seq: int
    purge_seq: int
    place: Place
    mark: bytes
    evictions: int


class Writing(msgspec.Struct):
    """A body on its way."""

    writer: BodyWriter
    url: bytes
    request: Headers
    vary: tuple[bytes, ...]
    known: Known


class DiskMachine(RuleBasedStateMachine):
    """One store on a real folder."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="atoll-disk-"))
        self.log = PurgeLog()
        self.store = DiskStore(self.folder, CAPACITY, self.log)
        self.known: dict[Key, Known] = {}
        self.writing: list[Writing] = []
        self.purged = 0
        self.count = 0
        self.evicted_before = 0  # by stores that are closed

    def teardown(self) -> None:
        self.writing.clear()
        assert self.store.sweep(10_000)
        audit(self.store)
        self.store.close()
        shutil.rmtree(self.folder)

    def evictions(self) -> int:
        stats = self.store.stats
        return self.evicted_before + stats.evicted + stats.refused_room + stats.gone

    def new(self, path: bytes, tags: tuple[bytes, ...], length: int, date_s: float) -> Known:
        self.count += 1
        place = Place(path, path.partition(b"/")[0], tags)
        body = seeded_body(b"%d" % self.count, length)
        return Known(body, date_s, self.count, self.log.applied, place, b"%d" % self.count, 0)

    def stored(self, url: bytes, request: Headers, vary: tuple[bytes, ...], known: Known) -> None:
        known.evictions = self.evictions()
        self.known[url, vary, vary_key(vary, request)] = known

    @rule(
        path=st.sampled_from(PATHS),
        request=st.sampled_from(REQUESTS),
        vary=st.sampled_from(VARIES),
        tags=st.sampled_from(TAGS),
        length=st.sampled_from(LENGTHS),
        date_s=st.integers(0, 5),
    )
    def put(
        self,
        path: bytes,
        request: Headers,
        vary: tuple[bytes, ...],
        tags: tuple[bytes, ...],
        length: int,
        date_s: int,
    ) -> None:
        url = b"http://" + path
        known = self.new(path, tags, length, date_s)
        entry = self.entry(known, vary)
        assert self.store.put(url, request, entry, known.body)
        self.stored(url, request, vary, known)

    def entry(self, known: Known, vary: tuple[bytes, ...]) -> Entry:
        return entry_of_body(
            known.body,
            vary=vary,
            date_s=known.date_s,
            purge_seq=known.purge_seq,
            place=known.place,
            extra=[(b"x-mark", known.mark)],
        )

    @rule(path=st.sampled_from(PATHS), length=st.sampled_from(LENGTHS), known_length=st.booleans())
    def begin_to_write(self, path: bytes, length: int, known_length: bool) -> None:
        if len(self.writing) >= 2:
            return
        url = b"http://" + path
        known = self.new(path, (), length, 3.0)
        writer = self.store.writer(url, [], self.entry(known, ()), length if known_length else None)
        half = length // 2
        writer.write(known.body[:half])
        self.writing.append(Writing(writer, url, [], (), known))

    @precondition(lambda self: self.writing)
    @rule(abandon=st.booleans())
    def end_writing(self, abandon: bool) -> None:
        writing = self.writing.pop(0)
        known = writing.known
        if abandon:
            writing.writer.abandon()
            return
        writing.writer.write(known.body[len(known.body) // 2 :])
        gone = self.log.verdict(known.place, known.purge_seq) is Verdict.GONE
        assert writing.writer.commit() is not gone
        if not gone:
            self.stored(writing.url, writing.request, writing.vary, known)

    @rule(path=st.sampled_from(PATHS), request=st.sampled_from(REQUESTS))
    def get(self, path: bytes, request: Headers) -> None:
        url = b"http://" + path
        evictions = self.evictions()
        found = self.store.get(url, request)
        expected = self.expected(url, request)
        if found is None:
            assert all(each.evictions < evictions for each in expected), "it was not evicted"
            return
        assert found.body is not None
        body = found.body if isinstance(found.body, bytes) else found.body.read(0, found.length)
        mark = dict(found.headers)[b"x-mark"]
        (known,) = [each for each in expected if each.mark == mark]
        assert body == known.body
        assert found.stale is (self.log.verdict(known.place, known.purge_seq) is Verdict.STALE)
        better = [each for each in expected if (each.date_s, each.seq) > (known.date_s, known.seq)]
        assert all(each.evictions < evictions for each in better), "a newer one was not evicted"

    def expected(self, url: bytes, request: Headers) -> list[Known]:
        found = [self.known.get((url, vary, vary_key(vary, request))) for vary in VARIES]
        log = self.log
        return [
            each for each in found if each and log.verdict(each.place, each.purge_seq) is not Verdict.GONE
        ]

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def update(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.known)))
        url, vary, selection = key
        known = self.known[key]
        (request, *_) = [each for each in REQUESTS if vary_key(vary, each) == selection]
        self.count += 1
        renewed = msgspec.structs.replace(
            known, mark=b"%d" % self.count, seq=self.count, purge_seq=self.log.applied
        )
        gone = self.log.verdict(known.place, known.purge_seq) is Verdict.GONE
        if self.store.update(url, request, self.entry(renewed, vary)):
            assert not gone, "what was purged must not come back"
            renewed.evictions = self.evictions()
            self.known[key] = renewed
        else:
            assert gone or known.evictions < self.evictions(), "it was not evicted"

    @rule(path=st.sampled_from(PATHS))
    def update_of_nothing(self, path: bytes) -> None:
        known = self.new(path, (), 10, 1.0)
        assert not self.store.update(b"http://" + path, [], self.entry(known, (b"z",)))

    @rule(path=st.sampled_from(PATHS))
    def remove(self, path: bytes) -> None:
        url = b"http://" + path
        self.store.remove(url)
        assert self.store.get(url, []) is None
        assert self.store.variants(url) == []
        for key in [key for key in self.known if key[0] == url]:
            del self.known[key]

    @rule(selector=st.sampled_from(SELECTORS))
    def purge(self, selector: Selector) -> None:
        self.purged += 1
        assert self.log.add(self.purged, selector)
        assert self.store.keep_purge(self.purged, selector)

    @rule(many=st.integers(20, 60), length=st.sampled_from([3000, 16_000, 60_000]))
    def fill(self, many: int, length: int) -> None:
        for _ in range(many):
            self.count += 1
            body = bytes(length)
            self.store.put(b"http://c.example/%d" % self.count, [], entry_of_body(body), body)

    @rule()
    def sweep(self) -> None:
        assert self.store.sweep(10_000)
        if not self.writing:
            audit(self.store)

    @rule()
    def clear(self) -> None:
        assert self.store.clear()
        self.known.clear()
        assert self.store.stats.objects == 0

    @rule()
    def reopen(self) -> None:
        for writing in self.writing:
            writing.writer.abandon()
        self.writing.clear()
        self.evicted_before = self.evictions()
        self.store.close()
        self.log = PurgeLog()
        self.store = DiskStore(self.folder, CAPACITY, self.log)
        self.store.load_purges()
        assert self.log.applied == self.purged

    @invariant()
    def bound_holds(self) -> None:
        assert self.store.stats.bytes_used <= CAPACITY
        assert self.store.stats.broken == 0


DiskMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestDiskMachine = DiskMachine.TestCase
