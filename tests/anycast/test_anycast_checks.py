"""Checks of any service, against real sockets and real commands."""

import asyncio
import socket
import sys

import pytest

from atoll.anycast.checks import Checks
from atoll.anycast.config_file import CheckTable
from atoll.anycast.health import Verdict
from atoll.errors import AtollError


async def test_http_asks_for_the_path_of_the_host() -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 503 No\r\n\r\n" if b"/bad" in asked[-1] else b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    good = await Checks(CheckTable(http=f"http://127.0.0.1:{port}/a?b=c", host="x.example")).look()
    bad = await Checks(CheckTable(http=f"http://127.0.0.1:{port}/bad")).look()
    server.close()
    assert good.verdict is Verdict.PASS
    assert asked[0].startswith(b"GET /a?b=c HTTP/1.1\r\nHost: x.example\r\n")
    assert (bad.verdict, bad.detail) == (Verdict.WRONG, "status 503")
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in asked[1]


async def test_tcp_connects() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        refused = await Checks(CheckTable(tcp=address)).look()
        listening.listen()
        taken = await Checks(CheckTable(tcp=address)).look()
    assert refused.verdict is Verdict.REFUSED
    assert taken.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("code", "timeout_ms", "verdict", "detail"),
    [
        ("", 20_000, Verdict.PASS, "exit code 0"),
        (
            "import sys; sys.stderr.write('no zone'); sys.exit(2)",
            20_000,
            Verdict.WRONG,
            "exit code 2 no zone",
        ),
        ("import time; time.sleep(60)", 300, Verdict.SILENT, "the check did not end within 0.3 s"),
    ],
)
async def test_a_command_says_by_its_exit_code(
    code: str, timeout_ms: int, verdict: Verdict, detail: str
) -> None:
    found = await Checks(CheckTable(command=(sys.executable, "-c", code), timeout_ms=timeout_ms)).look()
    assert (found.verdict, found.detail) == (verdict, detail)


async def test_a_command_that_is_not_there_is_the_operators_mistake() -> None:
    with pytest.raises(AtollError, match="the check cannot be run"):
        await Checks(CheckTable(command=("/nonexistent/check",))).look()
