"""The open parts of a machine's store, and how they are opened and closed together."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import lmdb

from atoll.cache.claim import Claim
from atoll.cache.hints import Hints
from atoll.cache.index import Index
from atoll.cache.records import Ref
from atoll.cache.segments import Segments
from atoll.cache.space import Space, index_limit

_INDEX_ROOM: Final = 2  # times the index' limit: readers of old versions hold on to pages

_log = logging.getLogger("atoll.cache")


class Parts:
    """What a process needs of a store. `space` is None where nothing can be written."""

    def __init__(self, claim: Claim, capacity: int) -> None:
        """Raises `lmdb.Error` or `OSError` when the store can not be opened."""
        self.claim = claim
        self.seed = claim.marker.seed
        self.index = Index(claim.index, index_limit(capacity) * _INDEX_ROOM, claim.writable)
        self.segments = Segments(claim.segments)
        self.space: Space | None = None
        try:
            if claim.writable:
                self.space = Space(capacity, self.index, self.segments, Hints(claim.folder, capacity))
        except OSError:
            self.index.close()
            raise
        self._seen_signal = self._signal()

    def close(self) -> None:
        """What was written is on the disk afterwards."""
        self.segments.close()
        self.index.close(sync=True)
        if self.space is not None:
            self.space.hints.close()
        self.claim.release()

    def read(self, ref: Ref, limit: int | None = None) -> bytes:
        """A record, or its first `limit` bytes; shorter, or nothing, when the file is."""
        length = ref.length if limit is None else min(limit, ref.length)
        try:
            return self.segments.read(ref.segment, ref.offset, length)
        except OSError:
            return b""

    def used(self, hashed: int) -> None:
        """Count a use."""
        if self.space is not None:
            self.space.hints.used(hashed)

    def close_removed(self) -> None:
        """Close segments that were removed meanwhile: the disk gets their space back."""
        signal = self._signal()
        if signal != self._seen_signal:
            self._seen_signal = signal
            self.segments.forget(
                {int.from_bytes(key[1:], "big") for key in self.index.keys(b"s", b"", 1 << 20)}
            )

    def _signal(self) -> int:
        return self.space.hints.signal if self.space is not None else 0


def open_parts(folder: Path, capacity: int, damaged: int | None = None) -> Parts | None:
    """The parts; of an empty store where they can not be opened as they are, None if that does not help.

    `damaged` is the seed of a store that proved to be damaged: it is emptied, and not opened while others
    still use it.
    """
    for _ in range(2):
        try:
            claim = Claim(folder)
        except OSError as error:
            _say_closed(folder, error)
            return None
        try:
            if claim.marker.seed == damaged and not claim.start_empty("its index is damaged"):
                raise lmdb.CorruptedError("its index is damaged, and others use it")
            return Parts(claim, capacity)
        except (lmdb.Error, OSError) as error:
            emptied = claim.start_empty(f"it can not be opened: {error}")
            claim.release()
            if not emptied:
                _say_closed(folder, error)
                return None
    return None


def _say_closed(folder: Path, error: Exception) -> None:
    _log.error("the cache in %s is not used: %s", folder, error)
