"""Light load from one city: a few users who ask again and again, each time on a connection of their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import monotonic

import httpx
from live_network import LiveNetwork

USERS = 4


@dataclass
class Outcome:
    """What the users saw."""

    answered: int = 0
    failures: list[str] = field(default_factory=list)
    pops: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, response: httpx.Response, took_s: float) -> None:
        """An answer."""
        self.longest_s = max(self.longest_s, took_s)
        if response.status_code == 200:
            self.answered += 1
            self.pops.append(response.headers["x-edge-location"])
        else:
            self.failures.append(str(response.status_code))
        self.progress.set()

    async def more(self, answers: int) -> None:
        """Wait for that many more answers."""
        wanted = self.answered + answers
        async with asyncio.timeout(30):
            while self.answered < wanted:
                self.progress.clear()
                await self.progress.wait()


@contextlib.asynccontextmanager
async def load(network: LiveNetwork, city: str, path: str = "/") -> AsyncIterator[Outcome]:
    """Users in `city`, for as long as the block runs; they have had answers when it begins and ends.

    `city` may begin with a site's name: `shop.london`.
    """
    outcome, stop = Outcome(), asyncio.Event()
    users = [asyncio.ensure_future(_user(network, city, path, outcome, stop)) for _ in range(USERS)]
    await outcome.more(20)
    yield outcome
    await outcome.more(20)
    stop.set()
    await asyncio.gather(*users)


async def _user(network: LiveNetwork, city: str, path: str, outcome: Outcome, stop: asyncio.Event) -> None:
    headers = {"host": f"{city}.localhost"}
    async with network.client() as client:
        while not stop.is_set():
            began_s = monotonic()
            try:
                outcome.note(await client.get(path, headers=headers), monotonic() - began_s)
            except httpx.HTTPError as error:
                outcome.failures.append(repr(error))
