"""The way to the API: whom it asks, and what it makes of an answer that is nothing of ours."""

from __future__ import annotations

import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from atoll.cli.client import Client, segment
from atoll.config.paths import Endpoints, Paths
from atoll.control.answers import Health
from atoll.errors import AtollError, RemoteError
from atoll.node import lock


class Service(HTTPServer):
    """Answers every GET with `body`; remembers paths and tokens."""

    body = b""
    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard: list[tuple[str, str | None]] = []


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_GET(self) -> None:
        self.server.heard.append((self.path, self.headers.get("authorization")))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, service: Service) -> Paths:
    """A network that ran once: its port is somebody else's now."""
    paths = Paths(home=tmp_path, run=tmp_path, token=tmp_path / "token")
    paths.endpoints_file.write_bytes(msgspec.json.encode(Endpoints(api=service.server_address[1])))
    paths.token.write_text("secret\n")
    return paths


@pytest.fixture
def running(home: Paths) -> Paths:
    assert lock.acquire(home.lock_file, lock.Holder(pid=os.getpid(), started_s=0.0))
    return home


def test_without_a_running_network_nobody_gets_the_token(home: Paths, service: Service) -> None:
    with pytest.raises(AtollError, match="no network is running"):
        Client(home)
    assert service.heard == []


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"ok": 1}'])
def test_an_answer_that_is_nothing_of_ours_is_a_sentence(
    running: Paths, service: Service, body: bytes
) -> None:
    service.body = body
    with Client(running) as client, pytest.raises(AtollError, match="nothing of ours"):
        client.get("/v1/health", Health)


def test_answers_and_problems(running: Paths, service: Service) -> None:
    service.body = b'{"ok": true, "store": false}'
    with Client(running) as client:
        assert client.get("/v1/health", Health) == Health(ok=True, store=False)
        service.status, service.body = 409, b'{"message": "no", "hint": "yes"}'
        with pytest.raises(RemoteError, match="no") as raised:
            client.get("/v1/health", Health)
        service.body = b"<html>"
        with pytest.raises(RemoteError, match="answered 409"):
            client.get("/v1/health", Health)
    assert (raised.value.status, raised.value.hint) == (409, "yes")
    assert set(service.heard) == {("/v1/health", "Bearer secret")}


@pytest.mark.parametrize(
    ("name", "path"),
    [("a", "/a"), ("a/b", "/a%2Fb"), ("a?b#c", "/a%3Fb%23c"), ("\x00\x1b", "/%00%1B"), ("é", "/%C3%A9")],
)
def test_any_name_is_one_part_of_a_path(running: Paths, service: Service, name: str, path: str) -> None:
    service.body = b'{"ok": true, "store": false}'
    with Client(running) as client:
        client.get(f"/{segment(name)}", Health)
        with pytest.raises(AtollError, match="no name of anything here"):
            client.get("/\x00", Health)
    assert [asked for asked, _ in service.heard] == [path]
