"""Which of a pool's origins is asked first, and which then. Pure: time and keys are arguments.

`nearest` keeps the order of distance. `weighted` is smooth weighted round robin: each choice gives every
origin its weight in credit and takes all of it from the one chosen, so that a heavy origin is not asked many
times in a row. `hash` is rendezvous hashing with weights (Schindelhauer and Schomaker, 2005): an origin that
leaves moves only what it had.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Final, Protocol, TypeVar

import xxhash

from atoll.config.origins import Balance

_SLOWEST: Final = 0.1  # of its weight: what an origin begins with that has recovered


class Weighted(Protocol):
    """An origin to choose from."""

    @property
    def name(self) -> str:
        """What tells it from the others."""

    @property
    def weight(self) -> int:
        """How much it takes; 0: nothing while others can."""


W = TypeVar("W", bound=Weighted)


class Balancer:
    """One pool's choices."""

    def __init__(self, balance: Balance) -> None:
        self._balance = balance
        self._credit: dict[str, float] = {}

    def order(self, origins: Sequence[W], key: bytes, weights: dict[str, float] | None = None) -> list[W]:
        """`origins`, nearest first, in the order in which they are asked for `key`.

        `weights` are those that differ from the origins' own for now.
        """
        if self._balance == "nearest" or len(origins) < 2:
            return list(origins)
        now = {origin.name: float(origin.weight) for origin in origins} | (weights or {})
        if self._balance == "hash":
            return sorted(origins, key=lambda origin: score(key, origin.name, now[origin.name]), reverse=True)
        return self._turns(origins, now)

    def _turns(self, origins: Sequence[W], weights: dict[str, float]) -> list[W]:
        credit = {
            origin.name: self._credit.get(origin.name, 0.0) + weights[origin.name] for origin in origins
        }
        order = sorted(
            origins, key=lambda origin: (weights[origin.name] > 0, credit[origin.name]), reverse=True
        )
        credit[order[0].name] -= sum(weights[origin.name] for origin in origins)
        self._credit = credit
        return order


def score(key: bytes, name: str, weight: float) -> float:
    """An origin's claim to `key`: the greatest wins, each in proportion to its weight."""
    if weight <= 0:
        return -1.0
    drawn = (xxhash.xxh3_64_intdigest(key, xxhash.xxh32_intdigest(name.encode())) + 1) / (2**64 + 1)
    return -weight / log(drawn)


def warming(weight: int, back_for_s: float, slow_start_s: float) -> float:
    """The weight of an origin that has been back for so long (of the time it gets for it)."""
    if back_for_s >= slow_start_s:
        return float(weight)
    return weight * max(_SLOWEST, back_for_s / slow_start_s)
