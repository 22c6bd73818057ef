"""What is served: objects by number, 1 KiB each and no two alike, and the orders to ask for them in. Pure."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final

SIZE: Final = 1024
HOST: Final = "bench.example.com"
_SEED: Final = 20_260_101


def path(number: int) -> str:
    """Where object `number` is."""
    return f"/o/{number}"


def body(number: int) -> bytes:
    """What it is."""
    piece = b"object %d of Atoll's benchmark. " % number
    return (piece * (SIZE // len(piece) + 1))[:SIZE]


def zipf(objects: int, draws: int, exponent: float = 0.9) -> Sequence[int]:
    """`draws` object numbers, the k-th most popular with weight 1/k^exponent; the same each time."""
    generator = random.Random(_SEED)
    ranked = list(range(objects))
    generator.shuffle(ranked)  # popularity has nothing to do with the order of filling
    weights = list(accumulate(1 / (rank + 1) ** exponent for rank in range(objects)))
    return generator.choices(ranked, cum_weights=weights, k=draws)


def excerpts(order: Sequence[int], size: int, count: int) -> Iterable[Sequence[int]]:
    """`count` pieces of `order`, each of `size`, from its beginning."""
    return (order[start : start + size] for start in range(0, size * count, size))
