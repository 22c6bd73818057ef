"""Where the cache step asks for what it does not have: other caches first, then the origins."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from atoll.cache.purge import PurgeLog, Verdict, place_of
from atoll.edge.keeping import tags_of
from atoll.edge.origin import Origins
from atoll.edge.tier import CHANGED, PURGE_SEQ, SCHEME, TROUBLE, Answer, Tier
from atoll.edge.visit import Visit
from atoll.http.fields import Headers
from atoll.http.upstream import ResponseReader

_OURS: Final = frozenset((PURGE_SEQ, TROUBLE))
_MAX_CHANGED: Final = 4096


class Fetched(NamedTuple):
    """A response's head, its content to come, and the last purge applied by whoever gave it."""

    reader: ResponseReader
    purge_seq: int


class Behind:
    """`log` has the purges applied here: what a peer gives may be older than they are.

    Each peer that is asked for what was changed through this worker is told of that, once.
    """

    def __init__(self, origins: Callable[[], Origins], tier: Tier | None, log: PurgeLog) -> None:
        self.origins = origins
        self._tier = tier
        self._log = log
        self._changed: OrderedDict[bytes, set[str]] = OrderedDict()  # primary key → which peers know it

    def changed(self, keys: Iterable[bytes]) -> None:
        """What other caches have of these URLs is invalid (RFC 9111 §4.4)."""
        if self._tier is None:
            return
        for key in keys:
            self._changed[key] = set()
            self._changed.move_to_end(key)
        while len(self._changed) > _MAX_CHANGED:
            self._changed.popitem(last=False)

    async def fetch(self, visit: Visit, method: bytes, headers: Headers, key: bytes = b"") -> Fetched:
        """The response to a request that may be answered by a cache; `key`, if there is one, says by whose.

        Raises:
            RemoteError: nobody answered.
        """
        seq = self._log.applied
        exchange, host = visit.exchange, visit.site.host
        if self._tier is not None:
            told = self._changed.get(visit.primary)
            for peer in self._tier.peers(key or visit.primary, visit.route.pool, visit.hop):
                fields = [*headers, (SCHEME, visit.scheme)]
                if told is not None and peer.name not in told:
                    fields.append((CHANGED, b"1"))
                answer = await self._tier.ask(peer, method, exchange.target, host, fields)
                if answer is None:
                    continue
                if told is not None:
                    told.add(peer.name)
                if self._purged(visit, answer):  # the peer has not heard of it yet, or has lost touch
                    answer.reader.cancel()
                    break
                return Fetched(answer.reader, min(seq, answer.purge_seq))
        reader, _ = await self.origins().fetch(
            visit.route.pool, method, exchange.target, host, headers, None, inform=exchange.stream.inform
        )
        reader.headers = [field for field in reader.headers if field[0] not in _OURS]
        return Fetched(reader, seq)

    def _purged(self, visit: Visit, answer: Answer) -> bool:
        """Whether purges that are known here, and not to the peer, concern what it gives."""
        place = place_of(visit.primary, tags_of(answer.reader.headers, visit.site.spec.tenant))
        return self._log.verdict(place, answer.purge_seq) is not Verdict.KEEP
