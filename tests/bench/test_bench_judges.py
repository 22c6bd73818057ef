"""`bench.autobahn` and `bench.h2spec`: what the suites report, in numbers."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path

import pytest

from atoll.errors import AtollError
from bench import acme, autobahn, h2spec, wstest
from bench.machine import describe
from bench.websocket_bridge import Bridge

JUNIT = b"""<?xml version="1.0"?><testsuites>
<testsuite package="http2/5.1"><testcase package="http2/5.1"/><testcase package="http2/5.1">
<failure>GOAWAY</failure></testcase></testsuite>
<testsuite package="http2/3.5"><testcase package="http2/3.5"/><testcase package="http2/3.5">
<error>closed</error></testcase></testsuite></testsuites>"""


def test_the_suite_s_words_become_numbers() -> None:
    said = {
        "atoll": {
            "2.10": {"behavior": "FAILED", "behaviorClose": "OK"},
            "1.1.1": {"behavior": "OK", "behaviorClose": "OK"},
            "6.4.1": {"behavior": "NON-STRICT", "behaviorClose": "OK"},
            "7.1.6": {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"},
            "2.9": {"behavior": "OK", "behaviorClose": "UNCLEAN"},
        }
    }
    found = wstest.verdicts(json.dumps(said).encode())
    assert found == {"atoll": wstest.Verdict(passed=3, strict=2, total=5, failed=("2.9", "2.10"))}


@pytest.mark.parametrize(("failed", "ok"), [((), True), (("7.1.5",), True), (("7.1.5", "1.1.1"), False)])
def test_a_proxy_answers_for_what_fails_through_it_alone(failed: tuple[str, ...], ok: bool) -> None:
    report = autobahn.Report(
        machine=describe(),
        cases=("*",),
        verdicts={
            "direct": wstest.Verdict(passed=9, strict=9, total=10, failed=("7.1.5",)),
            "atoll": wstest.Verdict(passed=10 - len(failed), strict=8, total=10, failed=failed),
            "nginx": wstest.Verdict(passed=0, strict=0, total=10, failed=("1.1.1",)),
        },
        left_out={},
    )
    assert report.ok == ok


def test_h2spec_s_report_becomes_numbers() -> None:
    assert h2spec.verdict(JUNIT) == h2spec.Verdict(passed=2, total=4, failed=("http2/5.1/2", "http2/3.5/2"))


@pytest.mark.parametrize(("failed", "ok"), [((), True), (("http2/3.5/2",), True), (("http2/5.1/2",), False)])
def test_a_port_of_two_versions_may_answer_what_is_no_preface(failed: tuple[str, ...], ok: bool) -> None:
    verdict = h2spec.Verdict(passed=4 - len(failed), total=4, failed=failed)
    assert h2spec.Report(machine=describe(), verdicts={"atoll/h2c": verdict}, left_out={}).ok == ok


def test_what_is_not_to_be_had_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wstest, "_python", lambda: None)
    with pytest.raises(AtollError, match=r"needs Python 2\.7"):
        wstest.find(tmp_path)
    monkeypatch.setattr(acme, "go_tool", lambda: "")
    with pytest.raises(AtollError, match="built with Go"):
        h2spec.binary(tmp_path)


def test_the_edge_before_the_suite_asks_no_health() -> None:
    network = autobahn.snapshot(4711).network
    assert [site.host for site in network.sites] == ["*"]
    assert [(origin.url, origin.health_path) for origin in network.origins] == [("http://127.0.0.1:4711", "")]


async def test_the_bridge_says_when_there_is_no_extended_connect() -> None:
    async def plain_http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        settings = struct.pack(">HI", 3, 100)
        writer.write(len(settings).to_bytes(3, "big") + b"\4\0\0\0\0\0" + settings)
        await reader.read()

    async def bridged(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Bridge((reader, writer), await asyncio.open_connection(*address)).run()
        writer.close()

    server = await asyncio.start_server(plain_http2, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    bridge = await asyncio.start_server(bridged, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*bridge.sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    assert (await asyncio.wait_for(reader.readline(), 5)).startswith(b"HTTP/1.1 501 ")
    writer.close()
    bridge.close()
    server.close()
