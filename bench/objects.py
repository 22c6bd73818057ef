"""What is served: objects by number and size, no two alike, and the orders to ask for them in. Pure.

An object of 1 KiB is at `/o/<number>`, any other at `/o/<number>/<size>`: whoever knows a path knows every
byte of the answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from math import cos, exp, log, pi, sqrt
from typing import Final

SIZE: Final = 1024
MIX_OBJECTS: Final = 1_000_000
MIX_LARGEST: Final = 1 << 20
HOST: Final = "bench.example.com"
_SEED: Final = 20_260_101
_KEPT_FROM: Final = 64 * 1024  # bodies of this size and more are made once
_MIX_MEDIAN: Final = 3000.0  # bytes; with the width below 8 KiB on average
_MIX_SIGMA: Final = 1.4
_SPREAD: Final = 0x9E3779B97F4A7C15
_WORD: Final = (1 << 64) - 1


def path(number: int, size: int = SIZE) -> str:
    """Where object `number` of `size` bytes is."""
    return f"/o/{number}" if size == SIZE else f"/o/{number}/{size}"


def body(number: int, size: int = SIZE) -> bytes:
    """What it is."""
    return _large_body(number, size) if size >= _KEPT_FROM else _body(number, size)


@lru_cache(maxsize=16)
def _large_body(number: int, size: int) -> bytes:
    return _body(number, size)


def _body(number: int, size: int) -> bytes:
    piece = b"object %d of Atoll's benchmark. " % number
    return (piece * (size // len(piece) + 1))[:size]


def mixed_size(number: int) -> int:
    """Bytes of object `number` where sizes vary: log-normal, as on the web; the same each time."""
    mixed = ((number + 1) * _SPREAD) & _WORD
    mixed = ((mixed ^ mixed >> 32) * _SPREAD) & _WORD
    one, other = (mixed >> 32) + 1, mixed & 0xFFFFFFFF
    normal = sqrt(-2 * log(one / 2**32)) * cos(2 * pi * other / 2**32)  # Box and Muller's way
    return min(MIX_LARGEST, 64 + int(_MIX_MEDIAN * exp(_MIX_SIGMA * normal)))


def zipf(objects: int, draws: int, exponent: float = 0.9) -> Sequence[int]:
    """`draws` object numbers, the k-th most popular with weight 1/k^exponent; the same each time."""
    generator = random.Random(_SEED)
    ranked = list(range(objects))
    generator.shuffle(ranked)  # popularity has nothing to do with the order of filling
    weights = list(accumulate(1 / (rank + 1) ** exponent for rank in range(objects)))
    return generator.choices(ranked, cum_weights=weights, k=draws)


def uniform(objects: int, draws: int) -> Sequence[int]:
    """`draws` object numbers, each as likely as any other; the same each time."""
    return random.Random(_SEED).choices(range(objects), k=draws)


def excerpts(order: Sequence[int], size: int, count: int) -> Iterable[Sequence[int]]:
    """`count` pieces of `order`, each of `size`, from its beginning."""
    return (order[start : start + size] for start in range(0, size * count, size))
