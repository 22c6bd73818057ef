"""What one transaction does to a store: a response is inserted, renewed or removed, a file gets its room.

Functions of a change and the parts of an open store. Each leaves index and totals consistent; bytes are on
their way to the disk before anything points to them, and are removed after nothing does.
"""

from __future__ import annotations

import os
from typing import Final

import msgspec

from atoll.cache.blocks import BodyFile, path_of
from atoll.cache.parts import Parts
from atoll.cache.purge import PurgeLog, Verdict
from atoll.cache.records import (
    Member,
    Metadata,
    Ref,
    check_of,
    decode_head,
    decode_meta,
    encode_record,
    url_hash,
    variant_hash,
)
from atoll.cache.space import Space, use_hash
from atoll.cache.store import MAX_VARIANTS
from atoll.cache.totals import MAIN, SMALL
from atoll.cache.transaction import Change
from atoll.http.fields import get

_WRITING_PARTS: Final = 4
"""Bodies that are being written may take one of so many parts of the capacity."""


def store(change: Change, parts: Parts, meta: Metadata, record: bytes, body_cost: int) -> bool:
    """Insert a response in place of the one of its variant. False when there is no room yet."""
    space = _space(parts)
    space.pay(change, len(record) + body_cost)
    url = url_hash(meta.primary, parts.seed)
    return _insert(change, space, url, meta, record, len(record) + body_cost)


def renew(change: Change, parts: Parts, meta: Metadata, seq: int | None, log: PurgeLog) -> bool:
    """New metadata for a stored response, its body as it is (RFC 9111 §4.3.4).

    False when another response is stored there, by its validators or by its number, or when it was purged.
    """
    space = _space(parts)
    url = url_hash(meta.primary, parts.seed)
    space.pay(change, 0)
    variant = variant_hash(meta.vary, meta.selection)
    old = next((ref for ref in change.row(url) if ref.variant == variant), None)
    data = parts.read(old) if old is not None and seq in {None, old.seq} else b""
    head = decode_head(data)
    known = decode_meta(data, head) if head is not None else None
    if old is None or head is None or known is None or not _same_response(known, meta):
        return False
    if Verdict.GONE in {log.verdict(each.place, each.purge_seq) for each in (known, meta)}:
        return False
    meta = msgspec.structs.replace(meta, file=known.file)
    record = encode_record(meta, head.body_length, head.body_check, data[head.length - head.inline_length :])
    return _insert(change, space, url, meta, record, old.size - old.length + len(record))


def remove(change: Change, parts: Parts, url: bytes) -> int:
    """Every variant of a URL leaves. How many there were."""
    row = change.row(url)
    for ref in row:
        _space(parts).remove(change, ref)
    change.set_row(url, [])
    return len(row)


def drop(change: Change, parts: Parts, condemned: dict[tuple[bytes, bytes], int]) -> None:
    """Records leave that were found to be of no use, unless they have been replaced meanwhile."""
    for (url, variant), seq in condemned.items():
        row = change.row(url)
        for ref in row:
            if ref.variant == variant and ref.seq == seq:
                _space(parts).remove(change, ref)
        change.set_row(url, [ref for ref in row if (ref.variant, ref.seq) != (variant, seq)])


def reserve(change: Change, parts: Parts, file: BodyFile, size: int) -> bool | None:
    """`file` may take `size` bytes. False when there is no room yet, None when there are too many writers."""
    space = _space(parts)
    more = size - file.reserved
    if change.totals.writing_bytes + more > space.capacity // _WRITING_PARTS:
        return None
    if not space.fits(change, more):
        return False
    change.reserve_file(file.name, size)
    return True


def make_room(change: Change, parts: Parts, size: int) -> bool | None:
    """Evict for `size` bytes. False when more changes are needed, None when nothing helps."""
    return _space(parts).make_room(change, size)


def retire(change: Change, parts: Parts) -> bool:
    """Segments without records are removed, and files of segments that the index does not know."""
    known = {number for _, number in change.segments()}
    change.retire_all_drained()
    for number in set(parts.segments.on_disk()) - known:
        parts.segments.unlink(number)  # at once: the next change may give the number to a new one
    return True


def finish(change: Change, parts: Parts) -> None:
    """After the commit: remove the files that it made superfluous."""
    for number in change.dead_segments:
        parts.segments.unlink(number)
    if change.dead_segments:
        _space(parts).hints.raise_signal()
    for name in change.dead_files:
        try:
            os.unlink(path_of(parts.claim.bodies, name))
        except OSError:  # a sweep finds it
            continue


def _insert(change: Change, space: Space, url: bytes, meta: Metadata, record: bytes, size: int) -> bool:
    variant = variant_hash(meta.vary, meta.selection)
    row = change.row(url)
    old = next((ref for ref in row if ref.variant == variant), None)
    hashed = use_hash(url, variant)
    if old is None:
        queue = MAIN if space.hints.recall(hashed) else SMALL
        space.hints.set_uses(hashed, 0)
    else:
        queue = old.queue
    place = space.append(change, queue, record)
    if place is None:
        return False
    if old is not None:
        row.remove(old)
        change.take_member(old.queue, old.segment, old.offset)
    _change_file(change, url, b"" if old is None else old.file, meta.file, size - len(record))
    change.totals.seq += 1
    segment, offset = place
    ref = Ref(
        vary=meta.vary,
        variant=variant,
        date_s=meta.date_s,
        seq=change.totals.seq,
        purge_seq=meta.purge_seq,
        queue=queue,
        segment=segment,
        offset=offset,
        length=len(record),
        size=size,
        check=check_of(record),
        file=meta.file,
    )
    row.append(ref)
    while len(row) > MAX_VARIANTS:
        space.remove(change, row.pop(0))
    change.add_member(ref, Member(url, variant, size))
    change.set_row(url, row)
    return True


def _change_file(change: Change, url: bytes, old: bytes, new: bytes, cost: int) -> None:
    if old == new:
        return
    if old:
        change.drop_file(old)
    if new:
        change.release_file(new)
        change.keep_file(new, cost, url)


def _same_response(known: Metadata, renewed: Metadata) -> bool:
    """Whether the validators are the same: else the body belongs to something else."""
    names = (b"etag", b"last-modified")
    same = all(get(known.headers, name) == get(renewed.headers, name) for name in names)
    return same and known.primary == renewed.primary and known.selection == renewed.selection


def _space(parts: Parts) -> Space:
    assert parts.space is not None, "changes are only made where something can be written"
    return parts.space


def clear(change: Change, parts: Parts) -> bool:
    """Everything leaves but the purges. What is being written may still be committed."""
    change.dead_segments += [number for _, number in change.segments()]
    change.dead_files += [name for name, _ in change.items(b"f")]
    change.clear((b"u", b"f", b"q", b"s"))
    totals = change.totals
    totals.objects = totals.segments = totals.small_segments = 0
    totals.files_bytes = totals.small_bytes = totals.main_bytes = 0
    totals.set_tail(SMALL, 0, 0)
    totals.set_tail(MAIN, 0, 0)
    return True
