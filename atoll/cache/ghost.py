"""What has been evicted lately and how much it was used: hashes of keys in a table of 64-bit words.

A word holds 32 bits of a hash, the time of eviction counted in evictions, and a rank. Four words are a
bucket; a newcomer takes the place of a bucket's oldest. A forgotten or mistaken key costs a worse guess by
the eviction policy and nothing else, so hashes are not compared further. A dictionary would take ten times
the memory for each key.

Pure: no clock, no randomness, no I/O. Every operation looks at one bucket.
"""

from __future__ import annotations

from array import array
from collections.abc import Hashable
from typing import Final

MAX_RANK: Final = 15
"""The highest rank that is kept."""

_RANK_BITS: Final = 4
_TIME_BITS: Final = 28
_TIME_MASK: Final = (1 << _TIME_BITS) - 1
_TAG_SHIFT: Final = _RANK_BITS + _TIME_BITS
_TAG_MASK: Final = (1 << 32) - 1
_WORDS: Final = 4  # of a bucket
_WORD_BYTES: Final = 8
_SPREAD: Final = 0x9E3779B97F4A7C15  # an odd number near 2^64 / golden ratio: neighbours get far apart
_HASH_MASK: Final = (1 << 64) - 1
_SMALLEST: Final = 16  # words


class Ghost:
    """The table, made when something is first remembered, and anew when it is far from the right size."""

    def __init__(self) -> None:
        self._words = array("Q")
        self._mask = 0
        self._now = 0  # evictions, modulo 2^28
        self.size = 0  # bytes of the table

    def clear(self) -> None:
        """Remember nothing, and take no memory."""
        self._words = array("Q")
        self._mask = self.size = 0

    def remember(self, key: Hashable, rank: int, limit: int) -> None:
        """`key` was evicted with `rank`; about `limit` keys are worth remembering."""
        words = self._words
        if limit * 4 > len(words) * 3 or len(words) > max(limit * 16, _SMALLEST):
            words = self._make(limit)
        self._now = now = (self._now + 1) & _TIME_MASK
        first, tag = self._place(key)
        oldest_age, chosen = -1, first
        for index in range(first, first + _WORDS):
            word = words[index]
            if not word or word >> _TAG_SHIFT == tag:
                chosen = index
                break
            age = (now - (word >> _RANK_BITS)) & _TIME_MASK
            if age > oldest_age:
                oldest_age, chosen = age, index
        words[chosen] = tag << _TAG_SHIFT | now << _RANK_BITS | min(rank, MAX_RANK)

    def recall(self, key: Hashable, limit: int) -> int:
        """The rank of `key`, which is then forgotten; -1 unless it was among the last `limit` to leave."""
        words = self._words
        if not words:
            return -1
        first, tag = self._place(key)
        for index in range(first, first + _WORDS):
            word = words[index]
            if word and word >> _TAG_SHIFT == tag:
                words[index] = 0
                age = (self._now - (word >> _RANK_BITS)) & _TIME_MASK
                return word & MAX_RANK if age < limit else -1
        return -1

    def _make(self, limit: int) -> array[int]:
        """An empty table, two to four words for each key: what was there are guesses that come back."""
        words = max(_SMALLEST, 1 << (limit * 2 - 1).bit_length())
        self.size = words * _WORD_BYTES
        self._words = array("Q", bytes(self.size))
        self._mask = words // _WORDS - 1
        return self._words

    def _place(self, key: Hashable) -> tuple[int, int]:
        mark = hash(key) * _SPREAD & _HASH_MASK  # its upper bits are the best
        return (mark >> 40 & self._mask) * _WORDS, mark >> 8 & _TAG_MASK
