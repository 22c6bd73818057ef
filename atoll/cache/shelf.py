"""The place of one response in a store: where its body goes while it is written, and who hears of damage."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from atoll.cache import changes
from atoll.cache.blocks import BodyFile, cost_of
from atoll.cache.records import Metadata, Ref, encode_inline, encode_record
from atoll.cache.writer import step_of

if TYPE_CHECKING:
    from atoll.cache.disk import DiskStore


class Torn:
    """Called when a block of a long body turns out to be damaged."""

    __slots__ = ("ref", "store", "url")

    def __init__(self, store: DiskStore, url: bytes, ref: Ref) -> None:
        self.store = store
        self.url = url
        self.ref = ref

    def __call__(self) -> None:
        self.store.drop(self.url, self.ref, broken=True)


class Shelf:
    """The place of one response, for a `BodyWriter`."""

    def __init__(self, store: DiskStore, meta: Metadata) -> None:
        self.max_inline = store.max_inline
        self.max_object = store.max_object
        self.step = step_of(store.capacity)
        self._store = store
        self._meta = meta

    def new_file(self) -> BodyFile:
        parts = self._store.parts
        if parts is None or parts.space is None:
            raise OSError(errno.EROFS, "the cache takes nothing")
        return BodyFile(parts.claim.bodies, os.urandom(16))

    def reserve(self, file: BodyFile, size: int) -> None:
        for _ in range(2):
            done = self._store.write(lambda change, parts: changes.reserve(change, parts, file, size), None)
            if done:
                return
            if done is None or not self._store.make_room(size - file.reserved):
                break
        self._store.counts.refused_room += 1
        raise OSError(errno.ENOSPC, "the cache has no room for it")

    def release(self, file: BodyFile) -> None:
        self._store.write(lambda change, parts: change.release_file(file.name), None)

    def keep_short(self, body: bytes) -> bool:
        return self._store.store_record(self._meta, encode_inline(self._meta, body), 0)

    def keep_file(self, file: BodyFile, index_check: int) -> bool:
        meta = msgspec.structs.replace(self._meta, file=file.name)
        record = encode_record(meta, file.length, index_check)
        return self._store.store_record(meta, record, cost_of(file.length))
