"""One change of a machine's store: a transaction on its index, with the words of the store.

Rows are under `u` and a hash of the URL, the queues' members under `q`, segments under `s`, files of bodies
under `f` and, while they are written, `w`; the totals under `t`. Every value has a checksum over itself and
its key, so one that was damaged, or has come under another's key, is found.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

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

if TYPE_CHECKING:
    from atoll.cache.index import Index

TOTALS: Final = b"t"
BYTES: Final = struct.Struct(">Q")
_PLACE: Final = struct.Struct(">BII")
_SEGMENT: Final = struct.Struct(">BI")
_NUMBERS_LEFT_OUT: Final = 1_000_000  # of segments, when the last one given is not known


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
            self._txn.put(TOTALS, checked(TOTALS, self.totals.pack()))
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
        self.put(b"w" + name, BYTES.pack(size))
        self.totals.writing_bytes += size - before

    def release_file(self, name: bytes) -> None:
        """Nobody writes it any more."""
        value = self._number(b"w" + name)
        if self._txn.delete(b"w" + name):
            self.totals.writing_bytes = max(0, self.totals.writing_bytes - (value or 0))

    def keep_file(self, name: bytes, size: int, url: bytes) -> None:
        """The body of a record of `url` is in it, and it takes `size` bytes."""
        self.put(b"f" + name, BYTES.pack(size) + url)
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
        return value is not None and any(ref.file == name for ref in self.row(value[BYTES.size :]))

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
        return items_of(self._txn, kind)

    def clear(self, kinds: tuple[bytes, ...]) -> None:
        """Delete all keys of these kinds."""
        with self._txn.cursor() as cursor:
            for kind in kinds:
                more = cursor.set_range(kind)
                while more and cursor.key().startswith(kind):
                    more = cursor.delete()

    def _read_totals(self) -> Totals:
        value = self._txn.get(TOTALS)
        totals = totals_of(value)
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
            totals.files_bytes += BYTES.unpack_from(packed)[0]
        for _, packed in self.items(b"w"):
            totals.writing_bytes += BYTES.unpack(packed)[0]
        return totals

    def _number(self, key: bytes) -> int | None:
        packed = self.get(key)
        return int(BYTES.unpack_from(packed)[0]) if packed is not None else None

    def _after(self, prefix: bytes) -> bytes | None:
        """The first key with this prefix."""
        with self._txn.cursor() as cursor:
            if cursor.set_range(prefix) and (key := cursor.key()).startswith(prefix):
                return key
        return None


def totals_of(value: bytes | None) -> Totals | None:
    """The totals under their key; None when they are broken."""
    if value is None:
        return Totals()
    packed = content(TOTALS, value)
    return None if packed is None else unpack_totals(packed)


def items_of(txn: lmdb.Transaction[bytes], kind: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys of a kind without it, and what they stand for; broken values are left out."""
    with txn.cursor() as cursor:
        more = cursor.set_range(kind)
        while more and (key := cursor.key()).startswith(kind):
            value = content(key[1:], cursor.value())
            if value is not None:
                yield key[1:], value
            more = cursor.next()
