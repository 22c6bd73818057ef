"""Responses for the machine's cache, whose bodies say what they have to be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from random import Random

from atoll.cache.disk import DiskStore
from atoll.cache.purge import Place, PurgeLog
from atoll.cache.store import NOWHERE, Entry
from atoll.http.fields import Headers, parse_cache_control


def seeded_body(seed: bytes, length: int) -> bytes:
    """The body of `length` bytes that `seed` stands for."""
    return Random(seed).randbytes(length)


def entry_of_body(
    body: bytes,
    *,
    vary: tuple[bytes, ...] = (),
    date_s: float = 1000.0,
    purge_seq: int = 0,
    place: Place = NOWHERE,
    extra: Headers | None = None,
) -> Entry:
    """A fresh response with that body, whose `ETag` is of the body."""
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"etag", b'"' + hashlib.sha256(body).hexdigest()[:16].encode() + b'"'),
        (b"cache-control", b"max-age=600, stale-while-revalidate=30"),
        *(extra or []),
    ]
    return Entry(
        status=200,
        headers=headers,
        body=body,
        request_time_s=date_s - 0.5,
        response_time_s=date_s,
        date_s=date_s,
        lifetime_s=600.0,
        initial_age_s=0.5,
        cc=parse_cache_control([b"max-age=600, stale-while-revalidate=30"]),
        vary=vary,
        place=place,
        purge_seq=purge_seq,
    )


def open_store(folder: Path, capacity: int) -> DiskStore:
    """The store in `folder`, with a purge log of its own."""
    return DiskStore(folder, capacity, PurgeLog())
