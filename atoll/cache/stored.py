"""A stored response as it comes from the machine's disk, and the way between it and a worker's `Entry`."""

from __future__ import annotations

import msgspec

from atoll.cache.blocks import StoredBody
from atoll.cache.records import Metadata
from atoll.cache.store import Entry
from atoll.http.fields import Headers


class StoredEntry(msgspec.Struct, frozen=True):
    """What was stored, whole and checked.

    `length` is the body's; `body` is None in a list of validators, where nobody asked for it. `stale` says
    that a soft purge has ended its freshness. `seq` is the number under which it was stored: what has another
    one is another response.
    """

    meta: Metadata
    body: bytes | StoredBody | None
    length: int
    seq: int
    stale: bool = False

    @property
    def status(self) -> int:
        """The status code."""
        return self.meta.status

    @property
    def headers(self) -> Headers:
        """The fields to send."""
        return self.meta.headers


def metadata_of(primary: bytes, selection: bytes, entry: Entry) -> Metadata:
    """What is written down of `entry`, which answers requests for `primary` that hold `selection`."""
    return Metadata(
        primary=primary,
        vary=entry.vary,
        selection=selection,
        status=entry.status,
        headers=entry.headers,
        request_time_s=entry.request_time_s,
        response_time_s=entry.response_time_s,
        date_s=entry.date_s,
        lifetime_s=entry.lifetime_s,
        initial_age_s=entry.initial_age_s,
        cc=entry.cc,
        tags=entry.place.tags,
        purge_seq=entry.purge_seq,
        url=b"" if entry.place.url == primary.partition(b"://")[2] else entry.place.url,
    )


def entry_of(stored: StoredEntry) -> Entry:
    """An entry for a worker's own store; not yet in it."""
    meta = stored.meta
    entry = Entry(
        status=meta.status,
        headers=meta.headers,
        body=b"" if stored.body is None else stored.body,
        request_time_s=meta.request_time_s,
        response_time_s=meta.response_time_s,
        date_s=meta.date_s,
        lifetime_s=meta.lifetime_s,
        initial_age_s=meta.initial_age_s,
        cc=meta.cc,
        vary=meta.vary,
        place=meta.place,
        purge_seq=meta.purge_seq,
    )
    entry.softened = stored.stale
    return entry
