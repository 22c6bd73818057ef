"""The index of the machine's cache, in LMDB: rows of URLs, queues, segments, files, purges, and the totals.

One tree with keys of several kinds, so that a change writes few pages. Readers never wait. Writers take turns
behind a lock of our own that can be waited for with a limit: LMDB's has none, and a process that is stopped
while it holds it would stop every other. A change is seen whole or not at all, whoever is killed when.

LMDB's values are read from its map; a value that was damaged there is found by its own checksum. It is not
written through its map, though a change would take half the time: on a full disk that ends the process.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path
from typing import Final

import lmdb

from atoll.cache.records import Ref, content, decode_row
from atoll.cache.totals import Totals
from atoll.cache.transaction import BYTES, TOTALS, Change, items_of, totals_of

WAIT_S: Final = 0.05
"""What a writer waits for another; a change takes well under a millisecond."""

_PAUSE_S: Final = 0.0002
_AVOID_S: Final = 1.0  # nobody waits again for so long when somebody waited in vain
_MAX_READERS: Final = 1022
_MISSING_PAGES: Final = 256  # at the file's end: pages that were freed before they were ever written


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
        row = self.row(packed[BYTES.size :]) if packed is not None else None
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
        return totals_of(self.get(TOTALS)) or Totals()

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
            return list(items_of(txn, kind))

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
