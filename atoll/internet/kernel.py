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


class Telling(NamedTuple):
    """What neighbours are told of one prefix: its origins are `first` to before `last`."""

    seeds: Seeds
    rov: Bytes
    first: int
    last: int
    plain: bool  # everybody is told the same, as of most prefixes: then nobody need look


def _jit(function: Callable[_Given, None]) -> Callable[_Given, None]:
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # numba has found no folder that it can write
        return njit(nogil=True)(function)


# Taking an array out of a tuple counts a reference, with an atomic instruction each way, unless the compiler
# sees that it need not. In the loops over neighbours that would be most of the time: functions in them are
# inlined, take arrays that were taken out before, and call what is seldom needed.
_inline: Final = njit(nogil=True, inline="always")
_called: Final = njit(nogil=True)


@_called
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


@_called
def _told(telling: Telling, state: State, sender: int, receiver: int) -> int:
    """What `receiver` hears: -1 nothing, else twice the copies more, plus 1 for NO_EXPORT."""
    seeds = telling.seeds
    seed = telling.first + state.origin[sender]
    flags = seeds.flags[seed]
    if flags == 0:
        return 0
    if flags & INVALID and telling.rov[receiver]:
        return -1
    if flags & CLAIMS:
        for at in range(seeds.claim_start[seed], seeds.claim_start[seed + 1]):
            if seeds.claim_row[at] == receiver:
                return -1
    if flags & RULES and state.relation[sender] == ORIGIN:
        return _ruled(seeds, seed, receiver)
    return 0


@_inline
def _is_plain(seeds: Seeds, first: int, last: int) -> bool:
    """Whether these origins tell everybody the same."""
    for seed in range(first, last):  # noqa: SIM110 - numba knows no generators in `all`
        if seeds.flags[seed] != 0:
            return False
    return True


@_inline
def _shortest(
    lengths: Ints, relations: Bytes, mutes: Bytes, row: int, start: Ints, nodes: Ints, highest: int
) -> tuple[int, int, int]:
    """As `_best`, where everybody is told the same."""
    length, best = 2**31 - 1, -1
    for at in range(start[row], start[row + 1]):
        sender = nodes[at]
        relation = relations[sender]
        if relation == NONE or relation > highest or mutes[sender]:
            continue
        if lengths[sender] + 1 < length:
            length, best = lengths[sender] + 1, sender
    return length, best, 0


@_called
def _best(
    telling: Telling, state: State, row: int, start: Ints, nodes: Ints, highest: int
) -> tuple[int, int, int]:
    """(length, sender, muted) of the shortest route that neighbours with relations up to `highest` tell."""
    length, best, muted = 2**31 - 1, -1, 0
    for at in range(start[row], start[row + 1]):
        sender = nodes[at]
        relation = state.relation[sender]
        if relation == NONE or relation > highest or state.muted[sender]:
            continue
        if state.length[sender] + 1 >= length:
            continue
        told = _told(telling, state, sender, row)
        if told < 0:
            continue
        found = state.length[sender] + 1 + (told >> 1)
        if found < length:
            length, best, muted = found, sender, told & 1
    return length, best, muted


@_called
def _put(state: State, row: int, length: int, origin: int, next_hop: int, relation: int, muted: int) -> bool:
    """Sets a route; True when neighbours can tell the difference."""
    differs = (
        state.length[row] != length
        or state.origin[row] != origin
        or state.relation[row] != relation
        or state.muted[row] != muted
    )
    state.length[row] = length
    state.origin[row] = origin
    state.next_hop[row] = next_hop
    state.relation[row] = relation
    state.muted[row] = muted
    return bool(differs)


@_inline
def _clear(state: State, row: int) -> None:
    state.length[row] = 0
    state.origin[row] = -1
    state.next_hop[row] = -1
    state.relation[row] = NONE
    state.muted[row] = 0


@_inline
def _mark(marks: Bytes, start: Ints, nodes: Ints, row: int) -> None:
    for at in range(start[row], start[row + 1]):
        marks[nodes[at]] = 1


