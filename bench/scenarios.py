"""What is measured, as a table: every metric, what asks for what, and over which protocol. Pure.

`needs` names what a target must be able to do; a target that lacks it is left out of the metric with its
reason. `before` says what has to be in the caches before load begins.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from bench import objects

Tool = Literal["wrk", "h2load", "resume", "paced"]
Order = Literal["one", "zipf", "uniform", "unique", "mix"]

KIB: Final = 1024
MIB: Final = 1024 * 1024
RANGE: Final = (5 * MIB, 6 * MIB)  # of an object of 10 MiB, first byte and the byte after the last


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. Sizes are bytes of a body."""

    name: str
    says: str
    tool: Tool = "wrk"
    tls: bool = False
    order: Order = "one"
    size: int = objects.SIZE
    range: tuple[int, int] | None = None
    connections: int = 64
    close: bool = False  # a connection for each request
    per: Literal["req", "MB", "conn"] = "req"
    warm_s: float = 1.0

    @property
    def needs(self) -> frozenset[str]:
        """What a target must be able to do."""
        found = {"tls"} if self.tls else set()
        if self.tool == "h2load":
            found.add("h2" if self.tls else "h2c")
        if self.range is not None:
            found.add("range")
        if self.order in ("unique", "mix"):
            found.add("store")
        return frozenset(found)

    @property
    def many(self) -> bool:
        """Whether a great number of objects is in the caches before load begins."""
        return self.order in ("zipf", "uniform")

    @property
    def body_bytes(self) -> int:
        """Bytes of an answer's body."""
        return self.size if self.range is None else self.range[1] - self.range[0]


_MANY_S: Final = 6.0  # until every object that will be asked for has been asked for

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario(name="h1", says="one object of 1 KiB"),
        Scenario(name="h1-tls", says="the same over TLS", tls=True),
        Scenario(name="h2c", says="the same over clear HTTP/2", tool="h2load"),
        Scenario(name="h2-tls", says="the same over HTTP/2 and TLS", tool="h2load", tls=True),
        Scenario(name="zipf-h1", says="100,000 objects by Zipf's law", order="zipf", warm_s=_MANY_S),
        Scenario(name="uniform-h1", says="100,000 objects, all alike", order="uniform", warm_s=_MANY_S),
        Scenario(
            name="zipf-h2-tls",
            says="objects by Zipf's law over HTTP/2 and TLS",
            tool="h2load",
            tls=True,
            order="zipf",
            warm_s=_MANY_S,
        ),
        Scenario(name="paced-h1", says="one object at a fixed rate", tool="paced"),
        Scenario(name="miss-h1", says="a new object each time, stored", order="unique"),
        Scenario(name="big-100k", says="100 KiB", size=100 * KIB, per="MB"),
        Scenario(name="big-10m", says="10 MiB", size=10 * MIB, per="MB", connections=16),
        Scenario(
            name="range-1m",
            says="1 MiB out of the middle of 10 MiB",
            size=10 * MIB,
            range=RANGE,
            per="MB",
            connections=16,
        ),
        Scenario(name="big-100k-tls", says="100 KiB over TLS", size=100 * KIB, per="MB", tls=True),
        Scenario(
            name="connect-tls",
            says="a new connection each time, full handshake",
            tls=True,
            close=True,
            per="conn",
        ),
        Scenario(
            name="resume-tls",
            says="a new connection each time, resumed with a ticket",
            tool="resume",
            tls=True,
            close=True,
            per="conn",
        ),
        Scenario(
            name="mix-h1",
            says="1,000,000 objects of all sizes by Zipf's law, a cache that holds few of them",
            order="mix",
        ),
    )
}

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "hit": ("h1", "h1-tls", "h2-tls", "zipf-h1", "uniform-h1", "zipf-h2-tls"),
    "miss": ("miss-h1",),
    "h2": ("h2c", "h2-tls", "zipf-h2-tls"),
    "tls": ("h1-tls", "h2-tls", "connect-tls", "resume-tls"),
    "big": ("big-100k", "big-10m", "range-1m", "big-100k-tls"),
    "mix": ("mix-h1",),
}
"""Command → what it measures unless told otherwise."""
