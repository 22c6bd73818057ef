"""Responses for the machine's cache, whose bodies say what they have to be."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from random import Random

from atoll.cache.disk import DiskStore
from atoll.cache.purge import Place, PurgeLog
from atoll.cache.records import MEMBER, Member, Ref, checked, decode_row
from atoll.cache.store import NOWHERE, Entry
from atoll.http.fields import Headers, parse_cache_control

SLACK = 512 * 1024
"""Beside the capacity: up to 256 folders of a block each, locks, the marker, LMDB's table of readers."""


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


def audit(store: DiskStore) -> None:
    """Index, totals and files agree, and the bound holds; nobody else may write meanwhile."""
    parts = store.parts
    assert parts is not None
    refs: list[Ref] = []
    with parts.index.begin() as change:
        members = {place: Member(*MEMBER.unpack(packed)) for place, packed in change.items(b"q")}
        for url, packed in change.items(b"u"):
            refs += decode_row(url, checked(url, packed)) or []
        files = {name for name, _ in change.items(b"f")}
        segments = {number for _, number in change.segments()}
        totals, counted = change.totals, change.counted()
    names = ("objects", "small_bytes", "main_bytes", "segments", "files_bytes", "writing_bytes")
    assert {name: getattr(totals, name) for name in names} == {name: getattr(counted, name) for name in names}
    places = {struct.pack(">BII", ref.queue, ref.segment, ref.offset): ref for ref in refs}
    assert {place: (ref.variant, ref.size) for place, ref in places.items()} == {
        place: (member.variant, member.size) for place, member in members.items()
    }
    assert len(refs) == totals.objects
    assert {ref.file for ref in refs if ref.file} == files
    on_disk = [path for path in parts.claim.bodies.rglob("*") if path.is_file()]
    assert {bytes.fromhex(path.parent.name + path.name) for path in on_disk} == files
    assert set(parts.segments.on_disk()) == segments
    assert store.stats.bytes_used <= store.capacity
    assert disk_usage(store.folder) <= store.capacity + SLACK


def disk_usage(folder: Path) -> int:
    """Bytes that the folder takes on the disk."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