@_inline
def _up(links: Links, telling: Telling, state: State, marks: Marks, full: bool) -> None:
    """Phase 1: customers' routes climb; when a row is looked at, all its customers have decided."""
    seeds, first = telling.seeds, telling.first
    origins, lengths = state.origin, state.length
    relations, mutes = state.relation, state.muted
    start, nodes = links.customer_start, links.customers
    seed_of = np.full(len(relations), -1, np.int32)
    for seed in range(first, telling.last):
        seed_of[seeds.row[seed]] = seed
    order = links.order
    for row in order:
        if not full and not marks.up[row]:
            continue
        seed = seed_of[row]
        climbed = relations[row] in (ORIGIN, CUSTOMER)
        if seed >= 0:
            changed = _put(state, row, seeds.length[seed], seed - first, row, ORIGIN, 0)
        else:
            if telling.plain:
                length, sender, muted = _shortest(lengths, relations, mutes, row, start, nodes, CUSTOMER)
            else:
                length, sender, muted = _best(telling, state, row, start, nodes, CUSTOMER)
            if sender >= 0:
                changed = _put(state, row, length, origins[sender], sender, CUSTOMER, muted)
            elif climbed:
                _clear(state, row)
                changed = True
                marks.across[row] = 1
            else:
                continue
        if changed and not full:
            _mark(marks.up, links.provider_start, links.providers, row)
            _mark(marks.across, links.peer_start, links.peers, row)
            _mark(marks.down, links.customer_start, links.customers, row)


@_inline
def _across(links: Links, telling: Telling, before: State, state: State, marks: Marks, full: bool) -> None:
    """Phase 2: what came up crosses one link. Few have something to tell: they do, nobody asks."""
    if not full and not _forget_crossed(state, marks):
        return
    origins, lengths = state.origin, state.length
    relations, mutes = state.relation, state.muted
    start, nodes = links.peer_start, links.peers
    for sender in range(len(relations)):
        if relations[sender] not in (ORIGIN, CUSTOMER) or mutes[sender]:
            continue
        for at in range(start[sender], start[sender + 1]):
            row = nodes[at]
            relation = relations[row]
            if relation in (ORIGIN, CUSTOMER) or (not full and not marks.across[row]):
                continue
            if relation == PEER and lengths[sender] + 1 >= lengths[row]:
                continue  # senders ascend: the first of the shortest is the lowest
            told = 0 if telling.plain else _told(telling, state, sender, row)
            length = lengths[sender] + 1 + (told >> 1)
            if told >= 0 and (relation != PEER or length < lengths[row]):
                _put(state, row, length, origins[sender], sender, PEER, told & 1)
    if not full:
        _mark_crossed(links, before, state, marks)


@_inline
def _forget_crossed(state: State, marks: Marks) -> bool:
    """Marked rows have no peer's route until one is told again; whether there is any marked."""
    some = False
    for row in range(len(state.origin)):
        if marks.across[row]:
            some = True
            if state.relation[row] == PEER:
                _clear(state, row)
    return some


@_inline
def _mark_crossed(links: Links, before: State, state: State, marks: Marks) -> None:
    """After phase 2: who has nothing asks its providers, and customers hear of what differs."""
    for row in range(len(state.origin)):
        relation = state.relation[row]
        if not marks.across[row] or relation in (ORIGIN, CUSTOMER):
            continue
        if relation == NONE:
            marks.down[row] = 1
        if (
            relation != before.relation[row]
            or state.length[row] != before.length[row]
            or state.origin[row] != before.origin[row]
            or state.muted[row] != before.muted[row]
        ):
            _mark(marks.down, links.customer_start, links.customers, row)


@_inline
def _down(links: Links, telling: Telling, state: State, marks: Marks, full: bool) -> None:
    """Phase 3: everything sinks to customers; providers are looked at before their customers."""
    origins, lengths = state.origin, state.length
    relations, mutes = state.relation, state.muted
    start, nodes = links.provider_start, links.providers
    order = links.order
    for at in range(len(relations) - 1, -1, -1):
        row = order[at]
        relation = relations[row]
        if relation not in (NONE, PROVIDER) or (not full and not marks.down[row]):
            continue
        if telling.plain:
            length, sender, muted = _shortest(lengths, relations, mutes, row, start, nodes, PROVIDER)
        else:
            length, sender, muted = _best(telling, state, row, start, nodes, PROVIDER)
        if sender >= 0:
            changed = _put(state, row, length, origins[sender], sender, PROVIDER, muted)
        elif relation == PROVIDER:
            _clear(state, row)
            changed = True
        else:
            continue
        if changed and not full:
            _mark(marks.down, links.customer_start, links.customers, row)


def _run(
    links: Links, seeds: Seeds, rov: Bytes, before: State, state: State, marks: Marks, full: bool
) -> None:
    for p in range(len(seeds.bound) - 1):
        first, last = seeds.bound[p], seeds.bound[p + 1]
        was = State(
            before.origin[p], before.length[p], before.next_hop[p], before.relation[p], before.muted[p]
        )
        now = State(state.origin[p], state.length[p], state.next_hop[p], state.relation[p], state.muted[p])
        seen = Marks(marks.up[p], marks.across[p], marks.down[p])
        telling = Telling(seeds, rov, first, last, _is_plain(seeds, first, last))
        _up(links, telling, now, seen, full)
        _across(links, telling, was, now, seen, full)
        _down(links, telling, now, seen, full)


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
