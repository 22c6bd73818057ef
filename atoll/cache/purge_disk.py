"""The purges that a machine has applied, kept beside what they concern.

Under a key for each selector is the number of its last purge, so repeating one takes no room. Beyond the
limit the oldest are forgotten, and remembered together as the floor: what is older is validated again.
"""

from __future__ import annotations

from typing import Final

import msgspec
from xxhash import xxh3_128_digest

from atoll.cache.index import Index
from atoll.cache.purge import MAX_REMEMBERED, PurgeLog
from atoll.cache.transaction import Change
from atoll.config.purge import Selector

_KIND: Final = b"p"
_STATE: Final = b"P"
_FORGOTTEN_PARTS: Final = 8  # of all that is kept, one in so many goes at once


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    seq: int
    selector: Selector


class _State(msgspec.Struct, array_like=True, frozen=True):
    count: int = 0
    floor: int = 0


_encode: Final = msgspec.msgpack.Encoder().encode


def load(index: Index, log: PurgeLog) -> None:
    """Tell `log` of all purges that are kept and that it has not applied; raises `lmdb.Error`."""
    kept = [_kept(packed) for _, packed in index.items(_KIND)]
    for purge in sorted((each for each in kept if each is not None), key=lambda each: each.seq):
        log.add(purge.seq, purge.selector)
    for _, packed in index.items(_STATE):
        log.behind(_state(packed).floor)


def keep(change: Change, seed: int, seq: int, selector: Selector, limit: int = MAX_REMEMBERED) -> bool:
    """Keep purge number `seq`; True whether it is new or known."""
    name = b"\0".join(
        (selector.kind.encode(), selector.tenant.encode(), b"%d" % selector.soft, selector.value.encode())
    )
    key = _KIND + xxh3_128_digest(name, seed)
    packed = change.get(key)
    known = _kept(packed) if packed is not None else None
    if known is not None and known.seq >= seq:
        return True
    change.put(key, _encode(_Kept(seq, selector)))
    if known is None:
        state = _state(change.get(_STATE))
        state = msgspec.structs.replace(state, count=state.count + 1)
        change.put(_STATE, _encode(state if state.count <= limit else _forget(change, state.floor, limit)))
    return True


def keep_floor(change: Change, floor: int) -> bool:
    """Purges up to number `floor` are not known one by one (see `PurgeLog.behind`)."""
    state = _state(change.get(_STATE))
    if floor > state.floor:
        change.put(_STATE, _encode(msgspec.structs.replace(state, floor=floor)))
    return True


def _forget(change: Change, floor: int, limit: int) -> _State:
    """Without the oldest ones. What is broken goes first."""
    kept = [(key, _kept(packed)) for key, packed in change.items(_KIND)]
    by_age = sorted((each.seq if each is not None else 0, key) for key, each in kept)
    oldest = by_age[: len(by_age) - limit + limit // _FORGOTTEN_PARTS]
    for _, key in oldest:
        change.delete(_KIND + key)
    return _State(len(by_age) - len(oldest), max([floor, *(seq for seq, _ in oldest)]))


def _kept(packed: bytes) -> _Kept | None:
    try:
        return msgspec.msgpack.decode(packed, type=_Kept)
    except msgspec.MsgspecError:
        return None


def _state(packed: bytes | None) -> _State:
    try:
        return _State() if packed is None else msgspec.msgpack.decode(packed, type=_State)
    except msgspec.MsgspecError:
        return _State()
