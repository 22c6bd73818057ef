"""The propagation of `atoll.internet.propagate` as machine code, which numba makes at the first call.

Importing this module imports numba, which takes a second: `propagate` does so only when asked to run. Machine
code is kept in numba's cache (`NUMBA_CACHE_DIR`, else `__pycache__` here, else the user's cache folder);
where none can be written it is made in each process.

The three phases are those of `atoll.internet.routing`, each a sweep over the rows that are marked. A full run
looks at all. A what-if marks what has changed, and a row whose route changes marks those who hear of it: what
is not marked is not looked at and stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple, ParamSpec

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]

NONE: Final = 0
ORIGIN: Final = 1
CUSTOMER: Final = 2
PEER: Final = 3
PROVIDER: Final = 4

RULES: Final = 1  # an origin's flags: it has rules for some neighbours
INVALID: Final = 2  # route-origin validation drops it
CLAIMS: Final = 4  # its path names other ASes, which drop it as a loop

_Given = ParamSpec("_Given")


class Links(NamedTuple):
    """A `CsrGraph`'s arrays."""

    provider_start: Ints
    providers: Ints
    customer_start: Ints
    customers: Ints
    peer_start: Ints
    peers: Ints
    order: Ints


class Seeds(NamedTuple):
    """The origins of all prefixes; those of prefix p are `bound[p]` to `bound[p + 1]`."""

    bound: Ints
    row: Ints
    length: Ints
    flags: Bytes
    rule_start: Ints
    rule_row: Ints  # ascending for each origin
    rule_add: Ints  # copies more for this neighbour; -1: it does not hear of it
    rule_stop: Bytes  # 1: it may not tell anybody (NO_EXPORT)
    claim_start: Ints
    claim_row: Ints


class State(NamedTuple):
    """A route for each prefix and row, shape (prefixes, ASes)."""

    origin: Ints  # which of the prefix's origins, -1: no route
    length: Ints  # of the AS path, prepended copies and the AS itself included
    next_hop: Ints  # a row; itself at an origin, -1: no route
    relation: Bytes
    muted: Bytes  # 1: it was told not to tell


class Marks(NamedTuple):
    """What each phase has to look at, shape (prefixes, ASes); unused, and empty, in a full run."""

    up: Bytes
    across: Bytes
    down: Bytes


def _jit(function: Callable[_Given, None]) -> Callable[_Given, None]:
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has found no folder that it can write
        return njit(nogil=True)(function)


_inline: Final = njit(nogil=True)


@_inline
def _ruled(seeds: Seeds, seed: int, receiver: int) -> int:
    """As `_told`, by the origin's rule for this neighbour; a binary search, large networks have thousands."""
    low, high = seeds.rule_start[seed], seeds.rule_start[seed + 1]
    while low < high:
        middle = (low + high) >> 1
        if seeds.rule_row[middle] < receiver:
            low = middle + 1
        else:
            high = middle
    if low == seeds.rule_start[seed + 1] or seeds.rule_row[low] != receiver:
        return 0
    return -1 if seeds.rule_add[low] < 0 else int(2 * seeds.rule_add[low] + seeds.rule_stop[low])


@_inline
def _told(seeds: Seeds, rov: Bytes, state: State, p: int, sender: int, receiver: int) -> int:
    """What `receiver` hears: -1 nothing, else twice the copies more, plus 1 for NO_EXPORT."""
    seed = seeds.bound[p] + state.origin[p, sender]
    flags = seeds.flags[seed]
    if flags == 0:
        return 0
    if flags & INVALID and rov[receiver]:
        return -1
    if flags & CLAIMS:
        for at in range(seeds.claim_start[seed], seeds.claim_start[seed + 1]):
            if seeds.claim_row[at] == receiver:
                return -1
    if flags & RULES and state.relation[p, sender] == ORIGIN:
        return _ruled(seeds, seed, receiver)
    return 0


@_inline
def _best(
    seeds: Seeds, rov: Bytes, state: State, p: int, row: int, start: Ints, nodes: Ints, highest: int
) -> tuple[int, int, int]:
    """(length, sender, muted) of the shortest route that neighbours with relations up to `highest` tell."""
    length, best, muted = 2**31 - 1, -1, 0
    for at in range(start[row], start[row + 1]):
        sender = nodes[at]
        relation = state.relation[p, sender]
        if relation == NONE or relation > highest or state.muted[p, sender]:
            continue
        if state.length[p, sender] + 1 >= length:
            continue
        told = _told(seeds, rov, state, p, sender, row)
        if told < 0:
            continue
        found = state.length[p, sender] + 1 + (told >> 1)
        if found < length:
            length, best, muted = found, sender, told & 1
    return length, best, muted


@_inline
def _put(
    state: State, p: int, row: int, length: int, origin: int, next_hop: int, relation: int, muted: int
) -> bool:
    """Sets a route; True when neighbours can tell the difference."""
    differs = (
        state.length[p, row] != length
        or state.origin[p, row] != origin
        or state.relation[p, row] != relation
        or state.muted[p, row] != muted
    )
    state.length[p, row] = length
    state.origin[p, row] = origin
    state.next_hop[p, row] = next_hop
    state.relation[p, row] = relation
    state.muted[p, row] = muted
    return bool(differs)


@_inline
def _clear(state: State, p: int, row: int) -> None:
    state.length[p, row] = 0
    state.origin[p, row] = -1
    state.next_hop[p, row] = -1
    state.relation[p, row] = NONE
    state.muted[p, row] = 0


