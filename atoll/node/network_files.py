"""What the network daemon makes before it starts anything: the effective network and its sockets.

The gateway's and the API's ports are what people know: they are bound as asked or refused. The ports between
PoPs, gateway and origins move when they are taken, and the network's file says where they went.
"""

from __future__ import annotations

import datetime as dt
import socket
from typing import Final
from urllib.parse import urlsplit

import msgspec

from atoll.config.paths import Endpoints, Paths
from atoll.config.spec import NetworkSpec, OriginSpec, PopSpec
from atoll.control.certificates import ensure_leaves, network_names
from atoll.node.listeners import free_port, free_ports, listen_public, listen_tcp, port_of
from atoll.node.nats import write_private

HTTP_OPTION: Final = "--http-port"
HTTPS_OPTION: Final = "--https-port"
API_OPTION: Final = "--api-port"


class Sockets(msgspec.Struct, frozen=True):
    """Every socket the daemon holds, by the name the role that inherits it knows it by."""

    gateway: dict[str, socket.socket]
    api: dict[str, socket.socket]
    origins: dict[str, socket.socket]  # OriginSpec.host

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


def write(paths: Paths, network: NetworkSpec, endpoints: Endpoints) -> None:
    """The files that roles and the command line read, and certificates for every name."""
    write_private(paths.network_file, msgspec.json.format(msgspec.json.encode(network)))
    write_private(paths.endpoints_file, msgspec.json.encode(endpoints))
    ensure_leaves(paths.ca, network_names(network), dt.datetime.now(dt.UTC))
