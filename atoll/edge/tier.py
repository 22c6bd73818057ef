"""The caches behind this one: the key's owner in this PoP, then the pool's shield PoP, then the origins.

A peer says at once that it has heard (`102 Processing`), however long its own answer takes: one that says
nothing is taken for dead and left out, and its silence costs a fraction of a second, not a timeout. What a
peer serves carries the number of the last purge it had applied, because the one who stores it may know of
later ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from atoll.cache.rendezvous import ranked
from atoll.config.spec import PoolSpec, PopSpec, Snapshot
from atoll.errors import RemoteError
from atoll.http.fields import Headers, get
from atoll.http.upstream import ResponseReader, UpstreamPool, render_request
from atoll.internet.geography import great_circle_km

SIGN_S: Final = 0.25  # within which a peer gives a sign of life
_AVOID_S: Final = 1.0  # a peer that gave none is not asked for so long
_PATIENCE_S: Final = 30.0  # for a peer that lives: it gives up on its origins before

HOP: Final = b"atoll-hop"
SCHEME: Final = b"atoll-scheme"
PURGE_SEQ: Final = b"atoll-purge-seq"
CHANGED: Final = b"atoll-changed"  # what the peer has stored is invalid: somebody has changed it through us
TROUBLE: Final = b"atoll-trouble"
NOT_HERE: Final = 421  # with `TROUBLE`: misdirected (RFC 9110 §15.5.20)
_DIGITS: Final = 19  # of a 64-bit number

FROM_CLIENT: Final = 0
FROM_POP: Final = 1  # asked by another worker of this PoP
FROM_OUTSIDE: Final = 2  # asked by another PoP


class Peer(NamedTuple):
    """A worker's cache, and what it is asked as."""

    name: str  # "lhr/0"
    hop: int


class Tier:
    """Which peers come before the origins, and how they are asked.

    `socket_of` says where a worker's cache answers: a PoP's code and the worker's number in, a path out.
    """

    def __init__(self, index: int, socket_of: Callable[[str, int], str]) -> None:
        self._index = index
        self._socket_of = socket_of
        self._pools: dict[str, UpstreamPool] = {}
        self._avoid: dict[str, float] = {}
        self._pops: dict[str, PopSpec] = {}
        self._shields: dict[str, str] = {}
        self._here = ""

    def apply(self, snapshot: Snapshot) -> None:
        """The network from now on."""
        self._here = snapshot.pop.code
        self._pops = {pop.code: pop for pop in snapshot.network.pops}
        self._pops[self._here] = snapshot.pop
        places = {spec.host: (spec.lat, spec.lon) for spec in snapshot.network.origins}
        self._shields = {
            pool.name: shield_of(pool, places, snapshot.network.pops) for pool in snapshot.network.pools
        }

    def close(self) -> None:
        """Ask nobody any more."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    def peers(self, key: bytes, pool: str, hop: int) -> list[Peer]:
        """Who is to be asked for `key` before the origins, nearest first; `hop` is who asks here."""
        found: list[Peer] = []
        me = f"{self._here}/{self._index}"
        if hop == FROM_CLIENT:
            found += self._owner(key, self._here, me, FROM_POP)
        shield = self._shields.get(pool, "")
        if hop != FROM_OUTSIDE and shield and shield != self._here:
            found += self._owner(key, shield, me, FROM_OUTSIDE)
        return found

    def _owner(self, key: bytes, pop: str, me: str, hop: int) -> list[Peer]:
        """The owner of `key` in a PoP, or who owns it while that one is dead; nobody if it is `me`."""
        spec = self._pops.get(pop)
        members = [f"{pop}/{index}" for index in range(spec.workers)] if spec is not None else []
        now_s = monotonic()
        for name in ranked(key, members) if len(members) > 1 else members:
            if name == me:
                return []
            if self._avoid.get(name, 0.0) <= now_s:
                return [Peer(name, hop)]
        return []

    async def ask(
        self, peer: Peer, method: bytes, target: bytes, host: bytes, headers: Headers
    ) -> Answer | None:
        """A peer's answer, or None when it gives no sign of life, or does not know what is asked for.

        Raises:
            RemoteError: it lives, but could not get an answer either.
        """
        request = render_request(method, target, host, [*headers, (HOP, b"%d" % peer.hop)], None)
        sign = asyncio.Event()
        reader = ResponseReader(self._pool(peer.name), request, None, _PATIENCE_S)
        reader.on_informational = lambda status, fields: sign.set()
        reader.pool.start(reader)
        try:
            await _answered(reader, sign)
        except (RemoteError, TimeoutError):
            reader.cancel()
            self._avoid[peer.name] = monotonic() + _AVOID_S
            return None
        trouble = get(reader.headers, TROUBLE)
        if trouble is not None:
            reader.cancel()
            if reader.status == NOT_HERE:  # a site that is new or has moved: its snapshot is not ours
                return None
            raise RemoteError(trouble.decode("latin-1"), reader.status)
        seq = (get(reader.headers, PURGE_SEQ) or b"")[:_DIGITS]
        reader.headers = [field for field in reader.headers if field[0] != PURGE_SEQ]
        return Answer(reader, int(seq) if seq.isdigit() else 0)

    def _pool(self, name: str) -> UpstreamPool:
        pool = self._pools.get(name)
        if pool is None:
            pop, _, index = name.partition("/")
            pool = self._pools[name] = UpstreamPool(self._socket_of(pop, int(index)), SIGN_S)
        return pool


class Answer(NamedTuple):
    """A response, and the last purge that whoever gave it had applied."""

    reader: ResponseReader
    purge_seq: int


async def _answered(reader: ResponseReader, sign: asyncio.Event) -> None:
    """Wait for a response's head for as long as there are signs of life.

    Raises:
        TimeoutError: no sign in time.
        RemoteError: the connection failed.
    """
    head = asyncio.ensure_future(reader.wait_head())
    heard = asyncio.ensure_future(sign.wait())
    try:
        done, _ = await asyncio.wait((heard, head), timeout=SIGN_S, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError
        await head
    finally:
        heard.cancel()
        head.cancel()


def shield_of(pool: PoolSpec, places: dict[str, tuple[float, float]], pops: tuple[PopSpec, ...]) -> str:
    """The PoP that asks a pool's origins for all: the named one, or the nearest to the first origin."""
    if pool.shield != "auto":
        return pool.shield
    home = next((places[host] for host in pool.origins if host in places), None)
    if home is None or not pops:
        return ""
    return min(pops, key=lambda pop: (great_circle_km(*home, pop.lat, pop.lon), pop.code)).code
