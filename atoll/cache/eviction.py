"""Which objects stay: S3-FIFO over keys with byte sizes (Yang et al., SOSP 2023), made aware of sizes.

Rule 1: the bytes charged never exceed `capacity`; what an object costs beyond its size is in its size, and
what a remembered key costs is charged too. Rule 2: a hit does nothing but raise `node.freq`. Rule 3: a new
key enters the small queue, a tenth of the space; it moves to the main queue when it is used again before it
reaches the small queue's end, else only its hash is remembered in the ghost queue. Rule 4: a key that
comes back while the ghost remembers it enters the main queue at once. Rule 5: the main queue gives each
object as many more rounds as it was used, three at most. Rule 6: the larger an object is next to the
average, the more uses it must show to stay; one above `max_object` never enters.

Against plain S3-FIFO, rule 6 trades under one point of byte hits for one to two points of object hits where
sizes vary, and is the same where they do not. Sizes are expected well above `GHOST_COST`.

Pure: no clock, no randomness, no I/O. Every operation is O(1), amortised for `admit`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

GHOST_COST: Final = 180
"""Bytes that one remembered hash takes, measured."""

MAX_FREQ: Final = 3
_SMALL_SHARE: Final = 10  # the small queue's share of the capacity: one in ten
_LARGE: Final = 2  # times the average size: such an object must show two uses where others show one


class Node(Generic[K]):
    """One object's place. The hit path may raise `freq` itself (`node.freq += 1`), and nothing else."""

    __slots__ = ("freq", "key", "size")

    def __init__(self, key: K, size: int) -> None:
        self.key = key
        self.size = size
        self.freq = 0


class S3Fifo(Generic[K]):
    """The queues. Sizes are bytes and include what the caller spends on an object besides its content."""

    def __init__(self, capacity: int, max_object: int | None = None) -> None:
        """`max_object` is never above an eighth of `capacity`: one object must not flush the rest."""
        self.capacity = capacity
        self.max_object = min(capacity // 8, capacity if max_object is None else max_object)
        self._small: OrderedDict[K, Node[K]] = OrderedDict()
        self._main: OrderedDict[K, Node[K]] = OrderedDict()
        self._ghost: OrderedDict[int, None] = OrderedDict()
        self._small_bytes = 0
        self._main_bytes = 0

    @property
    def bytes_used(self) -> int:
        """Everything charged: objects and remembered keys."""
        return self._small_bytes + self._main_bytes + len(self._ghost) * GHOST_COST

    def __len__(self) -> int:
        return len(self._small) + len(self._main)

    def __contains__(self, key: K) -> bool:
        return key in self._small or key in self._main

    def node(self, key: K) -> Node[K] | None:
        """The node of an object that is in."""
        return self._small.get(key) or self._main.get(key)

    def touch(self, key: K) -> None:
        """Count a use, for callers that do not keep the node."""
        node = self.node(key)
        if node is not None:
            node.freq += 1

    def admits(self, size: int) -> bool:
        """Whether an object of `size` bytes may enter at all."""
        return 0 < size <= self.max_object

    def admit(self, key: K, size: int) -> list[K] | None:
        """Let `key` in and return who had to leave; None when it is refused, and then it is not in.

        A key that is in already keeps its standing with its new size.
        """
        old = self._take(key)
        if not self.admits(size):
            return None
        node, in_main = (Node(key, size), self._recall(key)) if old is None else old
        node.size = size
        evicted = self._make_room(size)
        self._append(node, in_main)
        return evicted

    def remove(self, key: K) -> bool:
        """Take `key` out without remembering it. Whether it was in."""
        return self._take(key) is not None

    def clear(self) -> None:
        """Take everything out."""
        self._small.clear()
        self._main.clear()
        self._ghost.clear()
        self._small_bytes = self._main_bytes = 0

    def _append(self, node: Node[K], in_main: bool) -> None:
        if in_main:
            self._main[node.key] = node
            self._main_bytes += node.size
        else:
            self._small[node.key] = node
            self._small_bytes += node.size

    def _take(self, key: K) -> tuple[Node[K], bool] | None:
        """The node of `key`, out of its queue, and whether that was the main queue."""
        node = self._small.pop(key, None)
        if node is not None:
            self._small_bytes -= node.size
            return node, False
        node = self._main.pop(key, None)
        if node is not None:
            self._main_bytes -= node.size
            return node, True
        return None

    def _make_room(self, size: int) -> list[K]:
        evicted: list[K] = []
        while self.bytes_used + size > self.capacity:
            if not self._small and not self._main:
                self._ghost.popitem(last=False)
            elif self._small and (self._small_bytes * _SMALL_SHARE >= self.capacity or not self._main):
                self._leave_small(evicted)
            else:
                self._leave_main(evicted)
        return evicted

    def _leave_small(self, evicted: list[K]) -> None:
        """The small queue's oldest moves to the main queue or leaves."""
        threshold = 2 if self._is_large(self._oldest(self._small)) else 1
        _, node = self._small.popitem(last=False)
        self._small_bytes -= node.size
        if node.freq >= threshold:
            node.freq = 0
            self._append(node, in_main=True)
            return
        evicted.append(node.key)
        self._remember(node.key)

    def _leave_main(self, evicted: list[K]) -> None:
        """The main queue's oldest goes another round for one of its uses (a large one for two), or leaves."""
        node = self._oldest(self._main)
        price = 2 if self._is_large(node) else 1
        if node.freq >= price:
            node.freq = min(node.freq, MAX_FREQ) - price
            self._main.move_to_end(node.key)
            return
        del self._main[node.key]
        self._main_bytes -= node.size
        evicted.append(node.key)

    @staticmethod
    def _oldest(queue: OrderedDict[K, Node[K]]) -> Node[K]:
        return next(iter(queue.values()))

    def _is_large(self, node: Node[K]) -> bool:
        return node.size * len(self) > _LARGE * (self._small_bytes + self._main_bytes)

    def _recall(self, key: K) -> bool:
        """Whether the ghost remembered `key`; it does no longer."""
        mark = hash(key)
        if mark not in self._ghost:
            return False
        del self._ghost[mark]
        return True

    def _remember(self, key: K) -> None:
        """The ghost holds as many hashes as there are objects, so what it costs stays a small share."""
        self._ghost[hash(key)] = None
        while len(self._ghost) > len(self):
            self._ghost.popitem(last=False)
