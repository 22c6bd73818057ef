"""What a worker has the whole network forget: the other caches learn of a write before the writer does.

On routes whose consistency is `strict` or `critical` a change is announced before its response is passed on,
so that nobody who has seen the answer can be served what was before, at whatever PoP. An announcement that
cannot be made costs the write nothing but that promise, and the response says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from atoll.config.purge import Selector
from atoll.edge.keeping import tags_in
from atoll.errors import AtollError
from atoll.http.fields import Headers

Announce = Callable[[tuple[Selector, ...]], Awaitable[None]]
"""Purges everywhere; returns when every PoP has answered or lost its lease. Raises `AtollError`."""

NOT_ANNOUNCED = "other PoPs have not been told"


class Announcer:
    """One worker's way to the network; `announce` is None while there is none."""

    def __init__(self) -> None:
        self.announce: Announce | None = None

    async def changed(self, tenant: str, urls: Iterable[bytes], response: Headers) -> str:
        """A write has changed `urls` (primary keys) and what its response says; "" or what is wrong."""
        if self.announce is None:
            return ""  # alone: there is nobody to tell
        selectors = {
            Selector(kind="url", value=url.partition(b"://")[2].decode("latin-1"), tenant=tenant)
            for url in urls
        }
        selectors |= {
            # As selectors are compared; what is no text is nobody's tag.
            Selector(kind="tag", value=tag.decode(errors="replace"), tenant=tenant)
            for tag in tags_in(response)
        }
        try:
            await self.announce(tuple(selectors))
        except AtollError as error:
            return f"{NOT_ANNOUNCED}: {error.message}"
        return ""
