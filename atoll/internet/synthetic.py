"""A made-up Internet of the real one's shape, from a seed: sizes, degrees, who sells, who peers.

Its measures are the real graph's: 78,000 ASes and half a million links, 70 % of them peerings; 85 % of ASes
sell to nobody; degrees follow a power law. One more decides who lands where: large networks that peer with
everybody who asks. Without them hardly any AS has a peer's route; with them about a tenth, as on the real
graph. ASes are ranked, and buy only from ranks above: there can be no cycle of providers. AS numbers say
nothing about rank, as outside.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from atoll.errors import AtollError
from atoll.internet.csr import CsrGraph, build

MIN_ASES: Final = 100  # below, there is no shape to speak of
MAX_ASES: Final = 500_000

Rows = NDArray[np.int64]
Shares = NDArray[np.float64]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What is made. Defaults are the Internet of today; shares are of 1."""

    ases: int = 78_000
    links: float = 6.5  # per AS
    peering: float = 0.70  # of links
    stubs: float = 0.85  # of ASes
    transit_power: float = 0.95  # customers fall with rank to this power
    peer_power: float = 0.72  # peerings with the peering rank to this one
    open_transit: float = 0.0006  # of ASes: networks that sell and peer with whoever asks
    open_reach: float = 0.085  # of ASes: how many peers the first of those has


def synthetic(seed: int, shape: Shape | None = None) -> CsrGraph:
    """The graph of a seed; the same on every machine.

    Raises:
        AtollError: fewer or more ASes than can be made, or shares that cannot be.
    """
    shape = shape or Shape()
    _check(shape)
    rng = np.random.Generator(np.random.PCG64(seed))
    transit = _transit(rng, shape)
    peering = _peering(rng, shape, transit)
    asns = _numbers(rng, shape.ases)
    return build(asns[transit], asns[peering], asns.tolist())


def _check(shape: Shape) -> None:
    if not MIN_ASES <= shape.ases <= MAX_ASES:
        raise AtollError(f"{shape.ases} ASes", hint=f"{MIN_ASES} to {MAX_ASES:,}")
    for name in ("peering", "stubs", "open_transit", "open_reach"):
        if not 0 <= getattr(shape, name) <= 0.95:
            raise AtollError(f"{name} is {getattr(shape, name)}", hint="0 to 0.95", where="shape")
    if shape.links * (1 - shape.peering) < 1.2 or shape.links > 20:
        hint = "at least 1.2 transit links per AS, at most 20 links"
        raise AtollError(f"{shape.links} links per AS", hint=hint, where="shape")


def _tops(shape: Shape) -> int:
    """How many networks buy from nobody: 15 of 78,000."""
    return max(3, min(15, round(3 * math.log10(shape.ases))))


def _sellers(shape: Shape) -> int:
    return max(_tops(shape) + 2, round(shape.ases * (1 - shape.stubs)))


def _picks(rng: np.random.Generator, weights: Shares, count: int) -> Rows:
    """`count` ranks by weight."""
    ends = np.cumsum(weights)
    found: Rows = np.searchsorted(ends, rng.random(count) * ends[-1], side="right")
    return found


def _transit(rng: np.random.Generator, shape: Shape) -> Rows:
    """(provider, customer) ranks: one provider for all below the top, the rest by chance.

    Providers are drawn by weight of rank among those above. Drawing `u ** power` of the way down the ranks
    gives the same fall for a customer of any rank without a table for each.
    """
    top, sellers = _tops(shape), _sellers(shape)
    links = round(shape.ases * shape.links * (1 - shape.peering)) - top
    spare = max(0, links - (shape.ases - top))
    spare = round(spare * 1.06)  # some are drawn twice
    first = np.arange(top, shape.ases)
    # who sells buys more than a stub does
    weights = np.where(np.arange(shape.ases) < sellers, 1.6, 1.0)
    weights[:top] = 0
    customers = np.concatenate((first, _picks(rng, weights, spare)))
    above = np.minimum(customers, sellers).astype(np.float64)
    providers = _fallen(rng.random(len(customers)), above, shape.transit_power)
    # everybody who is to sell has a customer: a rank without one takes the place of a spare provider
    idle = np.setdiff1d(np.arange(sellers), providers)
    takers = len(first) + np.arange(min(len(idle), spare))
    fits = idle[: len(takers)] < customers[takers]
    providers[takers[fits]] = idle[: len(takers)][fits]
    return np.unique(np.stack((providers, customers), axis=1), axis=0)


def _fallen(chance: Shares, above: Shares, power: float) -> Rows:
    """Ranks below `above`, with a density that falls as `(rank + 1) ** -power`."""
    rest = 1.0 - power
    ranks = (1.0 + chance * ((above + 1.0) ** rest - 1.0)) ** (1.0 / rest) - 1.0
    return np.minimum(ranks.astype(np.int64), above.astype(np.int64) - 1)


def _peering(rng: np.random.Generator, shape: Shape, transit: Rows) -> Rows:
    """Pairs of ranks: the top's mesh, open networks and whoever came to them, and the rest by weight."""
    top, size = _tops(shape), shape.ases
    mesh = np.stack(np.triu_indices(top, 1), axis=1)
    wanted = round(size * shape.links * shape.peering)
    found = _new_pairs(mesh, _open(rng, shape), transit, size)
    weights = _appetites(rng, shape)
    for _ in range(12):  # each draws what is missing, less what was drawn twice
        missing = wanted - len(found)
        if missing <= wanted // 1000:
            break
        drawn = np.stack((_picks(rng, weights, missing), _picks(rng, weights, missing)), axis=1)
        found = _new_pairs(found, drawn, transit, size)
    return found


def _open(rng: np.random.Generator, shape: Shape) -> Rows:
    """Peerings of large transit networks that take everybody: the first has most, the next ones less."""
    top = _tops(shape)
    count = max(1, round(shape.ases * shape.open_transit))
    pairs = []
    for place in range(count):
        network = top + place
        peers = round(shape.ases * shape.open_reach / (1 + place))
        pairs.append(
            np.stack((np.full(peers, network), (rng.random(peers) * shape.ases).astype(np.int64)), 1)
        )
    return np.concatenate(pairs)


def _appetites(rng: np.random.Generator, shape: Shape) -> Shares:
    """How much each rank wants to peer: a power law over a shuffled order, transit networks before stubs."""
    top, sellers = _tops(shape), _sellers(shape)
    order = np.argsort(rng.random(shape.ases) * np.where(np.arange(shape.ases) < sellers, 0.25, 1.0))
    weights = np.empty(shape.ases)
    weights[order] = (np.arange(shape.ases) + 10.0) ** -shape.peer_power
    weights[:top] = 0  # they peer with each other and sell to the rest
    return weights


def _new_pairs(found: Rows, drawn: Rows, transit: Rows, size: int) -> Rows:
    """All pairs once, lower rank first, without those that have a transit link."""
    both = np.sort(np.concatenate((found, drawn)), axis=1)
    both = both[both[:, 0] != both[:, 1]]
    keys = np.unique(both[:, 0] * size + both[:, 1])
    sold = np.sort(transit, axis=1)
    keys = keys[~np.isin(keys, sold[:, 0] * size + sold[:, 1])]
    return np.stack((keys // size, keys % size), axis=1)


def _numbers(rng: np.random.Generator, count: int) -> Rows:
    """AS numbers by rank, without order: 1 to three times the count."""
    return np.argsort(rng.random(3 * count))[:count] + 1
