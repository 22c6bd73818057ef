"""From a response to what is stored of it. Pure.

A `Draft` is an entry whose content is not there yet: made when a response's head has arrived, so that those
who ask for the same thing meanwhile can be served from what arrives.
"""

from __future__ import annotations

import re
from copy import copy
from typing import Final, NamedTuple

from atoll.cache import rules
from atoll.cache.freshness import explicit
from atoll.cache.partial import Partial
from atoll.cache.purge import Place, place_of, scoped_tag
from atoll.cache.store import Entry, LargeContent
from atoll.http.fields import CacheControl, Headers, format_http_date, get, get_all, parse_vary

MAX_TAGS: Final = 256
MAX_TAG: Final = 1024  # bytes
_SEPARATOR: Final = re.compile(rb"[ \t]*,[ \t]*")
_SPACES: Final = re.compile(rb"[ \t]+")


class Asked(NamedTuple):
    """What was asked for, as far as storing the answer depends on it."""

    method: bytes
    headers: Headers
    primary: bytes
    tenant: str
    request_time_s: float
    purge_seq: int  # the last purge applied when the request was sent, by the caches on its way too
    began_epoch: int  # what this worker had dropped by then
    heuristics: bool = True  # whether freshness may be guessed


class Draft(NamedTuple):
    """A response that is going to be stored: an entry without its content."""

    status: int
    headers: Headers
    cc: CacheControl
    vary: tuple[bytes, ...]
    place: Place
    purge_seq: int
    request_time_s: float
    response_time_s: float
    date_s: float
    lifetime_s: float
    initial_age_s: float

    def entry(self, body: bytes | LargeContent, partial: Partial | None = None) -> Entry:
        """The entry."""
        return Entry(
            status=self.status,
            headers=self.headers,
            body=body,
            request_time_s=self.request_time_s,
            response_time_s=self.response_time_s,
            date_s=self.date_s,
            lifetime_s=self.lifetime_s,
            initial_age_s=self.initial_age_s,
            cc=self.cc,
            vary=self.vary,
            place=self.place,
            purge_seq=self.purge_seq,
            partial=partial,
        )


OF_ONE_USER: Final = frozenset((b"authorization", b"cookie"))
"""Fields of requests whose responses may be refused for them; the reason is the field's name."""


class Refused(NamedTuple):
    """A response that is not stored, why, and whether it is so whoever asks.

    `whose` names the field of a request that has it refused: nobody who sends one gets what may be stored.
    """

    reason: str
    for_all: bool
    whose: bytes = b""


def judge(
    asked: Asked, status: int, headers: Headers, response_time_s: float, *, partial: bool = False
) -> Draft | Refused:
    """What is to be stored of a response, or why nothing is (RFC 9111 §3)."""
    cc = rules.effective(headers).cc
    verdict = rules.storability(
        asked.method, asked.headers, status, headers, cc, target=asked.primary, partial=partial
    )
    if not verdict.store:
        anybody = rules.storability(
            asked.method, [], status, headers, cc, target=asked.primary, partial=partial
        )
        reason = verdict.reason.encode()
        whose = reason if anybody.store and reason in OF_ONE_USER else b""
        return Refused(verdict.reason, not anybody.store, whose)
    vary = parse_vary(get_all(headers, b"vary"))
    assert vary is not None, "`Vary: *` is not storable"
    date_s = rules.response_date_s(headers, response_time_s)
    guessed = not explicit(headers, cc)
    lifetime_s = rules.freshness_lifetime_s(status, headers, cc, date_s)
    if guessed and not asked.heuristics:
        lifetime_s = 0.0  # kept all the same: a validation costs less than the whole
    kept = [f for f in rules.storable_headers(headers, cc) if f[0] not in (b"age", b"content-length")]
    if get(kept, b"date") is None:  # RFC 9110 §6.6.1
        kept.append((b"date", format_http_date(date_s)))
    return Draft(
        status=status,
        headers=kept,
        cc=cc,
        vary=vary,
        place=place_of(asked.primary, tags_of(headers, asked.tenant)),
        purge_seq=asked.purge_seq,
        request_time_s=asked.request_time_s,
        response_time_s=response_time_s,
        date_s=date_s,
        lifetime_s=lifetime_s,
        initial_age_s=rules.initial_age_s(headers, asked.request_time_s, response_time_s, date_s),
    )


def renewed(asked: Asked, entry: Entry, fresh304: Headers, response_time_s: float) -> Draft | Refused:
    """`entry` with what a 304 says of it (RFC 9111 §4.3.4)."""
    fresh = fresh304
    if get(fresh, b"date") is None:  # else it would be as old as what it renews
        fresh = [*fresh, (b"date", format_http_date(response_time_s))]
    merged = rules.update_stored(entry.headers, fresh)
    if (age := get(fresh304, b"age")) is not None:
        merged.append((b"age", age))
    # It is stored for all: who has it confirmed does not make it his own.
    headers = [field for field in asked.headers if field[0] != b"cookie"]
    return judge(asked._replace(method=b"GET", headers=headers), entry.status, merged, response_time_s)


def stale_from(entry: Entry, age_s: float) -> Entry:
    """`entry` with its freshness ended now, at `age_s`."""
    ended = copy(entry)
    ended.lifetime_s = min(entry.lifetime_s, age_s)
    ended.dependants = None  # they were made of the other one
    return ended


def tags_of(headers: Headers, tenant: str) -> tuple[bytes, ...]:
    """The tags a response can be purged by, as they are kept: scoped."""
    return tuple(scoped_tag(tenant, tag) for tag in tags_in(headers))


def tags_in(headers: Headers) -> tuple[bytes, ...]:
    """The tags that a response names: in `Cache-Tag` (commas between) and `Surrogate-Key` (spaces)."""
    tags: dict[bytes, None] = {}
    for name, value in headers:
        if name == b"cache-tag":
            found = _SEPARATOR.split(value)
        elif name == b"surrogate-key":
            found = _SPACES.split(value)
        else:
            continue
        for tag in found:
            if tag and len(tag) <= MAX_TAG and len(tags) < MAX_TAGS:
                tags[tag] = None
    return tuple(tags)
