"""What has been purged, and which stored responses that concerns.

A purge is a selector with a number that grows through the whole network. It is not carried out by looking for
what it selects: every stored response knows which purges had been applied when its fetch began, and whoever
is about to serve or store one asks `PurgeLog.verdict`. So a purge of a tag, a host or everything costs the
same whatever is stored, and it holds for fetches that are still under way.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import IntEnum
from typing import Final

import msgspec

from atoll.config.purge import Selector

MAX_REMEMBERED: Final = 65_536
"""Purges kept one by one; what is older than the oldest of them has to be validated again."""


class Verdict(IntEnum):
    """What purges say of a stored response."""

    KEEP = 0
    STALE = 1  # a soft purge: as if its freshness had ended
    GONE = 2


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a response belongs, as far as selectors ask: worked out once, when it is stored."""

    url: bytes
    host: bytes
    tags: tuple[bytes, ...]


def scoped_tag(tenant: str, tag: bytes) -> bytes:
    """A tag as it is kept: one tenant never purges another's."""
    return tenant.encode() + b"\0" + tag


def place_of(primary: bytes, tags: tuple[bytes, ...]) -> Place:
    """The place of a response with this primary key (see `atoll.cache.keys`); `tags` are scoped."""
    url = primary.partition(b"://")[2]
    return Place(url, url.partition(b"/")[0], tags)


class PurgeLog:
    """The purges applied so far, each with its number, hard and soft ones apart.

    `epoch` grows with every purge: what was judged under the same epoch need not be judged again.
    """

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self.applied = 0  # the highest number seen
        self.epoch = 0
        self._limit = limit
        self._floor = 0  # purges up to here are not remembered one by one
        self._hard: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._soft: OrderedDict[tuple[str, bytes], int] = OrderedDict()
        self._prefix_lengths: dict[int, int] = {}  # of remembered prefixes: length → how many

    def add(self, seq: int, selector: Selector) -> bool:
        """Apply purge number `seq`. False when it had been applied before."""
        if seq <= self.applied:
            return False
        self.applied = seq
        self.epoch += 1
        table = self._soft if selector.soft else self._hard
        key = _key(selector)
        if key not in self._hard and key not in self._soft:
            self._count_prefix(key, 1)
        table[key] = seq
        table.move_to_end(key)
        while len(self._hard) + len(self._soft) > self._limit:
            self._forget_one()
        return True

    def behind(self, seq: int) -> None:
        """Purges up to `seq` are not known one by one: treat what is older as soft-purged."""
        if seq > self._floor:
            self._floor = seq
            self.applied = max(self.applied, seq)
            self.epoch += 1

    def verdict(self, place: Place, seq: int) -> Verdict:
        """What purges since number `seq` say of a response at `place`."""
        if seq >= self.applied:
            return Verdict.KEEP
        keys = self._keys(place)
        if any(self._hard.get(key, 0) > seq for key in keys):
            return Verdict.GONE
        if self._floor > seq or any(self._soft.get(key, 0) > seq for key in keys):
            return Verdict.STALE
        return Verdict.KEEP

    def remembered(self) -> list[tuple[int, Selector]]:
        """Every purge kept, oldest first: what a restart needs, after `behind(floor)`."""
        kept = [(seq, _selector(key, False)) for key, seq in self._hard.items()]
        kept += [(seq, _selector(key, True)) for key, seq in self._soft.items()]
        return sorted(kept, key=lambda item: item[0])

    @property
    def floor(self) -> int:
        """See `behind`."""
        return self._floor

    def _keys(self, place: Place) -> list[tuple[str, bytes]]:
        keys = [("all", b""), ("url", place.url), ("host", place.host)]
        keys += [("tag", tag) for tag in place.tags]
        size = len(place.url)
        keys += [("prefix", place.url[:length]) for length in self._prefix_lengths if length <= size]
        return keys

    def _forget_one(self) -> None:
        oldest_hard = next(iter(self._hard.items()), None)
        oldest_soft = next(iter(self._soft.items()), None)
        from_hard = oldest_soft is None or (oldest_hard is not None and oldest_hard[1] < oldest_soft[1])
        key, seq = (self._hard if from_hard else self._soft).popitem(last=False)
        self._floor = max(self._floor, seq)
        if key not in self._hard and key not in self._soft:
            self._count_prefix(key, -1)

    def _count_prefix(self, key: tuple[str, bytes], change: int) -> None:
        if key[0] != "prefix":
            return
        length = len(key[1])
        count = self._prefix_lengths.get(length, 0) + change
        if count:
            self._prefix_lengths[length] = count
        else:
            del self._prefix_lengths[length]


def _key(selector: Selector) -> tuple[str, bytes]:
    value = selector.value.encode()
    return selector.kind, scoped_tag(selector.tenant, value) if selector.kind == "tag" else value


def _selector(key: tuple[str, bytes], soft: bool) -> Selector:
    kind, value = key
    if kind == "tag":
        tenant, _, tag = value.partition(b"\0")
        return Selector(kind="tag", value=tag.decode(), soft=soft, tenant=tenant.decode())
    return msgspec.convert({"kind": kind, "value": value.decode(), "soft": soft}, Selector)
