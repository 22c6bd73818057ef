"""What a store does now and then, a few milliseconds at a time: remove what nobody needs any more.

Leftovers of killed writers, segments without records, records that purges have made void. Whatever another
process is writing is locked by it and is left alone. A round ends when all folders and rows were looked at.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from atoll.cache import changes
from atoll.cache.blocks import FOLDERS, is_abandoned, path_of, remove_leftover
from atoll.cache.parts import Parts
from atoll.cache.purge import PurgeLog
from atoll.cache.records import Ref, content
from atoll.cache.transaction import Change

_JUDGED: Final = b"j"
_ROWS: Final = 64  # looked at without looking at the clock


class Swept(Protocol):
    """The store, as far as a sweep needs it."""

    log: PurgeLog

    def write(self, act: Callable[[Change, Parts], bool], failed: bool) -> bool:
        """Carry out a change; `failed` when that can not be."""

    def judge(self, parts: Parts, url: bytes, ref: Ref) -> None:
        """Drop a record if purges say so."""


class Sweep:
    """Where the rounds of one process stand."""

    def __init__(self) -> None:
        self.leftovers = 0  # files removed so far
        self._folder = 0
        self._row = b""
        self._judging = 0

    def step(self, store: Swept, parts: Parts, budget_ms: float) -> bool:
        """Go on for about `budget_ms`. Whether a round was finished; nothing is done while another sweeps."""
        until_s = time.monotonic() + budget_ms / 1000
        lock = os.open(parts.claim.folder / "sweep.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._step(store, parts, until_s)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)

    def _step(self, store: Swept, parts: Parts, until_s: float) -> bool:
        if self._folder == 0 and not self._row:
            parts.index.forget_dead_readers()
            store.write(changes.retire, False)
            self._release_dead(store, parts)
        while self._folder < FOLDERS:
            self._look_into(store, parts, self._folder)
            self._folder += 1
            if time.monotonic() > until_s:
                return False
        if not self._judge_rows(store, parts, until_s):
            return False
        self._folder = 0
        return True

    def _release_dead(self, store: Swept, parts: Parts) -> None:
        """Room that was reserved by writers that are no more."""
        for name in parts.index.keys(b"w", b"", 4096):
            path = path_of(parts.claim.bodies, name)
            if is_abandoned(path):
                store.write(partial(_release, name), False)

    def _look_into(self, store: Swept, parts: Parts, number: int) -> None:
        """One folder of long bodies: files without record, and files whose record has gone astray."""
        folder = parts.claim.bodies / f"{number:02x}"
        try:
            names = [bytes.fromhex(folder.name + name) for name in os.listdir(folder)]
        except (OSError, ValueError):
            return
        for name in names:
            if parts.index.get(b"f" + name) is None:
                path = path_of(parts.claim.bodies, name)
                self.leftovers += remove_leftover(path, partial(_is_known, parts, name))
            elif not parts.index.is_needed(name):
                store.write(partial(_drop_astray, name), False)

    def _judge_rows(self, store: Swept, parts: Parts, until_s: float) -> bool:
        """Records that a purge since the last round has made void. Whether all were looked at."""
        if not self._row:
            self._judging = store.log.applied
        if self._judging <= _judged(parts):
            self._row = b""
            return True
        while rows := parts.index.keys(b"u", self._row, _ROWS):
            for url in rows:
                for ref in parts.index.row(url) or ():
                    if ref.purge_seq < self._judging:
                        store.judge(parts, url, ref)
            self._row = rows[-1] + b"\0"
            if time.monotonic() > until_s:
                return False
        self._row = b""
        store.write(partial(_set_judged, self._judging), False)
        return True


def _judged(parts: Parts) -> int:
    """The last purge that a finished round has seen, by whatever process."""
    value = parts.index.get(_JUDGED)
    packed = content(_JUDGED[1:], value) if value is not None else None
    return int.from_bytes(packed, "big") if packed is not None else 0


def _set_judged(seq: int, change: Change, parts: Parts) -> bool:
    change.put(_JUDGED, seq.to_bytes(8, "big"))
    return True


def _is_known(parts: Parts, name: bytes) -> bool:
    return parts.index.get(b"f" + name) is not None


def _release(name: bytes, change: Change, parts: Parts) -> bool:
    change.release_file(name)
    return True


def _drop_astray(name: bytes, change: Change, parts: Parts) -> bool:
    if not change.is_needed(name):
        change.drop_file(name)
    return True
