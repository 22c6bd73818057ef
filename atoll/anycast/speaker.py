"""What a BGP speaker does for Atoll, whichever daemon does it: announce, withdraw, tell, prove.

Drivers (`emulated`, `exabgp`, `bird`) take announcements as values and report what happened as events. A
driver keeps what was asked of it and announces it again whenever its session comes back, so callers state
what should be true and never repeat themselves. A withdrawal is proven: `withdraw` returns only once every
neighbour has confirmed that the route is gone, or has been sent the withdrawal, or once the session over
which it was announced is gone, and says which. A driver never announces what it was not told to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final, Literal, Protocol

import msgspec

from atoll.errors import AtollError

GRACEFUL_SHUTDOWN: Final = "65535:0"
"""RFC 8326: whoever hears it prefers any other path, and keeps using this one until there is one."""

MAX_PREPEND: Final = 16
"""Longer AS paths are filtered by many networks; more prepending moves no traffic."""


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A prefix and the attributes it is announced with."""

    prefix: str
    prepend: int = 0  # how often the own AS is repeated beyond the once it always appears
    med: int = 0
    communities: tuple[str, ...] = ()  # "65535:0"
    large_communities: tuple[str, ...] = ()  # "64512:1:2", RFC 8092
    actions: tuple[str, ...] = ()  # what neighbours are to do, by the names that each has a community for


class SessionUp(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The session with a neighbour is established; what was asked for is being announced."""

    neighbor: str = ""  # its name, where there may be several


class SessionDown(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The session is gone and with it every route announced over it."""

    reason: str
    neighbor: str = ""


class RouteAcknowledged(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The neighbour has taken the route."""

    announcement: Announcement


class RouteWithdrawn(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The route is proven gone."""

    prefix: str


SpeakerEvent = SessionUp | SessionDown | RouteAcknowledged | RouteWithdrawn
OnEvent = Callable[[SpeakerEvent], None]


class WithdrawalProof(msgspec.Struct, frozen=True, kw_only=True):
    """Why a prefix is known to be gone: a neighbour said so, it was told so, or there is no session."""

    prefix: str
    how: Literal["acknowledged", "sent", "no session"]


class Speaker(Protocol):
    """A BGP session, or as many as the driver keeps with its neighbours."""

    @property
    def session_up(self) -> bool:
        """Whether announcements reach anyone now."""

    @property
    def acknowledged(self) -> tuple[Announcement, ...]:
        """What the neighbour has confirmed and still holds, by prefix."""

    async def open(self) -> None:
        """Start; returns at once, the session comes up when it can and `SessionUp` says so."""

    async def close(self) -> None:
        """End the session. Routes still announced go with it."""

    async def hand_over(self, patience_s: float) -> None:
        """End the session so that the routes stay, for up to `patience_s`, until a successor announces them.

        As a restarting speaker does (RFC 4724).

        Raises:
            AtollError: the neighbour keeps no routes without a session.
        """

    async def announce(self, announcement: Announcement) -> None:
        """Announce, replacing what the prefix was announced with; returns when acknowledged.

        Without a session it returns at once: the announcement is kept for when there is one.

        Raises:
            AtollError: not a valid announcement, or the neighbour refused it.
        """

    async def withdraw(self, prefix: str) -> WithdrawalProof:
        """Withdraw, and wait for the proof.

        Raises:
            AtollError: the neighbour neither confirmed nor dropped the session in time.
        """


def checked(announcement: Announcement) -> Announcement:
    """`announcement`, its prefix in canonical form.

    Raises:
        AtollError: an attribute that cannot be put on the wire.
    """
    try:
        prefix = str(ipaddress.ip_network(announcement.prefix))
    except ValueError as error:
        raise AtollError(f"not a prefix: {error}", where="prefix") from None
    if not 0 <= announcement.prepend <= MAX_PREPEND:
        raise AtollError(f"prepend {announcement.prepend}", hint=f"0 to {MAX_PREPEND}", where="prepend")
    if not 0 <= announcement.med < 2**32:
        raise AtollError(f"MED {announcement.med}", hint="0 to 4294967295", where="med")
    for community in announcement.communities:
        _check_community(community, (2**16, 2**16), "communities")
    for community in announcement.large_communities:
        _check_community(community, (2**32, 2**32, 2**32), "large_communities")
    return msgspec.structs.replace(announcement, prefix=prefix)


def _check_community(text: str, bounds: tuple[int, ...], where: str) -> None:
    parts = text.split(":")
    valid = len(parts) == len(bounds) and all(
        part.isascii() and part.isdigit() and int(part) < bound
        for part, bound in zip(parts, bounds, strict=True)
    )
    if not valid:
        example = ":".join(["65535"] * len(bounds))
        raise AtollError(f"not a community: {text!r}", hint=f"such as {example}", where=where)
