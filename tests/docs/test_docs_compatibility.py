"""docs/compatibility.md says of wrangler fields what `atoll deploy` does, and names tests that exist."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from pathlib import Path

import msgspec
import pytest

from atoll.cache.store import Store
from atoll.config import wrangler
from atoll.config.spec import FunctionRuntime, RouteSpec, SiteSpec, Snapshot
from atoll.config.wrangler_fields import SUPPORTED, UNSUPPORTED
from atoll.edge.clock import Clock
from atoll.edge.log import AccessLog
from atoll.edge.pipeline import Edge, PublicApp
from atoll.errors import AtollError
from atoll.http import proxy_protocol
from atoll.http.accept import Listener
from atoll.internet.laptop import laptop_network

ROOT = Path(__file__).parents[2]
TEST = re.compile(r"`(?P<file>tests/[\w/]+\.py)::(?P<name>\w+)`")
FUNCTION = re.compile(r"^ *(?:async )?def (\w+)\(", re.MULTILINE)
FORGED = (
    b"GET /a?b HTTP/1.1\r\nHost: tokyo.localhost:8080\r\nAccept: text/html\r\nCF-Connecting-IP: 10.0.0.1\r\n"
    b"X-Real-IP: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.1\r\nCF-IPCountry: XX\r\nAtoll-Backend: evil\r\n\r\n"
)
REQUIRED = 'name = "a"\nmain = "a.js"\ncompatibility_date = "2026-11-01"\n'


def page() -> str:
    return (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")


def table(heading: str) -> dict[str, str]:
    """The rows of the table of two columns under a heading; a field's name and the rest."""
    section = page().partition(f"### {heading}\n")[2].partition("\n## ")[0].partition("\n### ")[0]
    return dict(re.findall(r"^\| `(\S+)` \| (.+) \|$", section, re.MULTILINE))


def test_the_fields_that_work_are_all_there() -> None:
    assert tuple(table("Fields that work")) == SUPPORTED


def test_the_fields_that_are_refused_are_all_there_with_their_reasons() -> None:
    assert table("Fields that are refused") == UNSUPPORTED


@pytest.mark.parametrize("field", UNSUPPORTED)
def test_a_refused_field_is_refused_by_its_line(field: str) -> None:
    with pytest.raises(AtollError) as refusal:
        wrangler.parse("wrangler.toml", f"{REQUIRED}{field} = 1\n")
    assert refusal.value.where == "wrangler.toml:4"
    assert refusal.value.hint == UNSUPPORTED[field]


def test_what_works_is_read() -> None:
    text = (
        f'"$schema" = "x"\n{REQUIRED}compatibility_flags = ["nodejs_compat"]\n'
        'routes = ["www.example.com/*", { pattern = "a.example.com", custom_domain = true }]\n'
        '[vars]\nTEXT = "a"\nNUMBER = 1\n'
    )
    project = wrangler.parse("wrangler.toml", text)
    assert project.routes == ("www.example.com/*", "a.example.com/*")
    assert project.vars == {"TEXT": "a", "NUMBER": 1}
    assert project.compatibility_flags == ("nodejs_compat",)
    assert wrangler.parse("wrangler.toml", f'{REQUIRED}route = "a.b/c"\n').routes == ("a.b/c",)


def test_every_row_of_the_runtime_names_a_test() -> None:
    runtime = page().partition("## The runtime\n")[2].partition("## Not offered yet")[0]
    rows = [line for line in runtime.splitlines() if line.startswith("| ")]
    without = [row for row in rows if not TEST.search(row) and not row.startswith("| what |")]
    assert not without


def test_the_tests_named_exist() -> None:
    named = {(found["file"], found["name"]) for found in TEST.finditer(page())}
    assert len(named) > 30
    gone = [f"{file}::{name}" for file, name in sorted(named) if name not in names_in(ROOT / file)]
    assert not gone


def names_in(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return set(FUNCTION.findall(path.read_text(encoding="utf-8")))


async def told(home: Path) -> tuple[str, dict[str, str]]:
    """What a function host gets of a request of a user in Tokyo that forges what only the edge may set."""
    told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.set_result(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    server = await asyncio.start_unix_server(host, path=str(home / "fn.sock"))
    network = laptop_network()
    site = SiteSpec(name="www", host="www.example.com", routes=(RouteSpec(path="/*", function="echo"),))
    snapshot = Snapshot(
        seq=1,
        pop=next(pop for pop in network.pops if pop.code == "nrt"),
        network=msgspec.structs.replace(network, sites=(site,), origins=(), pools=()),
        functions=(FunctionRuntime(name="echo", version="1" * 16, socket=str(home / "fn.sock")),),
    )
    clock = Clock()
    log = AccessLog(home / "access.log", clock)
    edge = Edge(snapshot, log, Store(1024 * 1024), clock)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    port = sock.getsockname()[1]
    listener = Listener(PublicApp(edge), sock)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(proxy_protocol.build("198.18.10.10", 4711, "192.0.2.1", 80) + FORGED)
    try:
        return _head(await asyncio.wait_for(told, 5))
    finally:
        writer.close()
        listener.close()
        edge.origins.close()
        log.close()
        server.close()


def _head(data: bytes) -> tuple[str, dict[str, str]]:
    line, *lines = data.decode().split("\r\n")
    return line, {name.lower(): value for name, _, value in (text.partition(": ") for text in lines if text)}


async def test_what_a_function_is_told_of_a_request(tmp_path: Path) -> None:
    line, fields = await told(tmp_path)
    assert line == "GET /a?b HTTP/1.1"
    assert fields["host"] == "www.example.com"
    assert fields["accept"] == "text/html"
    assert fields["cf-connecting-ip"] == fields["x-real-ip"] == "198.18.10.10"
    assert fields["cf-ipcountry"] == "JP"
    assert json.loads(fields["cf-blob"]) == {
        "colo": "NRT",
        "country": "JP",
        "continent": "AS",
        "city": "Tokyo",
        "asn": 2527,
        "latitude": "35.6762",
        "longitude": "139.6503",
        "httpProtocol": "HTTP/1.1",
        "tlsVersion": "",
    }
    assert "10.0.0.1" not in fields.values()
    assert not [name for name in fields if name.startswith("atoll-")]
