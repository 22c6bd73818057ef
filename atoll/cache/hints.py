"""What the processes of a machine tell each other without a transaction: uses, ghosts, and one number.

Three small files, mapped into every process. A byte per slot counts the uses of the records whose hash falls
there; a word per slot remembers what has lately been evicted; the signal changes whenever files went away.
All of it is advice: a lost update or a collision costs a little of the hit rate and nothing else. The files
have all their blocks from the beginning: writing to a mapped hole of a full disk would kill the process.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

from atoll.cache.eviction import MAX_FREQ

_BYTES_PER_USE: Final = 1024
"""Of the capacity. The store's records are larger than that on average, so most slots have one record."""

_BYTES_PER_GHOST: Final = 4096
_SIGNAL_SIZE: Final = 4096


class Hints:
    """The three tables. Hashes are 64 bits, of which the lower ones choose the slot."""

    def __init__(self, folder: Path, capacity: int) -> None:
        """Raises `OSError` when the files can be neither opened nor made."""
        self._maps = [
            _mapped(folder, "uses", _power_of_two(capacity // _BYTES_PER_USE)),
            _mapped(folder, "ghosts", 4 * _power_of_two(capacity // _BYTES_PER_GHOST)),
            _mapped(folder, "signal", _SIGNAL_SIZE),
        ]
        self._uses = memoryview(self._maps[0])
        self._ghosts = memoryview(self._maps[1]).cast("I")
        self._signal = memoryview(self._maps[2]).cast("Q")
        self._uses_mask = len(self._uses) - 1
        self._ghosts_mask = len(self._ghosts) - 1

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(len(each) for each in self._maps)

    def close(self) -> None:
        """Unmap the files."""
        for view in (self._uses, self._ghosts, self._signal):
            view.release()
        for each in self._maps:
            each.close()

    def used(self, hashed: int) -> None:
        """Count a use."""
        slot = hashed & self._uses_mask
        count = self._uses[slot]
        if count < MAX_FREQ:
            self._uses[slot] = count + 1

    def uses(self, hashed: int) -> int:
        """Uses counted, `MAX_FREQ` at most."""
        return min(self._uses[hashed & self._uses_mask], MAX_FREQ)

    def set_uses(self, hashed: int, count: int) -> None:
        """Start again from `count`."""
        self._uses[hashed & self._uses_mask] = count

    def remember(self, hashed: int) -> None:
        """Evicted before it was used again."""
        self._ghosts[hashed & self._ghosts_mask] = _mark(hashed)

    def recall(self, hashed: int) -> bool:
        """Whether it is remembered; it is no longer."""
        slot = hashed & self._ghosts_mask
        if self._ghosts[slot] != _mark(hashed):
            return False
        self._ghosts[slot] = 0
        return True

    @property
    def signal(self) -> int:
        """Changes when segments have been removed."""
        return self._signal[0]

    def raise_signal(self) -> None:
        """Segments have been removed. Only the holder of the write lock calls it."""
        self._signal[0] = (self._signal[0] + 1) & 0xFFFFFFFF


def _mark(hashed: int) -> int:
    return (hashed >> 32) or 1


def _power_of_two(count: int) -> int:
    return max(4096, min(1 << (count - 1).bit_length(), 64 * 1024 * 1024))


def _mapped(folder: Path, name: str, size: int) -> mmap.mmap:
    """The file with all its blocks. Its size is in its name: what others have mapped never shrinks."""
    fd = os.open(folder / f"{name}-{size}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _allocate(fd, size)
        return mmap.mmap(fd, size)
    finally:
        os.close(fd)


def _allocate(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    elif os.fstat(fd).st_size < size:
        os.pwrite(fd, bytes(size), 0)
