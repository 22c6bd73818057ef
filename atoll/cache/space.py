"""Room on the machine's disk: a hard bound of bytes, and which records leave.

S3-FIFO over segment files. A record enters the small queue, or the main queue when it was evicted a short
while ago; at the small queue's end it moves to the main queue if it was used, else it leaves; at the main
queue's end it goes round again for its uses. Uses are counted without a transaction (`atoll.cache.hints`).
Moving copies the record to its new queue's open segment; a body in a file of its own stays where it is. A
segment is removed when its last record has left. As in `atoll.cache.eviction`, what is large next to the
average must show more uses.

Eviction is paid as one goes: whoever stores a record evicts about twice its size, so nobody stops for long.
"""

from __future__ import annotations

from typing import Final

import msgspec

from atoll.cache.blocks import cost_of
from atoll.cache.hints import Hints
from atoll.cache.index import Index
from atoll.cache.records import Member, Ref
from atoll.cache.segments import Segments
from atoll.cache.totals import MAIN, SMALL, Totals
from atoll.cache.transaction import Change

MIN_CAPACITY: Final = 4 * 1024 * 1024
_PARTS: Final = 64  # segments in a full store
_LARGEST_SEGMENT: Final = 256 * 1024 * 1024
_SMALL_SHARE: Final = 10  # the small queue's share: one in ten
_LARGE: Final = 2  # times the average size
_INDEX_PARTS: Final = 4  # the index may take one of so many parts of the capacity
_STEPS: Final = 512  # records looked at in one change that only makes room
_STEPS_PAID: Final = 64  # records looked at for the sake of one that is stored
_LEAST: Final = 4096  # bytes evicted when eviction is due, however little is stored


class Space:
    """The bound and the queues of one store."""

    def __init__(self, capacity: int, index: Index, segments: Segments, hints: Hints) -> None:
        self.capacity = capacity
        self.segment_size = segment_size(capacity)
        self.evicted = 0
        self.promoted = 0
        self._index = index
        self._segments = segments
        self.hints = hints
        self._index_limit = index_limit(capacity)

    def used(self, totals: Totals, index_bytes: int) -> int:
        """Bytes that count against the capacity."""
        held = totals.files_bytes + totals.writing_bytes + totals.segments * self.segment_size
        return held + index_bytes + self.hints.size

    def fits(self, change: Change, size: int) -> bool:
        """Whether `size` bytes more would be within the capacity."""
        return self.used(change.totals, change.index_bytes) + size <= self.capacity

    def append(self, change: Change, queue: int, record: bytes) -> tuple[int, int] | None:
        """Write a record at the end of a queue: its segment and offset; None when there is no room.

        Raises:
            OSError: the disk is full or read-only.
        """
        segment, offset = change.totals.tail(queue)
        if segment == 0 or offset + len(record) > self.segment_size:
            change.retire_all_drained()
            if len(record) > self.segment_size or not self.fits(change, self.segment_size):
                return None
            segment, offset = change.add_segment(queue), 0
            self._segments.create(segment)
        self._segments.write(segment, offset, record)
        change.totals.set_tail(queue, segment, offset + len(record))
        return segment, offset

    def pay(self, change: Change, size: int) -> None:
        """Evict for what is about to be stored, when it is due."""
        left = 2 * size + _LEAST
        for _ in range(_STEPS_PAID):
            if left <= 0 or not self._is_due(change):
                return
            freed = self._step(change)
            if freed is None:
                return
            left -= freed

    def make_room(self, change: Change, size: int) -> bool | None:
        """Evict until `size` bytes more fit. False when more changes are needed, None when nothing helps."""
        for _ in range(_STEPS):
            if self.fits(change, size):
                return True
            if self._step(change) is None:
                return True if self.fits(change, size) else None
        return False

    def remove(self, change: Change, ref: Ref) -> None:
        """The record of `ref` leaves its queue; its row is the caller's."""
        change.take_member(ref.queue, ref.segment, ref.offset)
        if ref.file:
            change.drop_file(ref.file)

    def _is_due(self, change: Change) -> bool:
        if not self.fits(change, 2 * self.segment_size):
            return True
        if change.index_bytes < self._index_limit:
            return False
        return change.pages() * self._index.page_size > self._index_limit * 3 // 4

    def _step(self, change: Change) -> int | None:
        """Look at one record. How many bytes left with it, 0 when it was moved; None: nothing is stored."""
        totals = change.totals
        if change.fronts == [None, None]:
            change.retire_drained(SMALL)
            change.retire_drained(MAIN)
        small = max(totals.small_bytes, totals.small_segments * self.segment_size)
        prefer_small = small * _SMALL_SHARE >= self.capacity or totals.main_bytes == 0
        for queue in (SMALL, MAIN) if prefer_small else (MAIN, SMALL):
            place = change.first_place(queue)
            if place is None or change.fronts[queue] != place[0]:
                change.retire_drained(queue)
            if place is None:
                continue
            change.fronts[queue] = place[0]
            average = (totals.small_bytes + totals.main_bytes) // max(1, totals.objects)
            member = change.take_member(queue, *place)
            if member is None:
                return 0
            return 0 if self._judge(change, queue, place, member, average) else member.size
        return None

    def _judge(
        self, change: Change, queue: int, place: tuple[int, int], member: Member, average: int
    ) -> bool:
        """A record that was taken out of `queue` moves or leaves. Whether it was moved."""
        row = change.row(member.url)
        at = next(
            (i for i, ref in enumerate(row) if (ref.queue, ref.segment, ref.offset) == (queue, *place)), -1
        )
        if at < 0:  # its row was damaged; a file that it may have had is found by a sweep
            return False
        hashed = use_hash(member.url, member.variant)
        uses = self.hints.uses(hashed)
        price = 2 if member.size > _LARGE * average else 1
        moved = self._move(change, row[at], member) if uses >= price else None
        if moved is not None:
            self.hints.set_uses(hashed, 0 if queue == SMALL else uses - price)
            row[at] = moved
        else:
            self.evicted += 1
            if row[at].file:
                change.drop_file(row[at].file)
            del row[at]
            self.hints.set_uses(hashed, 0)
            if queue == SMALL:
                self.hints.remember(hashed)
        change.set_row(member.url, row)
        return moved is not None

    def _move(self, change: Change, ref: Ref, member: Member) -> Ref | None:
        """Copy a record to the end of the main queue; None when it can not be."""
        try:
            record = self._segments.read(ref.segment, ref.offset, ref.length)
            place = self.append(change, MAIN, record) if len(record) == ref.length else None
        except OSError:  # the disk is full or failing: then it leaves
            return None
        if place is None:
            return None
        moved = ref_at(ref, MAIN, *place)
        change.add_member(moved, member)
        self.promoted += 1
        return moved


def segment_size(capacity: int) -> int:
    """Bytes of a segment file."""
    return min(capacity // _PARTS, _LARGEST_SEGMENT)


def index_limit(capacity: int) -> int:
    """Bytes of index from which on records leave for its sake."""
    return capacity // _INDEX_PARTS


def use_hash(url: bytes, variant: bytes) -> int:
    """Where the uses of a record are counted."""
    return int.from_bytes(url[:8], "big") ^ int.from_bytes(variant, "big")


def ref_at(ref: Ref, queue: int, segment: int, offset: int) -> Ref:
    """The same record at another place."""
    return msgspec.structs.replace(ref, queue=queue, segment=segment, offset=offset)


def size_of(record_length: int, body_length_in_file: int) -> int:
    """What a record is charged in its queue."""
    return record_length + (cost_of(body_length_in_file) if body_length_in_file else 0)
