"""Where the cache step asks for what it does not have: other caches first, then the origins."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from atoll.edge.origin import Origins
from atoll.edge.tier import PURGE_SEQ, SCHEME, TROUBLE, Tier
from atoll.edge.visit import Visit
from atoll.http.fields import Headers
from atoll.http.upstream import ResponseReader

_OURS = frozenset((PURGE_SEQ, TROUBLE))


class Fetched(NamedTuple):
    """A response's head, its content to come, and the last purge applied by whoever gave it."""

    reader: ResponseReader
    purge_seq: int


class Behind:
    """`applied` is the number of the last purge applied here."""

    def __init__(self, origins: Callable[[], Origins], tier: Tier | None, applied: Callable[[], int]) -> None:
        self.origins = origins
        self._tier = tier
        self._applied = applied

    async def fetch(self, visit: Visit, method: bytes, headers: Headers, key: bytes = b"") -> Fetched:
        """The response to a request that may be answered by a cache; `key`, if there is one, says by whose.

        Raises:
            RemoteError: nobody answered.
        """
        seq = self._applied()
        exchange, host = visit.exchange, visit.site.host
        if self._tier is not None:
            for peer in self._tier.peers(key or visit.primary, visit.route.pool, visit.hop):
                fields = [*headers, (SCHEME, visit.scheme)]
                answer = await self._tier.ask(peer, method, exchange.target, host, fields)
                if answer is not None:
                    return Fetched(answer.reader, min(seq, answer.purge_seq))
        reader, _ = await self.origins().fetch(
            visit.route.pool, method, exchange.target, host, headers, None, inform=exchange.stream.inform
        )
        reader.headers = [field for field in reader.headers if field[0] not in _OURS]
        return Fetched(reader, seq)
