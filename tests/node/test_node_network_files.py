from __future__ import annotations

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from atoll.config.paths import Endpoints, resolve
from atoll.config.spec import NetworkSpec
from atoll.errors import AtollError
from atoll.internet.laptop import laptop_network
from atoll.node import network, network_files
from atoll.node.folders import make_folders

ANY = Endpoints(http=0, https=0, api=0)


def close(sockets: network_files.Sockets) -> None:
    for group in (sockets.gateway, sockets.api, sockets.origins):
        for sock in group.values():
            sock.close()


def test_the_network_file_says_where_everything_really_is(tmp_path: Path) -> None:
    paths = resolve({"ATOLL_HOME": str(tmp_path / "home")}, os.getuid())
    make_folders(paths)
    laptop = network_files.without_ports(laptop_network())
    sockets = network_files.bind(ANY, laptop)
    placed = network_files.place(laptop, sockets)
    bound = sockets.endpoints
    network_files.write(paths, placed, bound)
    close(sockets)

    read = msgspec.json.decode(paths.network_file.read_bytes(), type=NetworkSpec)
    assert read == placed
    ports = [urlsplit(origin.url).port for origin in read.origins]
    ports += [port for pop in read.pops for port in (pop.http_port, pop.https_port)]
    assert len(set(ports)) == len(ports)
    assert all(port and port >= 1024 for port in ports)
    endpoints = msgspec.json.decode(paths.endpoints_file.read_bytes(), type=Endpoints)
    assert endpoints == bound
    assert (paths.ca / "leaf/tokyo.localhost.pem").exists()
    assert paths.home.stat().st_mode & 0o777 == 0o700


def test_no_two_sockets_for_one_name() -> None:
    sockets = network_files.bind(ANY, network_files.without_ports(laptop_network()))
    assert {"http", "https"} <= set(sockets.gateway) <= {"http", "http6", "https", "https6"}
    assert sockets.gateway["http"].getsockname()[0] == "127.0.0.1"
    assert list(sockets.api) == ["api"]
    close(sockets)


def test_a_taken_port_is_refused_by_its_own_option() -> None:
    laptop = network_files.without_ports(laptop_network())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = Endpoints(http=0, https=0, api=taken.getsockname()[1])
        with pytest.raises(AtollError, match="--api-port"):
            network_files.bind(wanted, laptop)


def test_ports_asked_for_on_the_command_line() -> None:
    assert network.wanted_endpoints({}) == Endpoints(http=8080, https=8443, api=9440)
    assert network.wanted_endpoints({"http": "81", "latency": "real"}) == Endpoints(
        http=81, https=8443, api=9440
    )


@pytest.mark.parametrize(
    ("host", "name"),
    [("us-origin.example.com", "origin-us"), ("version-a.example.com", "origin-version-a")],
)
def test_origins_are_named_after_their_host(host: str, name: str) -> None:
    assert network.origin_name(host) == name
