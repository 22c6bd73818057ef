"""An origin as a real process under uvicorn: starts, says so, serves, leaves when told."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import psutil
import pytest

from atoll.errors import AtollError
from atoll.internet.laptop import LAB_ORIGIN, laptop_network
from atoll.lab.shop.landing import VERSIONS
from atoll.lab.shop.server import PLACES, build_app
from atoll.node.role import FDS_VARIABLE, READY_VARIABLE, ROLE_VARIABLE, RoleConfig

MEMORY_MB = 40


class Running:
    """An origin process and where it listens."""

    def __init__(self, home: Path, host: str) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        ready, writing = os.pipe()
        config = RoleConfig(role="origin", home=str(home), run=str(home), token="", options={"origin": host})
        env = os.environ | {
            ROLE_VARIABLE: msgspec.json.encode(config).decode(),
            FDS_VARIABLE: json.dumps({"http": self.socket.fileno()}),
            READY_VARIABLE: str(writing),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "atoll.lab.origin"],
            env=env,
            pass_fds=(self.socket.fileno(), writing),
            stderr=subprocess.PIPE,
        )
        os.close(writing)
        self.notified = os.read(ready, 1)
        os.close(ready)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=10)
        self.socket.close()


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("home"), "eu-origin.example.com")
    yield running
    running.stop()


@pytest.mark.real
def test_serves_when_it_says_so(origin: Running) -> None:
    assert origin.notified == b"1"
    answer = httpx.get(f"{origin.url}/health")
    assert answer.json() == {"ok": True, "origin": "eu-origin.example.com", "region": "EU"}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.real
def test_keeps_connections_open_and_speaks_of_its_region(origin: Running) -> None:
    with httpx.Client(base_url=origin.url) as client:
        first, second = client.get("/"), client.get("/api/products")
    assert first.headers["x-origin-region"] == second.headers["x-origin-region"] == "EU"
    assert "connection" not in second.headers


@pytest.mark.real
def test_takes_orders_in_a_database_that_lasts(tmp_path: Path) -> None:
    running = Running(tmp_path, "us-origin.example.com")
    taken = httpx.post(f"{running.url}/api/orders", json={"items": [{"product": "sea-chart"}]})
    running.stop()
    running = Running(tmp_path, "us-origin.example.com")
    again = httpx.get(running.url + taken.headers["location"])
    running.stop()
    assert taken.status_code == 201
    assert again.json() == taken.json()
    assert (tmp_path / "origins/us-origin.example.com/shop.sqlite").is_file()


@pytest.mark.real
def test_is_small(origin: Running) -> None:
    assert psutil.Process(origin.process.pid).memory_info().rss < MEMORY_MB * 1024 * 1024


@pytest.mark.real
def test_malformed_requests_get_400(origin: Running) -> None:
    with socket.create_connection(origin.socket.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nno colon here\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 400")


def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(AtollError, match=r"us-origin\.example\.com"):
        build_app("mars-origin.example.com", tmp_path)


def test_every_origin_of_the_laptop_network_can_be_played() -> None:
    wanted = {origin.host: origin.region for origin in laptop_network().origins}
    assert wanted.keys() == PLACES.keys() | VERSIONS.keys() | {LAB_ORIGIN}
    assert all(wanted[place.host] == place.region for place in PLACES.values())
