"""What a store on disk has seen, for logs, counters and tests. Pure."""

from __future__ import annotations

import msgspec


class Stats(msgspec.Struct):
    """What one process has seen since it opened the store; `objects` and `bytes_used` are the machine's."""

    hits: int = 0
    misses: int = 0
    stored: int = 0
    updated: int = 0
    gone: int = 0  # dropped because of a purge
    broken: int = 0  # dropped because it was not what had been written
    leftovers: int = 0  # files of killed writers, removed
    evicted: int = 0
    promoted: int = 0
    refused_busy: int = 0  # another process would not let go of the write lock
    refused_full: int = 0  # the disk took no more
    refused_room: int = 0  # too large, or nothing could be evicted for it
    refused_purged: int = 0
    objects: int = 0
    bytes_used: int = 0
    capacity: int = 0
    working: bool = False
    writable: bool = False
