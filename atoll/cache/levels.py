"""Two levels as one: a worker's memory, and the disk that all workers of the machine share.

What is stored goes to both; what memory has let go of comes back from the disk. Long content is on disk only,
so that those who read it slowly hold a block of it and not the whole. Without a disk everything is as it is
with `Store` alone.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from atoll.cache.disk import DiskStore
from atoll.cache.purge import PurgeLog
from atoll.cache.store import ContentWriter, Entry, Store, Variant, variant_of
from atoll.cache.stored import entry_of, metadata_of
from atoll.config.purge import Selector
from atoll.http.fields import Headers

IN_MEMORY: Final = 1024 * 1024
"""Bytes of content above which it is on disk alone."""

_MAX_UNWRITTEN: Final = 1024
"""Purges that wait for a disk that takes nothing; when there are more, all are remembered as one floor."""


class Levels:
    """`memory` in front of `disk`; both ask the same purge log. See `Cache`."""

    def __init__(self, memory: Store, disk: DiskStore) -> None:
        assert memory.log is disk.log, "a purge concerns both"
        self.memory = memory
        self.disk = disk
        self.capacity = memory.capacity
        self.max_object = disk.max_object
        self._unwritten: deque[tuple[int, Selector | None]] = deque()  # None: a floor

    @property
    def log(self) -> PurgeLog:
        """What has been purged."""
        return self.memory.log

    @property
    def purge_epoch(self) -> int:
        """See `Store`."""
        return self.memory.purge_epoch

    @property
    def bytes_used(self) -> int:
        """Of memory."""
        return self.memory.bytes_used

    def __len__(self) -> int:
        return len(self.memory)

    def __contains__(self, primary: bytes) -> bool:
        return primary in self.memory

    def vary_of(self, primary: bytes) -> tuple[bytes, ...]:
        """See `Store`."""
        return self.memory.vary_of(primary)

    def variants(self, primary: bytes) -> list[Entry]:
        """Those in memory."""
        return self.memory.variants(primary)

    def get(self, primary: bytes, request: Headers) -> Entry | None:
        """See `Store`."""
        found = self.memory.get(primary, request)
        if found is not None and found.partial is None:
            return found
        stored = self.disk.get(primary, request)
        if stored is None:
            return found
        entry = entry_of(stored)
        entry.variant = Variant(stored.meta.vary, stored.meta.selection)
        body = entry.body
        if not isinstance(body, bytes) and len(body) <= IN_MEMORY:
            try:
                entry.body = body.read(0, len(body))
            except OSError:  # not what was stored: it has been dropped
                return found
            entry.weigh()
        if isinstance(entry.body, bytes):
            self.memory.put_variant(primary, entry.variant, entry)
        return entry

    def put(self, primary: bytes, request: Headers, entry: Entry, began_epoch: int | None = None) -> bool:
        """See `Store`. Parts of a response stay in memory."""
        if self.memory.dropped_since(primary, began_epoch):
            return False
        kept = self.memory.put(primary, request, entry)
        if not isinstance(entry.body, bytes) or entry.partial is not None:
            return kept
        return self.disk.put(primary, request, entry, entry.body) or kept

    def renew(self, primary: bytes, variant: Variant, entry: Entry, began_epoch: int | None = None) -> bool:
        """See `Store`."""
        if self.memory.dropped_since(primary, began_epoch):
            return False
        kept = entry.in_memory and self.memory.put_variant(primary, variant, entry)
        if entry.partial is not None:
            return kept
        return self.disk.update_stored(metadata_of(primary, variant.selection, entry)) or kept

    def writer(
        self, primary: bytes, request: Headers, entry: Entry, length: int | None
    ) -> ContentWriter | None:
        """See `Store`."""
        if length is not None and length > self.max_object:
            return None
        return LevelsWriter(self, primary, request, entry, length)

    def purge(self, primary: bytes) -> int:
        """Drop every variant of a URL on this machine. How many there were."""
        dropped = self.memory.purge(primary)
        return max(dropped, self.disk.remove(primary))

    def dropped_since(self, primary: bytes, epoch: int | None) -> bool:
        """See `Store`."""
        return self.memory.dropped_since(primary, epoch)

    def behind(self, seq: int) -> None:
        """See `Store`."""
        self.log.behind(seq)
        self._write_down(seq, None)

    def apply_purge(self, seq: int, selector: Selector) -> bool:
        """See `Store`."""
        if not self.log.add(seq, selector):
            return False
        self._write_down(seq, selector)
        return True

    def _write_down(self, seq: int, selector: Selector | None) -> None:
        """Have the disk remember a purge, or a floor, and never one without all that came before it.

        What is read back after a restart says up to where purges are known: one that is missing below would
        never be asked for again.
        """
        waiting = self._unwritten
        waiting.append((seq, selector))
        if len(waiting) > _MAX_UNWRITTEN:
            waiting.clear()
            waiting.append((seq, None))
        while waiting:
            number, kept = waiting[0]
            if not (self.disk.keep_floor(number) if kept is None else self.disk.keep_purge(number, kept)):
                return
            waiting.popleft()


class LevelsWriter:
    """Long content on its way to the disk. See `ContentWriter`."""

    def __init__(
        self, levels: Levels, primary: bytes, request: Headers, entry: Entry, length: int | None
    ) -> None:
        self._levels = levels
        self._primary = primary
        self._variant = variant_of(entry.vary, request)
        self._writer = levels.disk.writer(primary, request, entry, length)
        self.read = self._writer.read
        self.write = self._writer.write
        self.abandon = self._writer.abandon

    def commit(self, began_epoch: int) -> bool:
        """See `ContentWriter`."""
        levels = self._levels
        if levels.memory.dropped_since(self._primary, began_epoch) or not self._writer.commit():
            self.abandon()
            return False
        levels.memory.forget(self._primary, self._variant)  # what it replaces
        return True
