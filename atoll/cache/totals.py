"""What a machine's store holds, in numbers: one value that every change reads and writes. Pure."""

from __future__ import annotations

import struct
from typing import Final

import msgspec

SMALL: Final = 0
MAIN: Final = 1
"""The two queues."""


class Totals(msgspec.Struct):
    """Bytes of a queue are what its records are charged; a tail is where it appends, segment 0 being none."""

    seq: int = 0  # of what was stored last
    next_segment: int = 0  # the highest number given
    segments: int = 0
    small_segments: int = 0
    objects: int = 0
    small_bytes: int = 0
    main_bytes: int = 0
    small_segment: int = 0
    small_offset: int = 0
    main_segment: int = 0
    main_offset: int = 0
    files_bytes: int = 0  # bodies in files of their own
    writing_bytes: int = 0  # reserved for bodies that are being written

    def pack(self) -> bytes:
        """As bytes."""
        return _NUMBERS.pack(*msgspec.structs.astuple(self))

    def tail(self, queue: int) -> tuple[int, int]:
        """The segment that a queue appends to, and where."""
        if queue == SMALL:
            return self.small_segment, self.small_offset
        return self.main_segment, self.main_offset

    def set_tail(self, queue: int, segment: int, offset: int) -> None:
        """From now on `queue` appends there."""
        if queue == SMALL:
            self.small_segment, self.small_offset = segment, offset
        else:
            self.main_segment, self.main_offset = segment, offset

    def count_segment(self, queue: int, change: int) -> None:
        """One segment more or less."""
        self.segments = max(0, self.segments + change)
        if queue == SMALL:
            self.small_segments = max(0, self.small_segments + change)

    def charge(self, queue: int, size: int) -> None:
        """Count a record of `size` bytes; a negative size takes one away."""
        self.objects = max(0, self.objects + (1 if size > 0 else -1))
        if queue == SMALL:
            self.small_bytes = max(0, self.small_bytes + size)
        else:
            self.main_bytes = max(0, self.main_bytes + size)


_NUMBERS: Final = struct.Struct(f">{len(Totals.__struct_fields__)}Q")


def unpack_totals(packed: bytes) -> Totals | None:
    """What `pack` gave; None for anything else."""
    return Totals(*_NUMBERS.unpack(packed)) if len(packed) == _NUMBERS.size else None
