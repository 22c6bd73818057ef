"""Which objects stay: S3-FIFO (Yang et al., SOSP 2023) with the main queue split by size and use.

Rule 1: the bytes charged never exceed `capacity`; what an object costs beyond its size is in its size, and
what remembered keys take is charged too. Rule 2: a hit does nothing but raise `node.freq`. Rule 3: a new key
enters the small queue, a tenth of the space. At its end, one that was used again moves to the main queues;
of the others, one of less than half the average size gets a trial there, and the rest leave. Rule 4: whoever
leaves is remembered with its rank, how often it proved useful; it enters the main queues when it comes back,
one rank higher. Rule 5: there is a main queue for each size class and rank. Whoever enters one is due after
a wait that grows with the rank and falls with the size to the power of 0.6, on a clock that shows when the
last one to leave was due. Each queue is first in, first out, so its oldest is due first; the earliest of all
queues is looked at: one that was used waits anew, in the queue of a higher rank, the others leave.

The power is where object hits and byte hits meet: at 1 the policy is one of Greedy-Dual's kin, which keep
everything small and fetch every large object again, at 0 it does not look at sizes. On traces it has about
GDSF's object hits with S3-FIFO's byte hits, and is S3-FIFO's equal where sizes are the same
(`atoll bench evict`).

Pure: no clock, no randomness, no I/O. Every operation is O(1), amortised for `admit`: the number of main
queues is bounded by size classes and ranks.
"""

from __future__ import annotations

from collections.abc import Hashable
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Generic, TypeVar, cast

from atoll.cache.ghost import MAX_RANK, Ghost

K = TypeVar("K", bound=Hashable)

MAX_FREQ: Final = 3
"""More uses between two looks count no more than these."""

_SMALL_SHARE: Final = 10  # the small queue's share of the capacity: one in ten
_TRIAL: Final = -1  # the rank, as queues go, of who has not been used yet
_TRIAL_WAIT: Final = 0.5  # of the wait at rank 0
_SIZE_POWER: Final = 0.6
_SLACK: Final = 64  # entries of the heap before those gone are dropped


class _Link:
    """A place in a queue."""

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.after = self.before = self


_NOWHERE: Final = _Link()
"""What a node in no queue stands between. Were it itself, only the garbage collector could free it."""


class Node(_Link, Generic[K]):
    """One object's place. The hit path may raise `freq` itself (`node.freq += 1`), and nothing else."""

    __slots__ = ("due", "freq", "key", "queue", "rank", "size")

    def __init__(self, key: K, size: int, queue: _Queue[K]) -> None:
        self.after = self.before = _NOWHERE
        self.key = key
        self.size = size
        self.freq = 0
        self.rank = 0
        self.due = 0.0
        self.queue = queue


class _Queue(_Link, Generic[K]):
    """A ring of nodes, itself between the newest and the oldest. `wait` is how long a main queue keeps."""

    __slots__ = ("wait",)

    def __init__(self, wait: float = 0.0) -> None:
        super().__init__()
        self.wait = wait

    def append(self, node: Node[K]) -> None:
        """At the end."""
        node.queue = self
        last = self.before
        node.before, node.after = last, self
        last.after = self.before = node

    @staticmethod
    def unlink(node: Node[K]) -> None:
        """Out of its queue."""
        node.before.after, node.after.before = node.after, node.before
        node.before = node.after = _NOWHERE


