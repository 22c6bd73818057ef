"""Who is measured beside Atoll, by name: what each needs, and how it is started.

A peer that cannot be had or does not start is left out with the reason, never the end of a run. `bare` is no
peer but the bound: see `bench.bare`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.lab import tools
from atoll.lab.tools import Tool
from bench import machine
from bench.bare import PEM_VARIABLE
from bench.haproxy import HAProxy
from bench.machine import SERVER_CORE
from bench.targets import CACHE_BYTES, Nginx, Started, Target
from bench.trafficserver import TrafficServer
from bench.varnish import Varnish

BARE: Final = "bare"
PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    "nginx": ("nginx",),
    "varnish": ("varnishd", "varnishncsa"),
    "ats": ("traffic_server",),
    "haproxy": ("haproxy",),
    BARE: (),
}
"""Peer → the programs it consists of."""

VERSION_FLAGS: Final = {
    "nginx": "-v",
    "varnishd": "-V",
    "varnishncsa": "-V",
    "traffic_server": "-V",
    "haproxy": "-v",
}

Say = Callable[[str], None]


class Place(msgspec.Struct, frozen=True):
    """What a peer is started with."""

    tools: Mapping[str, Tool]
    folder: Path
    origin_port: int
    pem: Path
    cache_bytes: int = CACHE_BYTES


class BareLoop:
    """The bare loop on a core of its own turn."""

    name = BARE
    h2c_port = 0
    lacks: Mapping[str, str] = {
        "h2": "the bare loop speaks HTTP/1.1",
        "h2c": "the bare loop speaks HTTP/1.1",
        "range": "the bare loop answers no ranges",
        "store": "the bare loop stores nothing",
    }

    def __init__(self, place: Place) -> None:
        log = place.folder / "bare.log"
        env = {PEM_VARIABLE: str(place.pem)}
        self._started = Started(SERVER_CORE, "bench.bare", log, ("http", "https"), env)
        self.http_port, self.https_port = (self._started.ports[name] for name in ("http", "https"))

    def pids(self) -> Sequence[int]:
        """See `Target.pids`."""
        return [self._started.process.pid]

    def stop(self) -> None:
        """See `Target.stop`."""
        self._started.stop()


_STARTS: Final[Mapping[str, Callable[[Place], Target]]] = {
    "nginx": lambda at: Nginx(at.tools["nginx"], at.folder / "nginx", at.origin_port, at.pem, at.cache_bytes),
    "varnish": lambda at: Varnish(at.tools, at.folder / "varnish", at.origin_port, at.cache_bytes),
    "ats": lambda at: TrafficServer(
        at.tools["traffic_server"], at.folder / "ats", at.origin_port, at.pem, at.cache_bytes
    ),
    "haproxy": lambda at: HAProxy(
        at.tools["haproxy"], at.folder / "haproxy", at.origin_port, at.pem, at.cache_bytes
    ),
    BARE: BareLoop,
}


class Found(msgspec.Struct, frozen=True):
    """The peers' programs, by name, and why others are left out."""

    tools: dict[str, Tool]
    left_out: dict[str, str]


def find(names: Sequence[str], cache: Path, say: Say) -> Found:
    """The programs of every peer that can be had here.

    Raises:
        AtollError: a name is not one of a peer.
    """
    found = Found({}, {})
    for name in names:
        if name not in PROGRAMS:
            raise AtollError(f"{name!r} is no peer known here", hint=f"there are: {', '.join(PROGRAMS)}")
        try:
            found.tools.update(tools.find_tools(PROGRAMS[name], cache, say))
        except AtollError as error:
            _leave_out(found, name, error, say)
    return found


def start(names: Sequence[str], found: Found, place: Place, say: Say, stack: ExitStack) -> Iterator[Target]:
    """Every peer that starts; they are ended with `stack`."""
    for name in names:
        if name in found.left_out:
            continue
        try:
            target = _STARTS[name](place)
        except AtollError as error:
            _leave_out(found, name, error, say)
            continue
        stack.callback(target.stop)
        machine.pin(target.pids(), SERVER_CORE)
        yield target


def _leave_out(found: Found, name: str, error: AtollError, say: Say) -> None:
    why = f"{error.message} ({error.hint})" if error.hint else error.message
    found.left_out[name] = why
    say(f"{name}: left out: {why}")
