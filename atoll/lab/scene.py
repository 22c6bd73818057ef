"""The running network as experiments on its caches see it: where users ask, what the origin is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from atoll.errors import RemoteError
from atoll.http.upstream import UpstreamPool, fetch, render_request
from atoll.lab.lab_origin import CONTROL_HOST, Answer, Bump

SITE: Final = "lab"
HOST: Final = "lab.example.com"

_TIMEOUT_S: Final = 10.0
_MAX_REPLY: Final = 32 * 1024 * 1024


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is. `cities` says from where each PoP is asked."""

    gateway: tuple[str, int]
    origin: tuple[str, int]
    cities: Mapping[str, str]
    shield: str  # the PoP that asks the lab's origin for all

    def host_at(self, pop: str) -> bytes:
        """The name of the lab's site for a user of `pop`."""
        return f"{SITE}.{self.cities[pop]}.localhost".encode()


class OriginControl:
    """The experiment's word to the lab's origin. Opened in an event loop; `close` it there."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._pool = UpstreamPool(address)

    def close(self) -> None:
        """Say no more."""
        self._pool.close()

    async def reset(self) -> None:
        """Everything as it was in the beginning: no versions, no counts."""
        await self._say(b"POST", b"/reset")

    async def answers(self, answers: Sequence[Answer]) -> None:
        """What paths with a prefix answer from now on."""
        await self._say(b"PUT", b"/answers", msgspec.json.encode(answers))

    async def bump(self, paths: Sequence[str]) -> dict[str, int]:
        """These paths have a new version; which."""
        said = await self._say(b"POST", b"/bump", msgspec.json.encode(Bump(tuple(paths))))
        return msgspec.json.decode(said, type=dict[str, int])

    async def counts(self) -> dict[str, int]:
        """How often each path was asked for."""
        return msgspec.json.decode(await self._say(b"GET", b"/counts"), type=dict[str, int])

    async def _say(self, method: bytes, path: bytes, body: bytes = b"") -> bytes:
        head = render_request(method, path, CONTROL_HOST, [], None)
        request = head[:-2] + b"Content-Length: %d\r\n\r\n" % len(body) + body
        reader = await fetch(self._pool, request, None, _TIMEOUT_S)
        said = await reader.read_all(_MAX_REPLY)
        if reader.status != 200:
            raise RemoteError(f"the lab's origin: {said.decode('latin-1')}", reader.status)
        return said