class S3Fifo(Generic[K]):
    """The queues. Sizes are bytes and include what the caller spends on an object besides its content."""

    def __init__(self, capacity: int, max_object: int | None = None) -> None:
        """`max_object` is never above an eighth of `capacity`: one object must not flush the rest."""
        self.capacity = capacity
        self.max_object = min(capacity // 8, capacity if max_object is None else max_object)
        self._nodes: dict[K, Node[K]] = {}
        self._ghost = Ghost()
        self._small: _Queue[K] = _Queue()
        self._small_bytes = 0
        self._main: dict[tuple[int, int], _Queue[K]] = {}  # by size class and rank
        self._main_bytes = 0
        self._clock = 0.0  # when who left last was due
        self._oldest: list[tuple[float, int, Node[K]]] = []  # a heap of each main queue's, and of some gone
        self._ties = count()

    @property
    def bytes_used(self) -> int:
        """Everything charged: objects and remembered keys."""
        return self._small_bytes + self._main_bytes + self._ghost.size

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, key: K) -> bool:
        return key in self._nodes

    def node(self, key: K) -> Node[K] | None:
        """The node of an object that is in."""
        return self._nodes.get(key)

    def touch(self, key: K) -> None:
        """Count a use, for callers that do not keep the node."""
        node = self._nodes.get(key)
        if node is not None:
            node.freq += 1

    def admits(self, size: int) -> bool:
        """Whether an object of `size` bytes may enter at all."""
        return 0 < size <= self.max_object

    def admit(self, key: K, size: int) -> list[K] | None:
        """Let `key` in and return who had to leave; None when it is refused, and then it is not in.

        A key that is in already keeps its standing with its new size.
        """
        node = self._take(key)
        if not self.admits(size):
            return None
        if node is None:
            node = Node(key, size, self._small)
            node.rank = min(self._ghost.recall(key, len(self)) + 1, MAX_RANK)
            in_main = node.rank > 0
        else:
            in_main = node.queue is not self._small
        node.size = size
        evicted = self._make_room(size)
        self._nodes[key] = node
        if in_main:
            self._enter_main(node, node.rank)
        else:
            self._small.append(node)
            self._small_bytes += size
        return evicted

    def remove(self, key: K) -> bool:
        """Take `key` out without remembering it. Whether it was in."""
        return self._take(key) is not None

    def clear(self) -> None:
        """Take everything out."""
        for node in self._nodes.values():
            node.before = node.after = _NOWHERE  # no rings left for the garbage collector
        self._nodes.clear()
        self._ghost.clear()
        self._small = _Queue()
        self._main.clear()
        self._oldest.clear()
        self._small_bytes = self._main_bytes = 0

    def _take(self, key: K) -> Node[K] | None:
        """The node of `key`, out of its queue, which it still names."""
        node = self._nodes.pop(key, None)
        if node is not None:
            self._unlink(node)
        return node

    def _unlink(self, node: Node[K]) -> None:
        queue = node.queue
        first = queue.after is node
        queue.unlink(node)
        if queue is self._small:
            self._small_bytes -= node.size
            return
        self._main_bytes -= node.size
        if first:
            self._note_oldest(queue)

    def _make_room(self, size: int) -> list[K]:
        evicted: list[K] = []
        most, small_most = self.capacity - size, self.capacity // _SMALL_SHARE
        while self._small_bytes + self._main_bytes + self._ghost.size > most:
            if self._small_bytes and (self._small_bytes >= small_most or not self._main_bytes):
                self._leave_small(evicted)
            elif self._main_bytes:
                self._leave_main(evicted)
            else:
                self._ghost.clear()
        return evicted

    def _leave_small(self, evicted: list[K]) -> None:
        """The small queue's oldest moves to a main queue or leaves."""
        node = cast("Node[K]", self._small.after)
        is_little = 2 * node.size * len(self._nodes) < self._small_bytes + self._main_bytes
        self._small.unlink(node)
        self._small_bytes -= node.size
        if node.freq:
            node.rank, node.freq = min(node.freq, MAX_FREQ) - 1, 0
            self._enter_main(node, node.rank)
        elif is_little:
            self._enter_main(node, _TRIAL)
        else:
            self._evict(node, evicted)

    def _leave_main(self, evicted: list[K]) -> None:
        """Who is due first among the main queues' oldest waits anew or leaves."""
        while True:
            due, _, node = heappop(self._oldest)
            queue = node.queue
            if queue.after is node and node.due == due:
                break
        queue.unlink(node)
        self._main_bytes -= node.size
        self._note_oldest(queue)
        if node.freq:
            node.rank, node.freq = min(node.rank + min(node.freq, MAX_FREQ), MAX_RANK), 0
            self._enter_main(node, node.rank)
        else:
            self._clock = due
            self._evict(node, evicted)

    def _evict(self, node: Node[K], evicted: list[K]) -> None:
        del self._nodes[node.key]
        evicted.append(node.key)
        self._ghost.remember(node.key, node.rank, len(self))

    def _enter_main(self, node: Node[K], rank: int) -> None:
        """Put a node that is in no queue into the main queue of its size and `rank`."""
        size_class = node.size.bit_length()
        queue = self._main.get((size_class, rank))
        if queue is None:
            worth = _TRIAL_WAIT if rank == _TRIAL else 1 + rank
            queue = self._main[size_class, rank] = _Queue(
                worth / (1.5 * 2 ** (size_class - 1)) ** _SIZE_POWER
            )
        node.due = self._clock + queue.wait
        queue.append(node)
        self._main_bytes += node.size
        if queue.after is node:
            self._note_oldest(queue)

    def _note_oldest(self, queue: _Queue[K]) -> None:
        """A main queue has another oldest, or none. The heap may keep those that are it no longer."""
        if queue.after is queue:
            return
        node = cast("Node[K]", queue.after)
        heappush(self._oldest, (node.due, next(self._ties), node))
        if len(self._oldest) > 4 * len(self._main) + _SLACK:
            oldest = [cast("Node[K]", each.after) for each in self._main.values() if each.after is not each]
            self._oldest = [(each.due, next(self._ties), each) for each in oldest]
            heapify(self._oldest)
