"""The index of the machine's cache, in LMDB: rows of URLs, queues, segments, files, purges, and the totals.

One tree with keys of several kinds, so that a change writes few pages. Readers never wait. Writers take turns
behind a lock of our own that can be waited for with a limit: LMDB's has none, and a process that is stopped
while it holds it would stop every other. A change is seen whole or not at all, whoever is killed when.

LMDB's values are read from its map; a value that was damaged there is found by its own checksum.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb

from atoll.cache.records import (
    MEMBER,
    Member,
    Ref,
    checked,
    content,
    decode_member,
    decode_row,
    encode_member,
    encode_row,
)
from atoll.cache.totals import Totals, unpack_totals

WAIT_S: Final = 0.05
"""What a writer waits for another; a change takes well under a millisecond."""

_PAUSE_S: Final = 0.0002
_AVOID_S: Final = 1.0  # nobody waits again for so long when somebody waited in vain
_MAX_READERS: Final = 1022
_MISSING_PAGES: Final = 256  # at the file's end: pages that were freed before they were ever written
_NUMBERS_LEFT_OUT: Final = 1_000_000  # of segments, when the last one given is not known

_TOTALS: Final = b"t"
_PLACE: Final = struct.Struct(">BII")
_SEGMENT: Final = struct.Struct(">BI")
_BYTES: Final = struct.Struct(">Q")


class Busy(Exception):
    """Another process holds the write lock for too long."""


class Index:
    """The tree of one folder. `map_size` bounds its file."""

    def __init__(self, folder: Path, map_size: int, writable: bool = True) -> None:
        """Raises `lmdb.Error` or `OSError` when it can not be opened."""
        self._env = lmdb.open(
            str(folder),
            map_size=map_size,
            readonly=not writable,
            lock=writable,  # a file system that nobody can write to has no writers to be told apart from
            sync=False,  # the kernel keeps what a killed process wrote; its own end is `claim`'s to find
            metasync=False,
            readahead=False,
            max_readers=_MAX_READERS,
            max_spare_txns=8,
            mode=0o600,
        )
        self.page_size: int = self._env.stat()["psize"]
        self._check_size(folder)
        self._turn = threading.Lock()
        self._lock = (
            os.open(folder / "write.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) if writable else -1
        )
        self._avoid_until = 0.0

    def _check_size(self, folder: Path) -> None:
        """Reading a mapped page that the file does not have ends the process."""
        size = (folder / "data.mdb").stat().st_size
        used = self.bytes_used
        if used > size + _MISSING_PAGES * self.page_size:
            self._env.close()
            raise lmdb.CorruptedError(f"the index has {size} bytes of {used}")

    def close(self, sync: bool = False) -> None:
        """`sync`: what is written is on the disk afterwards."""
        if sync and self._lock >= 0:
            self._env.sync(True)
        self._env.close()
        if self._lock >= 0:
            os.close(self._lock)

    @property
    def bytes_used(self) -> int:
        """Bytes of its file; it never shrinks."""
        return (self._env.info()["last_pgno"] + 1) * self.page_size

    def is_needed(self, name: bytes) -> bool:
        """Whether a kept file belongs to a record."""
        value = self.get(b"f" + name)
        packed = content(name, value) if value is not None else None
        row = self.row(packed[_BYTES.size :]) if packed is not None else None
        return any(ref.file == name for ref in row or ())

    def forget_dead_readers(self) -> None:
        """Killed readers hold on to what they read."""
        self._env.reader_check()

    def get(self, key: bytes) -> bytes | None:
        """The value under `key` now."""
        with self._env.begin() as txn:
            return txn.get(key)

    def row(self, url: bytes) -> list[Ref] | None:
        """The variants of a URL; None when there are none, or when the row is broken."""
        value = self.get(b"u" + url)
        return None if value is None else decode_row(url, value)

    def totals(self) -> Totals:
        """What is stored now."""
        return _totals(self.get(_TOTALS)) or Totals()

    def keys(self, kind: bytes, start: bytes, limit: int) -> list[bytes]:
        """Up to `limit` keys of one kind after `start`, without the kind."""
        found: list[bytes] = []
        with self._env.begin() as txn, txn.cursor() as cursor:
            more = cursor.set_range(kind + start)
            while more and len(found) < limit and (key := cursor.key()).startswith(kind):
                found.append(key[1:])
                more = cursor.next()
        return found

    def items(self, kind: bytes) -> list[tuple[bytes, bytes]]:
        """All of one kind, keys without it; broken values are left out."""
        with self._env.begin() as txn:
            return list(_items(txn, kind))

    def begin(self) -> Change:
        """A change, when it is our turn.

        Raises:
            Busy: it did not become our turn in time.
            lmdb.Error: the index takes no changes.
        """
        if self._lock < 0:
            raise lmdb.ReadonlyError("read-only")
        self._take_turn()
        try:
            return Change(self, self._env.begin(write=True))
        except BaseException:
            self.end_turn()
            raise

    def end_turn(self) -> None:
        """Let the next one write."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        self._turn.release()

    def _take_turn(self) -> None:
        if not self._turn.acquire(timeout=WAIT_S):
            raise Busy
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self._wait():
                self._turn.release()
                raise Busy from None
        except OSError:
            self._turn.release()
            raise

    def _wait(self) -> bool:
        until = time.monotonic() + WAIT_S
        if until < self._avoid_until:
            return False
        while time.monotonic() < until:
            time.sleep(_PAUSE_S)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return True
        self._avoid_until = until + _AVOID_S
        return False


