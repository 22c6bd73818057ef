"""The eyeball gateway: `python -m atoll.lab.gateway`, with the emulated Internet in the same process.

It makes a browser on this machine a user anywhere: the name it asks for says the city, the Internet's model
says to which PoP that city's packets go, and the connection is carried there behind a PROXY v2 header with
an address of that city. It works on layer 4 and never ends TLS.

What a route change does to open flows is what anycast does. A flow whose packets now reach another PoP is
reset: because its PoP died or withdrew, because a better one came back, or because prepending moved the city
away. One thing is kinder than the real Internet: while the flow's own PoP announces with GRACEFUL_SHUTDOWN
its flows stay until the route is withdrawn, so that a drain can be watched. A PoP that refuses connections
before the Internet knows that it is gone resets the client, too: nobody else would have got the packet.

With the option `latency=real` every flow has its path's round trip. Resets are not delayed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import socket
import sys
from time import time
from typing import Final

import msgspec
import uvloop

from atoll.config.spec import NetworkSpec
from atoll.errors import AtollError
from atoll.internet.world import default_world
from atoll.lab.flows import ClientSide, Flow, Path
from atoll.lab.hub import Change, Hub, Reach
from atoll.lab.peek import city_of, http_name, tls_name
from atoll.node.role import RoleConfig, inherited_sockets, notify_ready, read_role
from atoll.wire.messages import CatchmentRow

MAX_FLOWS: Final = 20_000
DEFAULT_CITY: Final = "new-york"
BACKLOG: Final = 4096
HTTP: Final = 80
HTTPS: Final = 443
_COMPLAINT_S: Final = 1.0  # unreachable PoPs are told once in this time


class Gateway:
    """Listens for clients, asks the model where they go, resets flows that routes leave behind."""

    def __init__(self, network: NetworkSpec, latency: str = "off", max_flows: int = MAX_FLOWS) -> None:
        self._network = network
        self._real_latency = latency == "real"
        self._max_flows = max_flows
        self._pops = {pop.code: pop for pop in network.pops}
        self._eyeballs = {eyeball.city: eyeball for eyeball in network.eyeballs}
        self._default = DEFAULT_CITY if DEFAULT_CITY in self._eyeballs else next(iter(self._eyeballs))
        self._v4 = Reach({})
        self._v6 = Reach({})
        self._servers: list[asyncio.Server] = []
        self._complained_s = 0.0
        self.flows: set[Flow] = set()

    async def listen(self, sock: socket.socket, service: int) -> None:
        """Take clients of `service` (80 or 443) on `sock`."""
        loop = asyncio.get_running_loop()

        def flow() -> ClientSide:
            return ClientSide(Flow(self, loop, service))

        self._servers.append(await loop.create_server(flow, sock=sock, backlog=BACKLOG))

    def close(self) -> None:
        """Accept no more and reset what is open."""
        for server in self._servers:
            server.close()
        for flow in tuple(self.flows):
            flow.reset()

    def changed(self, change: Change) -> None:
        """Routes have changed: use them, and reset the flows that they leave behind."""
        shifts = _shifts(self._v4, change.v4)
        self._v4, self._v6 = change.v4, change.v6
        stranded = [flow for flow in self.flows if self._is_stranded(flow)]
        for flow in stranded:
            flow.reset()
        _log("route", text=change.event, shifts=shifts, resets=len(stranded))

    def accepted(self, flow: Flow) -> bool:
        """See `Switch.accepted`."""
        if len(self.flows) >= self._max_flows:
            return False
        self.flows.add(flow)
        return True

    def name(self, data: bytes, service: int) -> str | None:
        """See `Switch.name`."""
        return tls_name(data) if service == HTTPS else http_name(data)

    def path(self, name: str, v6: bool, service: int) -> Path | None:
        """See `Switch.path`."""
        city = city_of(name, self._eyeballs, self._default)
        row = (self._v6 if v6 else self._v4).rows.get(city)
        if row is None or not row.pop:
            return None
        return self._path(row, v6, service)

    def _path(self, row: CatchmentRow, v6: bool, service: int) -> Path:
        pop, eyeball = self._pops[row.pop], self._eyeballs[row.city]
        return Path(
            city=row.city,
            pop=row.pop,
            host=pop.address,
            port=pop.https_port if service == HTTPS else pop.http_port,
            source=eyeball.address6 if v6 else eyeball.address4,
            destination=self._network.anycast6 if v6 else self._network.anycast4,
            service=service,
            rtt_s=row.rtt_ms / 1000.0 if self._real_latency else 0.0,
        )

    def ended(self, flow: Flow) -> None:
        """See `Switch.ended`."""
        self.flows.discard(flow)

    def unreachable(self, flow: Flow, error: OSError) -> None:
        """See `Switch.unreachable`."""
        now_s = time()
        if flow.path is not None and now_s - self._complained_s >= _COMPLAINT_S:
            self._complained_s = now_s
            _log("unreachable", pop=flow.path.pop, city=flow.path.city, error=str(error))

    def _is_stranded(self, flow: Flow) -> bool:
        if flow.path is None:
            return False
        reach = self._v6 if flow.v6 else self._v4
        return reach.rows[flow.path.city].pop != flow.path.pop and flow.path.pop not in reach.draining


def _shifts(before: Reach, after: Reach) -> dict[str, str]:
    """City to "old>new", for those that go elsewhere."""
    old = {city: row.pop for city, row in before.rows.items()}
    return {
        city: f"{old.get(city, '')}>{row.pop}"
        for city, row in after.rows.items()
        if old.get(city, "") != row.pop
    }


def _log(event: str, **fields: object) -> None:
    record = {"t": round(time(), 3), "event": event, **fields}
    sys.stdout.write(msgspec.json.encode(record).decode() + "\n")
    sys.stdout.flush()


def read_network(config: RoleConfig) -> NetworkSpec:
    """The network's spec, as the daemon has written it.

    Raises:
        AtollError: it cannot be read.
    """
    path = config.paths.network_file
    try:
        return msgspec.json.decode(path.read_bytes(), type=NetworkSpec)
    except OSError as error:
        raise AtollError(f"no network to serve: {error.strerror}", where=str(path)) from error
    except msgspec.MsgspecError as error:
        raise AtollError(f"not a network: {error}", where=str(path)) from error


def _raise_descriptor_limit() -> None:
    """Each flow needs two; shells often allow 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2 * MAX_FLOWS + 256)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def serve(config: RoleConfig, sockets: dict[str, socket.socket]) -> None:
    """The role, until it is told to stop."""
    network, latency = read_network(config), config.options.get("latency", "off")
    gateway = Gateway(network, latency)
    hub = Hub(default_world().graph, network, gateway.changed, time, latency)
    for name, sock in sockets.items():
        await gateway.listen(sock, HTTPS if name.startswith("https") else HTTP)
    server = await hub.serve(config.paths.internet_socket)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    gc.collect()
    gc.freeze()
    notify_ready()
    await stop.wait()
    gateway.close()
    server.close()


def main() -> None:
    """Entry point."""
    try:
        config = read_role(os.environ)
        _raise_descriptor_limit()
        uvloop.run(serve(config, inherited_sockets(os.environ)))
    except AtollError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
