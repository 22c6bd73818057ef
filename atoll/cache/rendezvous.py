"""Which of several caches owns a key: rendezvous hashing (Thaler and Ravishankar, 1998).

Every cache that knows the members comes to the same order without asking anybody, and a member that leaves
moves only what it owned. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import xxhash


def ranked(key: bytes, members: Sequence[str]) -> list[str]:
    """`members`, the owner of `key` first, then who would own it without the one before."""
    return sorted(members, key=lambda member: (_weight(key, member), member), reverse=True)


def _weight(key: bytes, member: str) -> int:
    return xxhash.xxh3_64_intdigest(key, xxhash.xxh32_intdigest(member.encode()))
