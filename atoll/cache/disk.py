"""The machine's cache: on disk, larger than memory, shared by all workers, safe when any of them is killed.

An index in LMDB says where each URL's variants are (`atoll.cache.index`), records are in segment files
(`atoll.cache.segments`), long bodies in files of their own (`atoll.cache.blocks`), and what leaves is decided
in `atoll.cache.space`. What is handed out has been checked against its checksum and against the request; what
does not check is a miss, is dropped and counted. A change becomes visible whole, with one transaction, or not
at all. When the disk is full, read-only or failing, writes are refused and counted, and reads go on.

Every call is synchronous; `get` takes microseconds while the kernel has the pages. A `DiskStore` may be used
from several threads; a process opens a folder once.
"""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import lmdb
import msgspec

from atoll.cache import changes, purge_disk
from atoll.cache.blocks import Checked, StoredBody, open_body, path_of
from atoll.cache.disk_stats import Stats
from atoll.cache.index import Busy
from atoll.cache.keys import vary_key
from atoll.cache.parts import Parts, open_parts
from atoll.cache.purge import PurgeLog, Verdict
from atoll.cache.records import (
    HEAD_SIZE,
    Head,
    Metadata,
    Ref,
    check_of,
    decode_body,
    decode_head,
    decode_meta,
    selects,
    url_hash,
    variant_hash,
)
from atoll.cache.shelf import Shelf, Torn
from atoll.cache.space import MIN_CAPACITY, use_hash
from atoll.cache.store import Entry
from atoll.cache.stored import StoredEntry, metadata_of
from atoll.cache.sweep import Sweep
from atoll.cache.transaction import Change
from atoll.cache.writer import BodyWriter
from atoll.config.purge import Selector
from atoll.errors import AtollError
from atoll.http.fields import Headers

T = TypeVar("T")

MAX_INLINE: Final = 64 * 1024
"""Bytes of a body that is kept within its record."""

_PEEK: Final = 4096  # bytes in which most metadata is
_CONDEMNED: Final = 65_536  # found to be dropped, with the next change
_PAUSE_S: Final = 1.0  # nothing is stored for so long after the disk took no more
_QUIET_S: Final = 60.0  # between two warnings of that
_OPEN_AGAIN_S: Final = 10.0  # between two attempts
_TRUST_S: Final = 3600.0  # a store that worked for so long is sound
_ROUNDS: Final = 64  # changes made for the sake of one reservation
_PASSING: Final = (lmdb.MapFullError, lmdb.TxnFullError, lmdb.ReadersFullError, lmdb.ReadonlyError)

_log = logging.getLogger("atoll.cache")


