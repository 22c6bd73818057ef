"""What the network daemon makes before it starts anything: the effective network and its sockets.

The gateway's and the API's ports are what people know: they are bound as asked or refused. The ports between
PoPs, gateway and origins move when they are taken, and the network's file says where they went.
"""

from __future__ import annotations

import datetime as dt
import socket
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from atoll.config.paths import Endpoints, Paths
from atoll.config.spec import NetworkSpec, OriginSpec, PopSpec
from atoll.control.certificates import ensure_leaves, network_names
from atoll.errors import AtollError
from atoll.node.listeners import free_port, free_ports, listen_public, listen_tcp, port_of
from atoll.node.nats import write_private

HTTP_OPTION: Final = "--http-port"
HTTPS_OPTION: Final = "--https-port"
API_OPTION: Final = "--api-port"
_GATEWAY: Final = "gateway"
_API: Final = "api"
_ORIGIN: Final = "origin"


class Sockets(msgspec.Struct, frozen=True):
    """Every socket of its roles that the daemon holds, by the name the role knows it by."""

    gateway: dict[str, socket.socket]
    api: dict[str, socket.socket]
    origins: dict[str, socket.socket]  # OriginSpec.host

    def export(self) -> dict[str, int]:
        """Their descriptors, for who takes over."""
        kinds = {_GATEWAY: self.gateway, _API: self.api, _ORIGIN: self.origins}
        return {
            f"{kind}/{name}": sock.fileno() for kind, socks in kinds.items() for name, sock in socks.items()
        }

    @staticmethod
    def adopt(handed: Mapping[str, int]) -> Sockets:
        """Those that the code before has left."""

        def of(kind: str) -> dict[str, socket.socket]:
            found = {name.partition("/"): fd for name, fd in handed.items()}
            return {name: socket.socket(fileno=fd) for (start, _, name), fd in found.items() if start == kind}

        return Sockets(gateway=of(_GATEWAY), api=of(_API), origins=of(_ORIGIN))

    @property
    def endpoints(self) -> Endpoints:
        """Where people find the network."""
        gateway = self.gateway
        return Endpoints(
            http=port_of(gateway["http"]), https=port_of(gateway["https"]), api=port_of(self.api["api"])
        )


def bind(wanted: Endpoints, network: NetworkSpec) -> Sockets:
    """The sockets of gateway, API and origins.

    Raises:
        AtollError: a port that people know is taken.
    """
    http = listen_public(wanted.http, HTTP_OPTION)
    https = listen_public(wanted.https, HTTPS_OPTION)
    api = listen_public(wanted.api, API_OPTION)
    return Sockets(
        gateway={
            **{("http6" if ":" in address else "http"): sock for address, sock in http.items()},
            **{("https6" if ":" in address else "https"): sock for address, sock in https.items()},
        },
        api={"api": api["127.0.0.1"]},
        origins={origin.host: _listen_origin(origin) for origin in network.origins},
    )


def _listen_origin(origin: OriginSpec) -> socket.socket:
    parts = urlsplit(origin.url)
    host = parts.hostname or "127.0.0.1"
    return listen_tcp(host, free_port(parts.port or 0, host))


def without_ports(network: NetworkSpec) -> NetworkSpec:
    """`network` with ports that the system chooses: it disturbs no other network of this machine."""
    pops = (msgspec.structs.replace(pop, http_port=0, https_port=0) for pop in network.pops)
    origins = (
        msgspec.structs.replace(origin, url=f"http://{urlsplit(origin.url).hostname}:0")
        for origin in network.origins
    )
    return msgspec.structs.replace(network, pops=tuple(pops), origins=tuple(origins))


def place(network: NetworkSpec, sockets: Sockets) -> NetworkSpec:
    """`network` with the ports that are really used."""
    return msgspec.structs.replace(
        network,
        origins=tuple(_place_origin(origin, sockets.origins[origin.host]) for origin in network.origins),
        pops=_place_pops(network.pops),
    )


def _place_origin(origin: OriginSpec, sock: socket.socket) -> OriginSpec:
    host, port = sock.getsockname()[:2]
    return msgspec.structs.replace(origin, url=f"http://{host}:{port}")


def _place_pops(pops: tuple[PopSpec, ...]) -> tuple[PopSpec, ...]:
    wanted = [(pop.address, port) for pop in pops for port in (pop.http_port, pop.https_port)]
    ports = iter(free_ports(wanted))
    return tuple(
        msgspec.structs.replace(pop, http_port=http, https_port=https)
        for pop, http, https in zip(pops, ports, ports, strict=True)
    )


def renewed(network: NetworkSpec, paths: Paths) -> NetworkSpec:
    """`network`, as newer code wants it, with the ports that the running one uses.

    One that has other PoPs or origins needs sockets that nobody holds: then the running one stays.

    Raises:
        AtollError: the running network's file cannot be read.
    """
    try:
        before = msgspec.json.decode(paths.network_file.read_bytes(), type=NetworkSpec)
    except (OSError, msgspec.MsgspecError) as error:
        raise AtollError(f"the network cannot be read: {error}", where=str(paths.network_file)) from error
    pops = {pop.code: pop for pop in before.pops}
    urls = {origin.host: origin.url for origin in before.origins}
    if set(pops) != {pop.code for pop in network.pops} or set(urls) != {o.host for o in network.origins}:
        return before
    return msgspec.structs.replace(
        network,
        pops=tuple(
            msgspec.structs.replace(
                pop, http_port=pops[pop.code].http_port, https_port=pops[pop.code].https_port
            )
            for pop in network.pops
        ),
        origins=tuple(msgspec.structs.replace(origin, url=urls[origin.host]) for origin in network.origins),
    )


def write(paths: Paths, network: NetworkSpec, endpoints: Endpoints) -> None:
    """The files that roles and the command line read, and certificates for every name."""
    write_private(paths.network_file, msgspec.json.format(msgspec.json.encode(network)))
    write_private(paths.endpoints_file, msgspec.json.encode(endpoints))
    ensure_leaves(paths.ca, network_names(network), dt.datetime.now(dt.UTC))
