"""The Internet of the lab with real routers: a namespace and a BIRD for each AS of a graph.

PoPs' namespaces have no router of ours: there the anycast address is on loopback, the service answers, and
`atoll anycast` speaks BGP to the PoP's neighbours. Users' networks have a user's address.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Final, Self

import msgspec

from atoll.anycast.bird_control import Line
from atoll.anycast.bird_text import established, included
from atoll.anycast.neighbors import Neighbor, Speaking
from atoll.errors import AtollError
from atoll.internet.graph import Graph
from atoll.lab import tools
from atoll.lab.netns import Cable, Netlab
from atoll.lab.router_plan import Router, Timers, configuration, plan, pop_configuration, space
from atoll.lab.routers import Bird

SERVICE_PORT: Final = 7777
UP_S: Final = 60.0
_POLL_S: Final = 0.05

Say = Callable[[str], None]


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A PoP: its name and its AS in the graph."""

    name: str
    asn: int


class User(msgspec.Struct, frozen=True, kw_only=True):
    """Users of a city: their network, its prefix, and an address in it."""

    city: str
    asn: int
    prefix: str
    address: str


class RouterNet:
    """The network, up from `__enter__` to `__exit__`."""

    def __init__(
        self,
        graph: Graph,
        sites: Sequence[Site],
        users: Sequence[User],
        prefix: str,
        address: str,
        timers: Timers,
        say: Say,
    ) -> None:
        self._sites = {site.name: site for site in sites}
        self._users = {user.city: user for user in users}
        self._prefix = prefix
        self._address = address
        self._timers = timers
        self._say = say
        self._graph = graph
        self.routers = plan(graph, {user.asn: (user.prefix,) for user in users})
        self._pops = {site.asn for site in sites}
        self._stack = ExitStack()
        self.birds: dict[int, Bird] = {}
        self.lab = Netlab()
        self.folder = Path()
        self.raised_s = 0.0  # how long namespaces, links and routers took
        self._tools: dict[str, tools.Tool] = {}

    def __enter__(self) -> Self:
        began_s = monotonic()
        try:
            self._raise()
        except BaseException:
            self._stack.close()
            raise
        self.raised_s = monotonic() - began_s
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _raise(self) -> None:
        self._tools = tools.find_tools(["bird"], tools.cache_folder(os.environ), self._say)
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="atoll-lab-")))
        self._stack.enter_context(self.lab)
        for asn in self.routers:
            self.lab.add(space(asn))
        self.lab.wire(_cables(self.routers))
        for user in self._users.values():
            self.lab.batch(space(user.asn), [f"address add {user.address}/32 dev lo"])
        for asn, router in self.routers.items():
            self.lab.run(space(asn), "sh", "-c", _SYSCTL)
            if asn in self._pops:
                self._prepare_pop(router)
            else:
                self._start_bird(router)
        self._say(f"{len(self.birds)} routers, {len(self._graph.links)} links")

    def _start_bird(self, router: Router) -> None:
        text = configuration(router, self._timers, frozenset(self._pops))
        bird = Bird(self.lab, space(router.asn), self.folder / space(router.asn), self._tools, text)
        self._stack.callback(bird.stop)
        self.birds[router.asn] = bird

    def _prepare_pop(self, router: Router) -> None:
        providers = [side for side in router.sides if side.relation == "provider"]
        hops = " ".join(f"nexthop via {side.remote}" for side in providers)
        self.lab.batch(
            space(router.asn), [f"address add {self._address}/32 dev lo", f"route add default {hops}"]
        )

    def site(self, name: str) -> Site:
        """A PoP by its name."""
        return self._sites[name]

    def user(self, city: str) -> User:
        """A city's users."""
        return self._users[city]

    def start(self, asn: int, *module: str, log: Path, **options: object) -> subprocess.Popen[bytes]:
        """A module of Atoll's in an AS's namespace, ended with the network."""
        with log.open("ab") as sink:
            process = self.lab.start(
                space(asn), sys.executable, "-m", *module, **{"stderr": sink, "stdout": sink, **options}
            )
        self._stack.callback(_end, process)
        return process

    def anycast_file(self, site: Site, driver: str) -> str:
        """What `atoll anycast` is told at a PoP."""
        router = self.routers[site.asn]
        timers = self._timers
        lines = [
            f'name = "{site.name}"', f"as = {site.asn}", f'router_id = "{router.router_id}"',
            f'prefixes = ["{self._prefix}"]', "[check]",
            f'tcp = "{self._address}:{SERVICE_PORT}"', "interval_ms = 100",
        ]  # fmt: skip
        bfd = f"bfd = {{ interval_ms = {timers.bfd_interval_ms}, multiplier = {timers.bfd_multiplier} }}"
        for side in router.sides:
            lines += [
                "[[neighbor]]", f'name = "{space(side.asn)}"', f'address = "{side.remote}"',
                f"as = {side.asn}", f'local_address = "{side.local}"', f"hold_time_s = {timers.hold_s}",
            ]  # fmt: skip
            if timers.bfd and driver == "exabgp":
                lines.append(bfd)
        if driver == "bird":
            folder = self.folder / space(site.asn)
            lines += ["[bird]", f'control = "{folder / "bird.ctl"}"', f'include = "{folder / "atoll.conf"}"']
        return "\n".join(lines) + "\n"

    def start_pop_bird(self, site: Site) -> Bird:
        """A PoP's own BIRD, which announces nothing yet."""
        router = self.routers[site.asn]
        folder = self.folder / space(site.asn)
        folder.mkdir(exist_ok=True)
        include = folder / "atoll.conf"
        nothing = Speaking(
            asn=site.asn,
            router_id=router.router_id,
            neighbors=tuple(
                Neighbor(name=space(side.asn), address=side.remote, asn=side.asn, local_address=side.local)
                for side in router.sides
            ),
        )
        include.write_text(included(nothing, ()))
        text = pop_configuration(router, self._timers, str(include))
        bird = Bird(self.lab, space(site.asn), folder, self._tools, text)
        self._stack.callback(bird.stop)
        return bird

    async def settle(self, limit_s: float = UP_S) -> float:
        """Wait until every session between routers is up; how many seconds that took.

        Raises:
            AtollError: it does not come up in time; names a session that is down.
        """
        began_s = monotonic()
        down = ""
        while monotonic() - began_s < limit_s:
            down = await self._down()
            if not down:
                return monotonic() - began_s
            await asyncio.sleep(_POLL_S)
        raise AtollError(f"the lab's routers did not settle within {limit_s:g} s", hint=down)

    async def _down(self) -> str:
        """A session that is not up, among routers; "" if all are."""
        for asn, bird in self.birds.items():
            lines = [Line(1002, text) for text in await bird.ask("show protocols")]
            for name, (up, info) in established(lines).items():
                if not up and int(name.removeprefix("as")) not in self._pops:
                    return f"{space(asn)} with {name}: {info}"
        return ""

    async def paths(self) -> dict[int, tuple[int, ...]]:
        """Each router's chosen AS path to the prefix, itself first, for those that have one."""
        found = {}
        for asn, bird in self.birds.items():
            try:
                lines = await bird.ask(f"show route {self._prefix} primary all")
            except AtollError as error:
                if "Network not" in str(error):
                    continue
                raise
            path = next((line for line in lines if line.startswith("\tBGP.as_path:")), None)
            if path is not None:
                found[asn] = (asn, *map(int, path.partition(":")[2].split()))
        return found


_SYSCTL: Final = (
    "echo 1 > /proc/sys/net/ipv4/ip_forward; "
    "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/default/rp_filter; "
    "echo 1 > /proc/sys/net/ipv4/fib_multipath_hash_policy"
)


def _cables(routers: Mapping[int, Router]) -> list[Cable]:
    return [
        Cable(space(asn), space(side.asn), (f"{side.local}/30",), (f"{side.remote}/30",))
        for asn, router in routers.items()
        for side in router.sides
        if asn < side.asn
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.kill()
    process.wait()