class Change:
    """One transaction: commit it or abandon it. What it makes superfluous on disk is listed in it."""

    def __init__(self, index: Index, txn: lmdb.Transaction[bytes]) -> None:
        self._index = index
        self._txn = txn
        self.broken = 0  # values found damaged and dropped
        self.totals = self._read_totals()
        self.index_bytes = index.bytes_used
        self.fronts: list[int | None] = [None, None]  # the queues' first segments, drained ones being removed
        self.dead_segments: list[int] = []
        self.dead_files: list[bytes] = []

    def __enter__(self) -> Change:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Commit, or abandon when something went wrong."""
        if kind is None:
            self.commit()
        else:
            self.abandon()

    def commit(self) -> None:
        """Make it so. Raises `lmdb.Error` when it could not be written; then nothing has changed."""
        try:
            self._txn.put(_TOTALS, checked(_TOTALS, self.totals.pack()))
            self._txn.commit()
        except lmdb.Error:
            self._txn.abort()
            raise
        finally:
            self._index.end_turn()

    def abandon(self) -> None:
        """Nothing has changed."""
        self._txn.abort()
        self._index.end_turn()

    def pages(self) -> int:
        """Pages of the tree that are in use."""
        stat = self._txn.stat()
        return stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]

    # Rows.

    def row(self, url: bytes) -> list[Ref]:
        """The variants of a URL, oldest first. A broken row is as good as none; its members find out."""
        value = self._txn.get(b"u" + url)
        if value is None:
            return []
        refs = decode_row(url, value)
        if refs is None:
            self.broken += 1
            return []
        return refs

    def set_row(self, url: bytes, refs: list[Ref]) -> None:
        """From now on these are the variants."""
        if refs:
            self._txn.put(b"u" + url, encode_row(url, refs))
        else:
            self._txn.delete(b"u" + url)

    # Members of the queues.

    def add_member(self, ref: Ref, member: Member) -> None:
        """`ref`'s record joins its queue."""
        place = _PLACE.pack(ref.queue, ref.segment, ref.offset)
        self._txn.put(b"q" + place, encode_member(place, member))
        self.totals.charge(ref.queue, member.size)

    def take_member(self, queue: int, segment: int, offset: int) -> Member | None:
        """Take a record out of its queue; None when it was not there or is broken."""
        place = _PLACE.pack(queue, segment, offset)
        value = self._txn.pop(b"q" + place)
        if value is None:
            return None
        member = decode_member(place, value)
        if member is None:
            self.broken += 1
            return None
        self.totals.charge(queue, -member.size)
        return member

    def first_place(self, queue: int) -> tuple[int, int] | None:
        """Segment and offset of the record that is first in a queue."""
        key = self._after(b"q" + bytes([queue]))
        if key is None:
            return None
        _, segment, offset = _PLACE.unpack(key[1:])
        return segment, offset

    # Segments.

    def add_segment(self, queue: int) -> int:
        """The number of a new segment at the end of `queue`."""
        self.totals.next_segment += 1
        number = self.totals.next_segment
        self._txn.put(b"s" + _SEGMENT.pack(queue, number), b"-")
        self.totals.count_segment(queue, 1)
        return number

    def segments(self) -> Iterator[tuple[int, int]]:
        """Queue and number of each."""
        with self._txn.cursor() as cursor:
            more = cursor.set_range(b"s")
            while more and cursor.key().startswith(b"s"):
                yield _SEGMENT.unpack(cursor.key()[1:])
                more = cursor.next()

    def retire_drained(self, queue: int) -> None:
        """Remove the segments before the first record of a queue."""
        first = self.first_place(queue)
        limit = self.totals.tail(queue)[0] if first is None else first[0]
        while (key := self._after(b"s" + bytes([queue]))) is not None:
            _, number = _SEGMENT.unpack(key[1:])
            if number >= limit:
                return
            self.remove_segment(queue, number)

    def retire_all_drained(self) -> None:
        """Remove the segments that have no records any more and get none, wherever in a queue they are."""
        for queue, number in list(self.segments()):
            is_tail = self.totals.tail(queue)[0] == number
            if not is_tail and self._after(b"q" + _SEGMENT.pack(queue, number)) is None:
                self.remove_segment(queue, number)

    def remove_segment(self, queue: int, number: int) -> None:
        """The segment's file is superfluous."""
        self._txn.delete(b"s" + _SEGMENT.pack(queue, number))
        self.totals.count_segment(queue, -1)
        self.dead_segments.append(number)

    # Files of their own.

    def reserve_file(self, name: bytes, size: int) -> None:
        """A file that is being written may take `size` bytes so far."""
        before = self._number(b"w" + name) or 0
        self.put(b"w" + name, _BYTES.pack(size))
        self.totals.writing_bytes += size - before

    def release_file(self, name: bytes) -> None:
        """Nobody writes it any more."""
        value = self._number(b"w" + name)
        if self._txn.delete(b"w" + name):
            self.totals.writing_bytes = max(0, self.totals.writing_bytes - (value or 0))

    def keep_file(self, name: bytes, size: int, url: bytes) -> None:
        """The body of a record of `url` is in it, and it takes `size` bytes."""
        self.put(b"f" + name, _BYTES.pack(size) + url)
        self.totals.files_bytes += size

    def drop_file(self, name: bytes) -> None:
        """No record needs it."""
        value = self._number(b"f" + name)
        if self._txn.delete(b"f" + name):
            self.totals.files_bytes = max(0, self.totals.files_bytes - (value or 0))
            self.dead_files.append(name)

    def is_needed(self, name: bytes) -> bool:
        """Whether a kept file belongs to a record."""
        value = self.get(b"f" + name)
        return value is not None and any(ref.file == name for ref in self.row(value[_BYTES.size :]))

    # Anything else.

    def put(self, key: bytes, value: bytes) -> None:
        """Keep a value with a checksum. A key's first byte is its kind."""
        self._txn.put(key, checked(key[1:], value))

    def delete(self, key: bytes) -> bool:
        """Whether there was one."""
        return bool(self._txn.delete(key))

    def get(self, key: bytes) -> bytes | None:
        """What `put` kept."""
        value = self._txn.get(key)
        return None if value is None else content(key[1:], value)

    def items(self, kind: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Keys without their kind, and what they stand for; broken values are left out."""
        return _items(self._txn, kind)

    def clear(self, kinds: tuple[bytes, ...]) -> None:
        """Delete all keys of these kinds."""
        with self._txn.cursor() as cursor:
            for kind in kinds:
                more = cursor.set_range(kind)
                while more and cursor.key().startswith(kind):
                    more = cursor.delete()

    def _read_totals(self) -> Totals:
        value = self._txn.get(_TOTALS)
        totals = _totals(value)
        if totals is None:
            self.broken += 1
            return self.counted()
        return totals

    def counted(self) -> Totals:
        """The totals from what is there. The queues go on in new segments: the old ones' ends are unknown."""
        totals = Totals(seq=1 << 48)  # above every number given before
        for queue, number in self.segments():
            totals.next_segment = max(totals.next_segment, number + _NUMBERS_LEFT_OUT)
            totals.count_segment(queue, 1)
        for place, packed in self.items(b"q"):
            member = Member(*MEMBER.unpack(packed))
            totals.charge(place[0], member.size)
        for _, packed in self.items(b"f"):
            totals.files_bytes += _BYTES.unpack_from(packed)[0]
        for _, packed in self.items(b"w"):
            totals.writing_bytes += _BYTES.unpack(packed)[0]
        return totals

    def _number(self, key: bytes) -> int | None:
        packed = self.get(key)
        return int(_BYTES.unpack_from(packed)[0]) if packed is not None else None

    def _after(self, prefix: bytes) -> bytes | None:
        """The first key with this prefix."""
        with self._txn.cursor() as cursor:
            if cursor.set_range(prefix) and (key := cursor.key()).startswith(prefix):
                return key
        return None


def _totals(value: bytes | None) -> Totals | None:
    """None when they are broken."""
    if value is None:
        return Totals()
    packed = content(_TOTALS, value)
    return None if packed is None else unpack_totals(packed)


def _items(txn: lmdb.Transaction[bytes], kind: bytes) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor() as cursor:
        more = cursor.set_range(kind)
        while more and (key := cursor.key()).startswith(kind):
            value = content(key[1:], cursor.value())
            if value is not None:
                yield key[1:], value
            more = cursor.next()
