"""The store: variants by each response's own Vary, purges that outlive fetches, a bound on real memory."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from atoll.cache.store import MAX_REMEMBERED_PURGES, MAX_VARIANTS, Entry, Store
from atoll.http.fields import CacheControl, Headers

URL = b"https://www.example.com/"
OTHER = b"https://www.example.com/other"
GZIP: Headers = [(b"accept-encoding", b"gzip")]
BROTLI: Headers = [(b"accept-encoding", b"br")]
ENCODING = (b"accept-encoding",)


def entry(
    body: bytes = b"hello", vary: tuple[bytes, ...] = (), date_s: float = 0.0, headers: Headers | None = None
) -> Entry:
    return Entry(
        status=200,
        headers=headers if headers is not None else [(b"content-type", b"text/plain")],
        body=body,
        request_time_s=date_s,
        response_time_s=date_s,
        date_s=date_s,
        lifetime_s=60.0,
        initial_age_s=0.0,
        cc=CacheControl(max_age=60),
        vary=vary,
    )


def test_get_what_was_put() -> None:
    store = Store()
    one = entry()
    assert store.get(URL, []) is None
    assert URL not in store
    assert store.put(URL, [], one)
    assert store.get(URL, GZIP) is one
    assert store.get(OTHER, []) is None
    assert URL in store
    assert (len(store), one.live, one.stored_seq) == (1, True, 1)
    assert store.bytes_used >= one.size


def test_validators_are_read_once() -> None:
    tagged = entry(headers=[(b"etag", b'"1"'), (b"last-modified", b"x")])
    assert (tagged.etag, tagged.last_modified) == (b'"1"', b"x")
    assert (entry().etag, entry().last_modified) == (None, None)


def test_what_leaves_is_freed_at_once() -> None:
    """A cycle would wait for a full collection, which comes after millions of misses and stops everything."""
    store = Store(capacity=200_000)
    gc.collect()
    gc.disable()
    try:
        for number in range(2000):
            store.put(b"%s%d" % (URL, number), GZIP, entry(vary=ENCODING if number % 2 else ()))
            store.get(b"%s%d" % (URL, number // 2), GZIP)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_use_is_counted_on_the_node() -> None:
    store = Store()
    one = entry()
    store.put(URL, [], one)
    store.get(URL, [])
    store.get(URL, [])
    assert one.node is not None
    assert one.node.freq == 2


def test_replacing() -> None:
    store = Store()
    old, new = entry(), entry(b"x" * 5000)
    store.put(URL, [], old)
    before = store.bytes_used
    store.put(URL, [], new)
    assert store.get(URL, []) is new
    assert (len(store), old.live, new.live, new.stored_seq) == (1, False, True, 2)
    assert store.bytes_used - before == new.size - old.size


def test_variants() -> None:
    store = Store()
    gzip, brotli = entry(vary=ENCODING), entry(vary=ENCODING)
    store.put(URL, GZIP, gzip)
    store.put(URL, BROTLI, brotli)
    assert store.get(URL, GZIP) is gzip
    assert store.get(URL, BROTLI) is brotli
    assert store.get(URL, []) is None
    assert store.vary_of(URL) == ENCODING
    assert store.vary_of(OTHER) == ()


@pytest.mark.parametrize("newer_first", [True, False])
def test_of_several_that_match_the_latest_date_wins(newer_first: bool) -> None:
    store = Store()
    old, new = entry(vary=ENCODING, date_s=1.0), entry(date_s=2.0)
    for one in (new, old) if newer_first else (old, new):
        store.put(URL, GZIP, one)
    assert store.get(URL, GZIP) is new
    assert store.get(URL, BROTLI) is new


def test_of_equal_dates_the_last_stored_wins() -> None:
    store = Store()
    first, last = entry(), entry(vary=ENCODING)
    store.put(URL, GZIP, first)
    store.put(URL, GZIP, last)
    assert store.get(URL, GZIP) is last
    assert store.get(URL, BROTLI) is first
    assert store.vary_of(URL) == ENCODING


def test_purge_takes_every_variant_and_nothing_else() -> None:
    store = Store()
    gzip, plain, other = entry(vary=ENCODING), entry(), entry()
    store.put(URL, GZIP, gzip)
    store.put(URL, [], plain)
    store.put(OTHER, [], other)
    assert store.purge(URL) == 2
    assert store.purge(URL) == 0
    assert store.purge_epoch == 2
    assert (gzip.live, plain.live, other.live) == (False, False, True)
    assert store.get(URL, GZIP) is None
    assert store.get(OTHER, []) is other
    assert (len(store), URL in store) == (1, False)


def test_purge_all() -> None:
    store = Store()
    one, other = entry(), entry()
    store.put(URL, [], one)
    store.put(OTHER, [], other)
    assert store.purge_all() == 2
    assert (len(store), store.bytes_used, store.purge_epoch) == (0, 0, 1)
    assert (one.live, other.live) == (False, False)
    assert store.get(URL, []) is None


def test_a_fetch_that_began_before_a_purge_is_refused() -> None:
    store = Store()
    began = store.purge_epoch
    store.purge(URL)
    assert not store.put(URL, [], entry(), began)
    assert store.get(URL, []) is None
    assert store.put(OTHER, [], entry(), began)
    assert store.put(URL, [], entry(), store.purge_epoch)
    assert store.put(URL, [], entry())
    store.purge_all()
    assert not store.put(OTHER, [], entry(), store.purge_epoch - 1)
    assert store.put(OTHER, [], entry(), store.purge_epoch)


def test_purges_too_many_to_remember_refuse_old_fetches() -> None:
    store = Store()
    began = store.purge_epoch
    store.purge(URL)
    for number in range(MAX_REMEMBERED_PURGES - 1):
        store.purge(b"%d" % number)
    assert store.put(OTHER, [], entry(), began)
    store.purge(b"one too many")
    assert not store.put(OTHER, [], entry(), began)
    assert store.put(OTHER, [], entry(), began + 1)


def test_a_purge_that_is_repeated_is_remembered_anew() -> None:
    store = Store()
    store.purge(URL)
    for number in range(MAX_REMEMBERED_PURGES - 1):
        store.purge(b"%d" % number)
    began = store.purge_epoch
    store.purge(URL)
    store.purge(b"one more")
    assert not store.put(URL, [], entry(), began)


def test_too_large_is_refused_and_what_it_replaced_is_gone() -> None:
    store = Store(capacity=100_000)
    one = entry()
    store.put(URL, [], one)
    assert not store.put(URL, [], entry(b"x" * 13_000))
    assert store.get(URL, []) is None
    assert (one.live, len(store), store.bytes_used) == (False, 0, 0)
    assert not Store(max_object=3000).put(URL, [], entry(b"x" * 3000))


def test_eviction_keeps_the_bound_and_what_is_used() -> None:
    store = Store(capacity=200_000)
    used = entry()
    store.put(URL, [], used)
    every = []
    for number in range(500):
        assert store.get(URL, []) is used
        every.append(entry())
        assert store.put(b"%d" % number, [], every[-1])
        assert store.bytes_used <= 200_000
    live = [one for one in every if one.live]
    assert len(live) == len(store) - 1
    assert 50 < len(live) < 200
    assert [store.get(b"%d" % number, []) for number in range(500) if every[number].live] == live


def test_one_url_has_a_bounded_number_of_variants() -> None:
    store = Store()
    entries = [entry(vary=(b"user-agent",)) for _ in range(MAX_VARIANTS + 1)]
    for number, one in enumerate(entries):
        store.put(URL, [(b"user-agent", b"%d" % number)], one)
    assert len(store) == MAX_VARIANTS
    assert [one.live for one in entries] == [False] + [True] * MAX_VARIANTS


def test_what_is_charged_is_what_memory_it_takes() -> None:
    """The bound is only worth something if it is about real bytes: measured, with eviction under way."""
    gc.collect()
    tracemalloc.start()
    try:
        store = Store(capacity=4_000_000)
        for number in range(4000):
            fields = [(bytes([97 + n]) * 12, b"%030d" % (number + n)) for n in range(8)]
            store.put(b"https://e.example/%d" % number, [], entry(b"%01000d" % number, headers=fields))
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken <= store.bytes_used * 1.05
    assert taken >= store.bytes_used * 0.7