class DiskStore:
    """The cache in `folder`, of at most `capacity` bytes on disk, index and all."""

    def __init__(self, folder: Path, capacity: int, log: PurgeLog, max_object: int | None = None) -> None:
        """Open or make the store. One that can not be opened starts empty, or does nothing and says so.

        Raises:
            AtollError: the capacity is too small.
        """
        if capacity < MIN_CAPACITY:
            raise AtollError(f"a cache of {capacity} bytes is too small", f"{MIN_CAPACITY} at least")
        self.folder = folder
        self.capacity = capacity
        self.max_object = capacity // 8 if max_object is None else min(max_object, capacity // 8)
        self.max_inline = min(MAX_INLINE, capacity // 256)
        self.log = log
        self.counts = Stats(capacity=capacity)
        self._checked = Checked()
        self._sweep = Sweep()
        self._paused_until_s = 0.0
        self._condemned: dict[tuple[bytes, bytes], int] = {}
        self._damaged: Parts | None = None
        self._damaged_seed: int | None = None
        self._open_again_s = 0.0
        self._closed = False
        self._opened_s = time.monotonic()
        self.parts = open_parts(folder, capacity)

    def close(self) -> None:
        """Stop using the folder. The last one of a machine leaves a store that survives the system's end."""
        for parts in (self.parts, self._damaged):
            if parts is not None:
                parts.close()
        self.parts = self._damaged = None
        self._closed = True

    @property
    def stats(self) -> Stats:
        """The numbers as of now."""
        found = msgspec.structs.replace(self.counts, leftovers=self._sweep.leftovers)
        parts = self.parts
        if parts is None:
            return found
        found.working, found.writable = True, parts.space is not None
        try:
            totals = parts.index.totals()
        except lmdb.Error as error:
            self._fail(error)
            return found
        found.objects = totals.objects
        if parts.space is not None:
            found.bytes_used = parts.space.used(totals, parts.index.bytes_used)
            found.evicted, found.promoted = parts.space.evicted, parts.space.promoted
        return found

    # Reading.

    def get(self, primary: bytes, request: Headers) -> StoredEntry | None:
        """The newest stored response that `request` selects (RFC 9111 §4.1) and that no purge has removed."""
        parts = self.parts
        if parts is None:
            return None
        parts.close_removed()
        url = url_hash(primary, parts.seed)
        found = self._selected(parts, url, request)
        while found:
            for ref in found:
                entry = self._read(parts, url, ref, primary)
                if entry is not None and selects(entry.meta, primary, request):
                    parts.used(use_hash(url, ref.variant))
                    self.counts.hits += 1
                    return entry
            looked_up, found = found, self._selected(parts, url, request)
            if found == looked_up:  # else it was moved or replaced before it was read
                self._drop_lost(parts, url, found)
                break
        self.counts.misses += 1
        return None

    def variants(self, primary: bytes) -> list[StoredEntry]:
        """All stored responses of a URL, without their bodies."""
        parts = self.parts
        if parts is None:
            return []
        url = url_hash(primary, parts.seed)
        found = [self._read(parts, url, ref, primary, with_body=False) for ref in self._row(parts, url)]
        return [entry for entry in found if entry is not None]

    def _row(self, parts: Parts, url: bytes) -> list[Ref]:
        for last in (False, True):
            try:
                return parts.index.row(url) or []
            except lmdb.Error as error:
                # A reader that was held up between two steps while others wrote may stumble once.
                if last:
                    self._fail(error)
        return []

    def _selected(self, parts: Parts, url: bytes, request: Headers) -> list[Ref]:
        """The variants that may answer `request`, the most recent first."""
        row = self._row(parts, url)
        if len(row) == 1 and not row[0].vary:
            return row
        found = [ref for ref in row if ref.variant == variant_hash(ref.vary, vary_key(ref.vary, request))]
        found.sort(key=lambda ref: (ref.date_s, ref.seq), reverse=True)
        return found

    def _read(
        self, parts: Parts, url: bytes, ref: Ref, primary: bytes | None, with_body: bool = True
    ) -> StoredEntry | None:
        """The record of `ref` if it is whole, of the URL, and not purged; `primary` None: of whatever URL."""
        if self._condemned and self._condemned.get((url, ref.variant)) == ref.seq:
            return None
        data = parts.read(ref, None if with_body else _PEEK)
        head = decode_head(data)
        if head is not None and not with_body and HEAD_SIZE + head.meta_length > len(data):
            data = parts.read(ref)
        meta = decode_meta(data, head) if head is not None and check_of(data) == ref.check else None
        if head is None or meta is None:
            if data:  # else its segment is gone, and the index has changed
                self.drop(url, ref, broken=True)
            return None
        verdict = Verdict.KEEP
        if meta.purge_seq < self.log.applied:
            verdict = self.log.verdict(meta.place, meta.purge_seq)
        if verdict is Verdict.GONE:
            self.drop(url, ref)
        if verdict is Verdict.GONE or primary not in {None, meta.primary}:
            return None
        body: bytes | StoredBody | None = None
        if with_body:
            try:
                body = self._body(parts, url, ref, head, data)
            except OSError:  # its file is gone, and the index has changed
                return None
            if body is None:
                self.drop(url, ref, broken=True)
                return None
        return StoredEntry(meta, body, head.body_length, ref.seq, verdict is Verdict.STALE)

    def _body(self, parts: Parts, url: bytes, ref: Ref, head: Head, data: bytes) -> bytes | StoredBody | None:
        if not head.in_file:
            return decode_body(data, head)
        path = path_of(parts.claim.bodies, ref.file)
        return open_body(path, head.body_length, head.body_check, Torn(self, url, ref), self._checked)

    def _drop_lost(self, parts: Parts, url: bytes, refs: list[Ref]) -> None:
        """Records that the index still points to and whose segment or file is not there."""
        for ref in refs:
            lost = ref.file and not path_of(parts.claim.bodies, ref.file).exists()
            if lost or not parts.read(ref, 1):
                self.drop(url, ref, broken=True)

    def drop(self, url: bytes, ref: Ref, broken: bool = False) -> None:
        """A record is not served any more, and leaves with the next change."""
        key = (url, ref.variant)
        if self._condemned.get(key) == ref.seq:
            return
        if broken:
            self.counts.broken += 1
        else:
            self.counts.gone += 1
        if len(self._condemned) < _CONDEMNED:
            self._condemned[key] = ref.seq

    # Writing.

    def put(self, primary: bytes, request: Headers, entry: Entry, body: bytes) -> bool:
        """Store `entry` with `body` as the answer to `request`, in place of what that selected."""
        writer = self.writer(primary, request, entry, len(body))
        try:
            writer.write(body)
        except OSError:
            return False
        return writer.commit()

    def writer(self, primary: bytes, request: Headers, entry: Entry, length: int | None) -> BodyWriter:
        """Store `entry` with a body that comes bit by bit; of `length` bytes, when that is known."""
        return BodyWriter(Shelf(self, metadata_of(primary, vary_key(entry.vary, request), entry)), length)

    def update(self, primary: bytes, request: Headers, entry: Entry, seq: int | None = None) -> bool:
        """New metadata for the response that `request` and `entry.vary` select (RFC 9111 §4.3.4).

        Its body stays. Nothing changes when another response is stored there by now: one with other
        validators, or with another number than `seq`.
        """
        return self.update_stored(metadata_of(primary, vary_key(entry.vary, request), entry), seq)

    def update_stored(self, meta: Metadata, seq: int | None = None) -> bool:
        """`update` of a variant that is known (see `variants`)."""
        done = self.write(lambda change, parts: changes.renew(change, parts, meta, seq, self.log), False)
        self.counts.updated += done
        return done

    def remove(self, primary: bytes) -> int:
        """Drop every variant of a URL. How many there were."""
        parts = self.parts
        if parts is None:
            return 0
        url = url_hash(primary, parts.seed)
        row = self._row(parts, url)
        if not row:
            return 0
        removed = self.write(lambda change, parts: changes.remove(change, parts, url), -1)
        if removed < 0:  # it can not be written down now: at least it is not served from here
            for ref in row:
                self.drop(url, ref)
        return len(row) if removed < 0 else removed

    def clear(self) -> bool:
        """Drop everything but the purges. Whether it could be done."""
        return self.write(changes.clear, False)

    def store_record(self, meta: Metadata, record: bytes, body_cost: int) -> bool:
        """Make a record visible whose body, when it has a file, is written."""
        if self.log.verdict(meta.place, meta.purge_seq) is Verdict.GONE:
            self.counts.refused_purged += 1
            return False
        parts = self.parts
        if parts is None or parts.space is None or time.monotonic() < self._paused_until_s:
            self.counts.refused_full += 1
            return False
        for _ in range(2):
            done = self.write(
                lambda change, parts: changes.store(change, parts, meta, record, body_cost), None
            )
            if done is None:
                return False
            if done:
                self.counts.stored += 1
                return True
            if len(record) > parts.space.segment_size or not self.make_room(parts.space.segment_size):
                break
        self.counts.refused_room += 1
        return False

    def make_room(self, size: int) -> bool:
        """Evict step by step, in changes of their own, until `size` bytes fit."""
        for _ in range(_ROUNDS):
            enough = self.write(lambda change, parts: changes.make_room(change, parts, size), None)
            if enough is not False:
                return enough is True
        return False

    def write(self, act: Callable[[Change, Parts], T], failed: T) -> T:
        """What `act` gives, carried out in one change; `failed` if that can not be written."""
        parts = self.parts
        if parts is None or parts.space is None:
            return failed
        condemned, self._condemned = self._condemned, {}
        try:
            with parts.index.begin() as change:
                if condemned:
                    changes.drop(change, parts, condemned)
                result = act(change, parts)
        except (Busy, OSError, lmdb.Error, struct.error) as error:
            self._condemned.update(condemned)
            parts.segments.forget(())  # a segment made in vain may be made again by another
            self._failed(error)
            return failed
        changes.finish(change, parts)
        self.counts.broken += change.broken
        return result

    def _failed(self, error: Exception) -> None:
        """A change could not be written."""
        if isinstance(error, Busy):
            self.counts.refused_busy += 1
            return
        self.counts.refused_full += 1
        damaged = isinstance(error, lmdb.Error) and error.code <= 0  # a positive one is the system's
        if damaged or isinstance(error, struct.error):  # a key is not what keys are
            self._fail(error)
            return
        now_s = time.monotonic()
        if now_s > self._paused_until_s + _QUIET_S:
            _log.warning("the cache in %s takes nothing for now: %s", self.folder, error)
        self._paused_until_s = now_s + _PAUSE_S

    def _fail(self, error: Exception) -> None:
        """The index is damaged: nothing more is asked of it; a sweep opens it again, or empties it."""
        if self.parts is not None and isinstance(error, lmdb.ReadersFullError):
            self.parts.index.forget_dead_readers()
        if isinstance(error, _PASSING):
            return
        if self.parts is not None:
            _log.error("the cache in %s is damaged: %s", self.folder, error)
            self.parts, self._damaged = None, self.parts

    # Purges.

    def load_purges(self) -> None:
        """Tell the log of the purges that this machine has applied."""
        if self.parts is not None:
            try:
                purge_disk.load(self.parts.index, self.log)
            except lmdb.Error as error:
                self._fail(error)

    def keep_purge(self, seq: int, selector: Selector) -> bool:
        """Remember a purge that the log has applied. Whether that is written down."""
        return self.write(lambda change, parts: purge_disk.keep(change, parts.seed, seq, selector), False)

    def keep_floor(self, floor: int) -> bool:
        """Remember that purges up to `floor` are not known one by one (`PurgeLog.behind`)."""
        return self.write(lambda change, parts: purge_disk.keep_floor(change, floor), False)

    # What is done now and then.

    def sweep(self, budget_ms: float) -> bool:
        """Remove what nobody needs, for about so long; True when a round is done. Reopens what had failed."""
        if self.parts is None:
            self._open_again()
        parts = self.parts
        if parts is None:
            return False
        if time.monotonic() > self._opened_s + _TRUST_S:
            parts.claim.trust()
        parts.close_removed()
        try:
            if self._condemned:
                self.write(lambda change, parts: True, False)
            return parts.space is not None and self._sweep.step(self, parts, budget_ms)
        except lmdb.Error as error:
            self._fail(error)
        except OSError as error:
            _log.warning("a sweep of the cache in %s failed: %s", self.folder, error)
        return False

    def judge(self, parts: Parts, url: bytes, ref: Ref) -> None:
        """Drop a record that purges have made void, or that is broken."""
        self._read(parts, url, ref, None, with_body=False)

    def _open_again(self) -> None:
        """After damage, or when the folder could not be used; not all the time."""
        now_s = time.monotonic()
        if self._closed or now_s < self._open_again_s:
            return
        self._open_again_s = now_s + _OPEN_AGAIN_S
        damaged, self._damaged = self._damaged, None
        if damaged is not None:
            self._damaged_seed = damaged.seed
            damaged.close()
        self.parts = open_parts(self.folder, self.capacity, self._damaged_seed)
        self._opened_s = now_s