@_inline
def _mark(marks: Bytes, p: int, start: Ints, nodes: Ints, row: int) -> None:
    for at in range(start[row], start[row + 1]):
        marks[p, nodes[at]] = 1


@_inline
def _up(links: Links, seeds: Seeds, rov: Bytes, state: State, marks: Marks, full: bool, p: int) -> None:
    """Phase 1: customers' routes climb; when a row is looked at, all its customers have decided."""
    seed_of = np.full(len(rov), -1, np.int32)
    for seed in range(seeds.bound[p], seeds.bound[p + 1]):
        seed_of[seeds.row[seed]] = seed
    for row in links.order:
        if not full and not marks.up[p, row]:
            continue
        seed = seed_of[row]
        relation = state.relation[p, row]
        climbed = relation in (ORIGIN, CUSTOMER)
        if seed >= 0:
            changed = _put(state, p, row, seeds.length[seed], seed - seeds.bound[p], row, ORIGIN, 0)
        else:
            length, sender, muted = _best(
                seeds, rov, state, p, row, links.customer_start, links.customers, CUSTOMER
            )
            if sender >= 0:
                changed = _put(state, p, row, length, state.origin[p, sender], sender, CUSTOMER, muted)
            elif climbed:
                _clear(state, p, row)
                changed = True
                marks.across[p, row] = 1
            else:
                continue
        if changed and not full:
            _mark(marks.up, p, links.provider_start, links.providers, row)
            _mark(marks.across, p, links.peer_start, links.peers, row)
            _mark(marks.down, p, links.customer_start, links.customers, row)


@_inline
def _across(
    links: Links, seeds: Seeds, rov: Bytes, before: State, state: State, marks: Marks, full: bool, p: int
) -> None:
    """Phase 2: what came up crosses one link. Few have something to tell: they do, nobody asks."""
    if not full and not _forget_crossed(state, marks, p):
        return
    for sender in range(len(rov)):
        if state.relation[p, sender] not in (ORIGIN, CUSTOMER) or state.muted[p, sender]:
            continue
        for at in range(links.peer_start[sender], links.peer_start[sender + 1]):
            row = links.peers[at]
            relation = state.relation[p, row]
            if relation in (ORIGIN, CUSTOMER) or (not full and not marks.across[p, row]):
                continue
            if relation == PEER and state.length[p, sender] + 1 >= state.length[p, row]:
                continue  # senders ascend: the first of the shortest is the lowest
            told = _told(seeds, rov, state, p, sender, row)
            length = state.length[p, sender] + 1 + (told >> 1)
            if told >= 0 and (relation != PEER or length < state.length[p, row]):
                _put(state, p, row, length, state.origin[p, sender], sender, PEER, told & 1)
    if not full:
        _mark_crossed(links, before, state, marks, p)


@_inline
def _forget_crossed(state: State, marks: Marks, p: int) -> bool:
    """Marked rows have no peer's route until one is told again; whether there is any marked."""
    some = False
    for row in range(state.origin.shape[1]):
        if marks.across[p, row]:
            some = True
            if state.relation[p, row] == PEER:
                _clear(state, p, row)
    return some


@_inline
def _mark_crossed(links: Links, before: State, state: State, marks: Marks, p: int) -> None:
    """After phase 2: who has nothing asks its providers, and customers hear of what differs."""
    for row in range(state.origin.shape[1]):
        relation = state.relation[p, row]
        if not marks.across[p, row] or relation in (ORIGIN, CUSTOMER):
            continue
        if relation == NONE:
            marks.down[p, row] = 1
        if (
            relation != before.relation[p, row]
            or state.length[p, row] != before.length[p, row]
            or state.origin[p, row] != before.origin[p, row]
            or state.muted[p, row] != before.muted[p, row]
        ):
            _mark(marks.down, p, links.customer_start, links.customers, row)


@_inline
def _down(links: Links, seeds: Seeds, rov: Bytes, state: State, marks: Marks, full: bool, p: int) -> None:
    """Phase 3: everything sinks to customers; providers are looked at before their customers."""
    for at in range(len(rov) - 1, -1, -1):
        row = links.order[at]
        relation = state.relation[p, row]
        if relation not in (NONE, PROVIDER) or (not full and not marks.down[p, row]):
            continue
        length, sender, muted = _best(
            seeds, rov, state, p, row, links.provider_start, links.providers, PROVIDER
        )
        if sender >= 0:
            changed = _put(state, p, row, length, state.origin[p, sender], sender, PROVIDER, muted)
        elif relation == PROVIDER:
            _clear(state, p, row)
            changed = True
        else:
            continue
        if changed and not full:
            _mark(marks.down, p, links.customer_start, links.customers, row)


def _run(
    links: Links, seeds: Seeds, rov: Bytes, before: State, state: State, marks: Marks, full: bool
) -> None:
    for p in range(len(seeds.bound) - 1):
        _up(links, seeds, rov, state, marks, full, p)
        _across(links, seeds, rov, before, state, marks, full, p)
        _down(links, seeds, rov, state, marks, full, p)


_compiled: Final = _jit(_run)


def run(
    links: Links, seeds: Seeds, rov: Bytes, before: State, state: State, marks: Marks, full: bool
) -> None:
    """Propagates every prefix, in place of what is in `state`.

    A full run starts from a `state` without routes. A what-if starts from a copy of `before`, in which
    origins that changed or went have numbers that no origin has now.
    """
    try:
        _compiled(links, seeds, rov, before, state, marks, full)
    except OSError:
        # compiled, but the folder for it is full or went away: the second call finds it in memory
        _compiled(links, seeds, rov, before, state, marks, full)
