"""The purge log: what it says of a response is what looking at every purge one by one would say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.purge import Place, PurgeLog, Verdict, place_of, scoped_tag
from atoll.config.purge import Selector

_HOSTS = ("a.example", "b.example")
_PATHS = ("/", "/x", "/x/y", "/x/y?z=1")
_TAGS = ("red", "blue")


def selectors() -> st.SearchStrategy[Selector]:
    urls = st.sampled_from([host + path for host in _HOSTS for path in _PATHS])
    values = st.one_of(
        st.tuples(st.just("url"), urls),
        st.tuples(st.just("prefix"), urls),
        st.tuples(st.just("host"), st.sampled_from(_HOSTS)),
        st.tuples(st.just("tag"), st.sampled_from(_TAGS)),
        st.just(("all", "")),
    )
    return st.builds(
        lambda pair, soft, tenant: Selector(kind=pair[0], value=pair[1], soft=soft, tenant=tenant),
        values,
        st.booleans(),
        st.sampled_from(("default", "other")),
    )


def selects(selector: Selector, place: Place) -> bool:
    value = selector.value.encode()
    if selector.kind == "url":
        return place.url == value
    if selector.kind == "prefix":
        return place.url.startswith(value)
    if selector.kind == "host":
        return place.host == value
    if selector.kind == "tag":
        return scoped_tag(selector.tenant, value) in place.tags
    return True


def expected(purges: list[Selector], place: Place, seq: int) -> Verdict:
    later = [selector for selector in purges[seq:] if selects(selector, place)]
    if any(not selector.soft for selector in later):
        return Verdict.GONE
    return Verdict.STALE if later else Verdict.KEEP


@given(
    st.lists(selectors(), max_size=12),
    st.sampled_from(_HOSTS),
    st.sampled_from(_PATHS),
    st.sets(st.sampled_from(_TAGS)),
    st.integers(0, 12),
)
def test_verdict_is_that_of_looking_at_every_purge(
    purges: list[Selector], host: str, path: str, tags: set[str], seq: int
) -> None:
    log = PurgeLog()
    for number, selector in enumerate(purges, 1):
        assert log.add(number, selector)
    place = place_of(f"https://{host}{path}".encode(), tuple(scoped_tag("default", t.encode()) for t in tags))
    assert log.verdict(place, seq) == expected(purges, place, seq)


@given(st.lists(selectors(), max_size=12), st.integers(1, 6), st.integers(0, 12))
def test_a_bounded_log_never_keeps_what_an_unbounded_one_would_not(
    purges: list[Selector], limit: int, seq: int
) -> None:
    small, large = PurgeLog(limit), PurgeLog()
    for number, selector in enumerate(purges, 1):
        small.add(number, selector)
        large.add(number, selector)
    place = place_of(b"https://a.example/x", (scoped_tag("default", b"red"),))
    assert (small.verdict(place, seq) != Verdict.KEEP) >= (large.verdict(place, seq) != Verdict.KEEP)
    assert len(small.remembered()) <= limit


@given(st.lists(selectors(), max_size=12), st.integers(0, 12))
def test_a_log_built_from_what_is_remembered_says_the_same(purges: list[Selector], seq: int) -> None:
    log = PurgeLog(5)
    for number, selector in enumerate(purges, 1):
        log.add(number, selector)
    again = PurgeLog(5)
    again.behind(log.floor)
    for number, selector in log.remembered():
        again.add(number, selector)
    place = place_of(b"http://b.example/x/y", (scoped_tag("other", b"blue"),))
    assert again.verdict(place, seq) == log.verdict(place, seq)


def test_a_purge_applied_twice_is_applied_once() -> None:
    log = PurgeLog()
    assert log.add(3, Selector(kind="all"))
    epoch = log.epoch
    assert not log.add(3, Selector(kind="all"))
    assert not log.add(2, Selector(kind="host", value="a.example"))
    assert log.epoch == epoch


def test_what_was_fetched_after_a_purge_is_kept() -> None:
    log = PurgeLog()
    log.add(7, Selector(kind="host", value="a.example"))
    place = place_of(b"https://a.example/", ())
    assert log.verdict(place, 6) == Verdict.GONE
    assert log.verdict(place, 7) == Verdict.KEEP


def test_unknown_purges_make_everything_older_stale_and_nothing_gone() -> None:
    log = PurgeLog()
    log.behind(10)
    place = place_of(b"https://a.example/", ())
    assert log.verdict(place, 9) == Verdict.STALE
    assert log.verdict(place, 10) == Verdict.KEEP


def test_one_tenants_tag_is_not_anothers() -> None:
    log = PurgeLog()
    log.add(1, Selector(kind="tag", value="red", tenant="other"))
    mine = place_of(b"https://a.example/", (scoped_tag("default", b"red"),))
    assert log.verdict(mine, 0) == Verdict.KEEP
