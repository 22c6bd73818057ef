"""A connection to NATS that always comes back, as a series of sessions.

A session starts from nothing: it subscribes and reads the whole state, so after any outage a PoP is current
as soon as it is connected (a JetStream consumer that recovers by itself takes seconds). Retries wait with
full jitter, so that a hundred PoPs do not come back in step.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Final, Never

import nats
import nats.errors
from nats.aio.client import Client

from atoll.errors import AtollError, RemoteError

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 1.0
CONNECT_TIMEOUT_S: Final = 2
PING_INTERVAL_S: Final = 2  # with two outstanding: a silent server is left after 6 s

_log = logging.getLogger("atoll.link")

Session = Callable[[Client], Awaitable[None]]


class Link:
    """Keeps one session after another alive on `url`; `client` is the present one."""

    def __init__(self, url: str, name: str) -> None:
        self._url = url
        self._name = name
        self._client: Client | None = None
        self._failing = False

    @property
    def connected(self) -> bool:
        """Whether a session is open."""
        return self._client is not None

    @property
    def client(self) -> Client:
        """The present connection.

        Raises:
            RemoteError: there is none.
        """
        if self._client is None:
            raise RemoteError("NATS is not reachable", 503, "it restarts by itself; see `atoll logs nats`")
        return self._client

    async def run(self, session: Session, lost: Callable[[str], None] = lambda _reason: None) -> Never:
        """Run `session` on every connection; `lost(reason)` once per outage, its start included."""
        wait_s = FIRST_WAIT_S
        while True:
            reason = await self._once(session)
            if self._failing:
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            else:
                wait_s, self._failing = FIRST_WAIT_S, True
                lost(reason)
            await asyncio.sleep(random.uniform(0.02, wait_s))  # noqa: S311

    async def _once(self, session: Session) -> str:
        """Connect and run one session; why it ended."""
        closed = asyncio.Event()
        try:
            client = await _connect(self._url, self._name, closed)
        except (OSError, nats.errors.Error, TimeoutError) as error:
            return str(error) or type(error).__name__
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # The client library loses a cancellation that comes while it connects.
            await client.close()
            raise asyncio.CancelledError
        self._client = client
        try:
            return await self._until_closed(session(client), closed)
        finally:
            self._client = None
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.close()

    async def _until_closed(self, session: Awaitable[None], closed: asyncio.Event) -> str:
        work = asyncio.ensure_future(session)
        gone = asyncio.ensure_future(closed.wait())
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                return "the connection is closed"
            work.result()
            return "the session ended"
        except (nats.errors.Error, AtollError, OSError, TimeoutError) as error:
            return str(error) or type(error).__name__
        except Exception as error:  # noqa: BLE001 - a connection's edge: the next session starts from nothing
            _log.exception("the session broke")
            return f"{type(error).__name__}: {error}"
        finally:
            gone.cancel()
            work.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def settled(self) -> None:
        """A session calls this once it is of use: the next failure starts a new outage."""
        self._failing = False


async def _connect(url: str, name: str, closed: asyncio.Event) -> Client:
    async def on_closed() -> None:
        closed.set()

    async def on_error(error: Exception) -> None:
        _log.debug("NATS: %s", error)

    return await nats.connect(
        url,
        name=name,
        allow_reconnect=False,
        connect_timeout=CONNECT_TIMEOUT_S,
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=2,
        closed_cb=on_closed,
        error_cb=on_error,
    )
