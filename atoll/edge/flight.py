"""Fetches under way, and who may wait for them.

One request per key goes to the origin; others that come meanwhile wait until its head is there, and are then
served from what arrives, if that is for others too. A key whose answers are for one user each is marked for
a while, so that nobody waits for what will not be his.

What was never fresh may be one user's, whom the origin would have told from others in a validation: it is
shared by those alone who say the same of themselves.
"""

from __future__ import annotations

import asyncio
from typing import Final

from atoll.edge.keeping import OF_ONE_USER, Draft
from atoll.edge.spool import Spool
from atoll.errors import RemoteError
from atoll.http.fields import CacheControl, Headers, get

MARK_S: Final = 10.0
"""How long requests for what could not be stored go to the origin side by side."""

MAX_MARKS: Final = 65_536


_OF_NOBODY: Final = frozenset(
    (
        b"accept",
        b"accept-charset",
        b"accept-encoding",
        b"accept-language",
        b"cache-control",
        b"dnt",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"pragma",
        b"priority",
        b"purpose",
        b"range",
        b"referer",
        b"save-data",
        b"traceparent",
        b"tracestate",
        b"upgrade-insecure-requests",
        b"user-agent",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-request-id",
    )
)
_PREFIXES_OF_NOBODY: Final = (b"sec-fetch-", b"sec-ch-", b"sec-gpc", b"sec-purpose", b"atoll-")
"""Fields that do not say who asks."""


def identity(headers: Headers) -> Headers:
    """What a request says of whoever sends it: credentials, and every field that might be some."""
    return sorted(
        field
        for field in headers
        if field[0] not in _OF_NOBODY and not field[0].startswith(_PREFIXES_OF_NOBODY)
    )


def for_anybody(cc: CacheControl, lifetime_s: float) -> bool:
    """Whether a response with these directives, so long fresh, may be shared without asking whose it is."""
    return not cc.no_cache and (lifetime_s > 0 or cc.public)


def _mark_of(key: bytes, whose: bytes) -> bytes:
    return key + b"\0" + whose if whose else key


class Flight:
    """A fetch for a key. Who waits for `settled` finds a `draft` and its `spool`, or `stored`, or neither.

    `began_epoch` is what this worker had dropped when it was asked for. `in_vain`: nothing came, or what may
    not be kept because of what the one who asked had said, and another may have more luck; unless there was
    no answer in time, for which `silent` stands. `whose`: a field of the request kept it from being for
    others, and whoever sends one has no more luck.
    """

    __slots__ = (
        "_asked",
        "began_epoch",
        "draft",
        "in_vain",
        "key",
        "selection",
        "settled",
        "silent",
        "spool",
        "stored",
        "whose",
    )

    def __init__(self, key: bytes, asked: Headers) -> None:
        self.key = key
        self._asked = asked
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.draft: Draft | None = None
        self.spool: Spool | None = None
        self.selection = b""  # what its request holds in the fields that the response varies by
        self.began_epoch = 0
        self.silent: RemoteError | None = None
        self.in_vain = False
        self.whose = b""
        self.stored = False

    def share(self, draft: Draft, spool: Spool, selection: bytes, began_epoch: int) -> None:
        """Its response is for everybody who makes the same selection."""
        self.draft, self.spool, self.selection = draft, spool, selection
        self.began_epoch = began_epoch
        self.settle()

    def is_by(self, headers: Headers) -> bool:
        """Whether a request with these fields is by the same user, as far as fields say."""
        return identity(headers) == identity(self._asked)

    def leaves_hope(self, headers: Headers) -> bool:
        """Whether a request with these fields may share what the next one who asks gets."""
        return self.in_vain and not (self.whose and get(headers, self.whose) is not None)

    def settle(self) -> None:
        """No more is going to be known than now."""
        if not self.settled.done():
            self.settled.set_result(None)


class Flights:
    """Those of one worker, by key."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, Flight] = {}
        self._marks: dict[bytes, float] = {}  # key → until when (seconds); the oldest mark first

    def find(self, key: bytes, headers: Headers, now_s: float) -> Flight | None:
        """A fetch that is worth waiting for, for a request with these fields."""
        flight = self._under_way.get(key)
        if flight is None or self.marked(key, now_s):
            return None
        for name, _ in headers:
            if name in OF_ONE_USER and self.marked(_mark_of(key, name), now_s):
                return None
        return flight

    def begin(self, key: bytes, asked: Headers) -> Flight:
        """A new fetch for a request with the fields `asked`; the first one for its key is found by others."""
        flight = Flight(key, asked)
        self._under_way.setdefault(key, flight)
        return flight

    def under_way(self, key: bytes) -> bool:
        """Whether there is one for `key`."""
        return key in self._under_way

    def land(self, flight: Flight) -> None:
        """It is over, or nobody else is to find it."""
        if self._under_way.get(flight.key) is flight:
            del self._under_way[flight.key]
        flight.settle()

    def mark(self, key: bytes, now_s: float, whose: bytes = b"") -> None:
        """What is fetched for `key` is for nobody else, if the request has a field `whose`."""
        key = _mark_of(key, whose)
        self._marks.pop(key, None)
        self._marks[key] = now_s + MARK_S
        if len(self._marks) > MAX_MARKS:
            del self._marks[next(iter(self._marks))]

    def unmark(self, key: bytes) -> None:
        """It is for others too."""
        self._marks.pop(key, None)

    def marked(self, key: bytes, now_s: float) -> bool:
        """Whether it was not for others a moment ago."""
        until_s = self._marks.get(key)
        if until_s is None:
            return False
        if until_s > now_s:
            return True
        del self._marks[key]
        return False
