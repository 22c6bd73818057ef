"""A PoP's namespace and a neighbour's with a real BIRD in it, a link between them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from atoll.errors import AtollError
from atoll.lab import tools
from atoll.lab.netns import Netlab
from atoll.lab.routers import Bird

LIMIT_S = 15.0
Routes = dict[str, dict[str, str]]

NEIGHBOR = """\
router id 10.0.0.2;
protocol device {{}}
{bfd}
protocol bgp pop {{
  local 10.0.0.2 as 64600;
  neighbor 10.0.0.1 as 64512;
  passive; {more}
  error wait time 1, 2;  # after an error BIRD takes no session for a minute by default
  ipv4 {{ import all; export none; }};
  ipv6 {{ import all; export none; }};
}}
"""


class Isp:
    """The neighbour."""

    def __init__(self, bird: Bird) -> None:
        self.bird = bird

    async def routes(self) -> Routes:
        """What it has from us, with the attributes that BGP gave it."""
        found: Routes = {}
        try:
            lines = await self.bird.ask("show route protocol pop all")
        except AtollError as error:
            if "Network not" in str(error):  # its word for: none
                return {}
            raise
        for line in lines:
            if line[:1].isdigit():
                prefix = line.split()[0]
                found[prefix] = {}
            elif line.startswith("\tBGP."):
                name, _, value = line.strip().partition(": ")
                found[prefix][name.removeprefix("BGP.")] = value
        return found

    async def until(self, wanted: Callable[[Routes], bool]) -> Routes:
        """Wait for it to have what it should."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                routes = await self.routes()
                if wanted(routes):
                    return routes
                await asyncio.sleep(0.01)


@contextmanager
def pop_and_isp(folder: Path, more: str = "", bfd: str = "") -> Iterator[tuple[Netlab, Isp]]:
    """`pop` (10.0.0.1, fd00::1) and `isp` (10.0.0.2, fd00::2)."""
    found = tools.find_tools(["bird"], tools.cache_folder(os.environ), print)
    with ExitStack() as stack:
        lab = stack.enter_context(Netlab())
        lab.add("pop")
        lab.add("isp")
        lab.link("pop", "isp", ["10.0.0.1/30", "fd00::1/64"], ["10.0.0.2/30", "fd00::2/64"])
        bird = Bird(lab, "isp", folder / "isp", found, NEIGHBOR.format(more=more, bfd=bfd))
        stack.callback(bird.stop)
        yield lab, Isp(bird)
