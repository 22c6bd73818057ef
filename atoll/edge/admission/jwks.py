"""Fetching published keys (RFC 7517 §5): one question at a time for each endpoint, bounded in time and size.

Whoever waits for keys waits here; `Keyring` decides when they are wanted and takes what comes. A fetch that
fails leaves the keys there are, and says so in the log.
"""

from __future__ import annotations

import asyncio
import logging
from time import time
from typing import TYPE_CHECKING, Final

from atoll.errors import RemoteError

if TYPE_CHECKING:
    from atoll.edge.admission.keyring import Keyring

TIMEOUT_S: Final = 5.0
MAX_DOCUMENT: Final = 256 * 1024  # bytes

_log = logging.getLogger("atoll.edge.admission")


class KeyFetcher:
    """Fetches under way, by keyring."""

    def __init__(self) -> None:
        self._tasks: dict[Keyring, asyncio.Task[None]] = {}

    def fetch(self, ring: Keyring) -> asyncio.Task[None]:
        """The fetch that is under way for `ring`, or a new one. It never fails; wait for it shielded."""
        task = self._tasks.get(ring)
        if task is None:
            ring.tried(time())
            task = self._tasks[ring] = asyncio.ensure_future(_renew(ring))
            task.add_done_callback(lambda _: self._tasks.pop(ring, None))
        return task

    def close(self) -> None:
        """Stop asking."""
        for task in self._tasks.values():
            task.cancel()


async def _renew(ring: Keyring) -> None:
    from atoll.edge.admission.keys import keys_of_set  # cryptography: only for those who check tokens

    try:
        async with asyncio.timeout(TIMEOUT_S):
            document, cache_control = await _get(ring.url)
        ring.fetched(keys_of_set(document), cache_control, time())
    except (RemoteError, TimeoutError) as error:
        _log.warning("keys of %s were not renewed: %s", ring.url, str(error) or "no answer in time")


async def _get(url: str) -> tuple[bytes, list[bytes]]:
    """The document and its `Cache-Control` values.

    Raises:
        RemoteError: there is no good answer.
    """
    import httpx  # a network without token rules does not pay for it

    try:
        # Neither proxies from the environment nor redirects: keys come from where the configuration says.
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
            client.stream("GET", url, headers={"accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise RemoteError(f"the endpoint answered {response.status_code}", 503)
            document = b""
            async for piece in response.aiter_bytes():
                document += piece
                if len(document) > MAX_DOCUMENT:
                    raise RemoteError(f"the key set has more than {MAX_DOCUMENT} bytes", 503)
            lines = [value.encode() for value in response.headers.get_list("cache-control")]
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise RemoteError(str(error) or type(error).__name__, 503) from None
    return document, lines
