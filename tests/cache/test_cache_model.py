"""A cache made of the real parts, against a model that remembers everything, over random histories.

The machine does what the edge does with a request: look up, decide, fetch, judge, store. The model keeps
every response the origin ever gave and checks each one that is served from the cache against the rules as the
RFC states them, on its own arithmetic. Bounds are checked after every step.
"""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from atoll.cache import rules
from atoll.cache.keys import primary_key
from atoll.cache.store import Entry, Store
from atoll.http.fields import Headers, get, get_all, parse_cache_control, parse_vary

CAPACITY = 60_000
PATHS = [b"/a", b"/b", b"/c", b"/d"]
SERVABLE = {
    b"max-age=30": (30, 0, 10),
    b"max-age=100": (100, 0, 10),
    b"s-maxage=20, max-age=500": (20, 0, 0),
    b"max-age=10, stale-while-revalidate=20": (10, 20, 10),
    b"max-age=10, must-revalidate": (10, 0, 0),
    b"public": (0, 0, 10),
}
"""Seconds fresh, seconds stale while revalidated, and seconds stale that `max-stale=10` gets."""

CONTROLS = [*SERVABLE, b"no-store", b"private, max-age=50", b"no-cache"]
ASKED = [b"", b"no-cache", b"max-age=5", b"min-fresh=15", b"max-stale=10", b"only-if-cached", b"no-store"]
VARIES: list[bytes | None] = [None, b"x-kind", b"x-kind, x-other", b"*"]


class Response(msgspec.Struct, frozen=True):
    """What the origin once answered, and to which request."""

    path: bytes
    request: tuple[tuple[bytes, bytes], ...]
    control: bytes
    vary: bytes | None
    at_s: float
    epoch: int


def headers_of(response: Response) -> Headers:
    """The response's fields as they come from the origin."""
    headers = [(b"cache-control", response.control), (b"etag", b'"1"')]
    return headers if response.vary is None else [*headers, (b"vary", response.vary)]


def oldest_s(control: bytes, asked: bytes) -> float:
    """The greatest age at which a response with `control` may answer a request with `asked`."""
    fresh_s, behind_s, max_stale_s = SERVABLE[control]
    if asked == b"max-age=5":
        return min(fresh_s, 5)
    if asked == b"min-fresh=15":
        return fresh_s - 15
    if asked == b"max-stale=10":
        return fresh_s + max(behind_s, max_stale_s)
    return fresh_s + behind_s


class CacheMachine(RuleBasedStateMachine):
    """One worker's cache and one origin."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(CAPACITY)
        self.now_s = 1_000_000.0
        self.answers: dict[bytes, Response] = {}
        self.purged_s: dict[bytes, float] = {}
        self.in_flight: list[tuple[Response, int]] = []

    def _fetch(self, path: bytes, request: Headers, control: bytes, vary: bytes | None) -> Response:
        return Response(path, tuple(request), control, vary, self.now_s, self.store.purge_epoch)

    def _keep(self, response: Response, size: int) -> None:
        headers, request = headers_of(response), list(response.request)
        cc = parse_cache_control([response.control])
        vary = parse_vary(get_all(headers, b"vary"))
        if vary is None or not rules.storability(b"GET", request, 200, headers, cc).store:
            return
        mark = b"%d" % len(self.answers)
        self.answers[mark] = response
        entry = Entry(
            status=200,
            headers=headers,
            body=mark.ljust(size, b"."),
            request_time_s=response.at_s,
            response_time_s=response.at_s,
            date_s=response.at_s,
            lifetime_s=rules.freshness_lifetime_s(200, headers, cc, response.at_s),
            initial_age_s=rules.initial_age_s(headers, response.at_s, response.at_s, response.at_s),
            cc=cc,
            vary=vary,
        )
        self.store.put(primary_key(b"http", b"e", response.path), request, entry, response.epoch)

    @rule(
        path=st.sampled_from(PATHS),
        kind=st.sampled_from([b"1", b"2", None]),
        asked=st.sampled_from(ASKED),
        control=st.sampled_from(CONTROLS),
        vary=st.sampled_from(VARIES),
        size=st.integers(3, 9000),
        slow=st.booleans(),
    )
    def request(
        self,
        path: bytes,
        kind: bytes | None,
        asked: bytes,
        control: bytes,
        vary: bytes | None,
        size: int,
        slow: bool,
    ) -> None:
        """A request comes; the origin would answer with `control` and `vary`, perhaps later."""
        request: Headers = [(b"cache-control", asked)] if asked else []
        request += [(b"x-kind", kind)] if kind is not None else []
        entry = self.store.get(primary_key(b"http", b"e", path), request)
        if entry is not None and self._served(entry, asked):
            self._check(entry, path, request, asked)
            return
        response = self._fetch(path, request, control, vary)
        if slow:
            self.in_flight.append((response, size))
        else:
            self._keep(response, size)

    def _served(self, entry: Entry, asked: bytes) -> bool:
        age_s = rules.current_age_s(entry.initial_age_s, entry.response_time_s, self.now_s)
        decision = rules.decide(entry.cc, entry.lifetime_s, age_s, parse_cache_control([asked]))
        return decision in (
            rules.Decision.FRESH,
            rules.Decision.STALE,
            rules.Decision.STALE_WHILE_REVALIDATE,
        )

    def _check(self, entry: Entry, path: bytes, request: Headers, asked: bytes) -> None:
        """What the cache serves is a response that may be served, by the model's own arithmetic."""
        assert entry.live
        assert isinstance(entry.body, bytes)
        response = self.answers[entry.body.rstrip(b".")]
        assert response.path == path
        assert response.at_s >= self.purged_s.get(path, 0.0)
        for name in (response.vary or b"").split(b", "):
            assert get(request, name) == get(list(response.request), name)
        assert asked != b"no-cache"
        assert get(list(response.request), b"cache-control") != b"no-store"
        assert self.now_s - response.at_s <= oldest_s(response.control, asked)

    @precondition(lambda self: self.in_flight)
    @rule(index=st.integers(0, 100))
    def arrive(self, index: int) -> None:
        """A slow response arrives, perhaps after a purge."""
        self._keep(*self.in_flight.pop(index % len(self.in_flight)))

    @rule(path=st.sampled_from(PATHS))
    def purge(self, path: bytes) -> None:
        """One URL is purged."""
        self.now_s += 0.001
        self.store.purge(primary_key(b"http", b"e", path))
        self.purged_s[path] = self.now_s

    @rule()
    def purge_all(self) -> None:
        """Everything is purged."""
        self.now_s += 0.001
        self.store.purge_all()
        self.purged_s = dict.fromkeys(PATHS, self.now_s)

    @rule(seconds=st.sampled_from([0.5, 4, 9, 15, 40]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.now_s += seconds

    @invariant()
    def bounded(self) -> None:
        """Never more bytes than allowed, and none left when nothing is stored."""
        assert self.store.bytes_used <= CAPACITY
        live = [key for path in PATHS if (key := primary_key(b"http", b"e", path)) in self.store]
        assert (len(self.store) > 0) is bool(live)


CacheMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestCacheHistories = CacheMachine.TestCase
