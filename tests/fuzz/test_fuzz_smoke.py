"""A few thousand inputs for every parser, and proof that faults would be noticed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from random import Random

import msgspec
import pytest

from atoll.edge import accept
from atoll.http import h1, h1_reader, h2_messages, upstream_h1, upstream_h2
from atoll.http import h2 as h2_server
from atoll.http.fields import Headers
from atoll.http.h1_request import NO_BODY, Framing
from bench import fuzz
from bench.fuzzing import h1 as fuzzed_h1
from bench.fuzzing.h1 import H1Target
from bench.fuzzing.h2 import H2Target, H2UpstreamTarget
from bench.fuzzing.mutate import Mutator, pieces
from bench.fuzzing.upstream import UpstreamTarget

INPUTS = 20_000


async def test_nothing_is_found_and_everything_is_reached() -> None:
    report = await fuzz.hunt(INPUTS, seed=2)
    assert report.findings == ()
    assert report.inputs >= INPUTS - len(fuzz.SHARES)
    assert {each.target for each in report.targets} == {make.name for make in fuzz.SHARES}
    counts = {each.target: each.counts for each in report.targets}
    assert counts["h1"]["accepted"] > 1000
    assert counts["h1"]["tunnels"] > 10
    assert counts["upstream"]["kept"] > 100
    assert counts["h2"]["accepted"] > 300
    assert counts["h2-upstream"]["answers"] > 100
    assert counts["rules"]["stored"] > 100
    assert counts["prefix"]["PROXY"] > 100


async def findings(target: fuzz.Target, inputs: int = 1500) -> dict[str, fuzz.Finding]:
    run = fuzz.Hunt(target, 3)
    await run.run(inputs)
    return run.findings


def blind_to_coding(headers: Headers, version10: bool, most: int) -> Framing:
    lengths = [value for name, value in headers if name == b"content-length"]
    return Framing(int(lengths[0]), False, False, False) if lengths else NO_BODY


async def test_a_body_that_ends_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h1_reader, "framing", blind_to_coding)
    assert await findings(H1Target())


async def test_a_line_judged_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Anywhere(bytes):
        def lstrip(self, *_: object) -> Anywhere:
            return self

        def startswith(self, line: object, *_: object) -> bool:
            return isinstance(line, bytes) and self.find(line.split(b" ")[0]) >= 0

    def parse(connection: h1.H1Connection, data: bytes) -> None:
        h1_reader.RequestReader._parse(connection, Anywhere(data))

    monkeypatch.setattr(h1.H1Connection, "_parse", parse)
    assert "accepted what h11 refuses" in await findings(H1Target())


async def test_a_host_from_elsewhere_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def believe_host(
        method: bytes, target: bytes, host: bytes | None, *_: bool
    ) -> tuple[bytes, bytes, bytes]:
        return host or b"", target, b""

    monkeypatch.setattr(h1_reader, "where", believe_host)
    found = await findings(H1Target())
    assert any("h11 understands another" in what for what in found)


async def test_a_field_that_holds_another_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def inject(headers: Headers, method: bytes) -> Headers:
        return [*accept.accept_headers(headers, method), (b"x", b"y\r\nContent-Length: 5")]

    monkeypatch.setattr(fuzzed_h1, "accept_headers", inject)
    found = await findings(H1Target())
    assert any(what.startswith("what is sent on") for what in found)


async def test_an_answer_that_leaks_into_the_next_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_h1.H1Upstream, "on_message_begin", lambda self: None)
    assert "a connection is kept with something behind its answer" in await findings(UpstreamTarget(), 4000)


async def test_a_request_inside_a_path_of_http2_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2_server.H2Connection, "_refusal", lambda *_: None)
    found = await findings(H2Target())
    assert any(what.startswith("what is sent on") for what in found)


async def test_an_engine_that_fails_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: h2_server.H2Connection, *_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(h2_server.H2Connection, "_on_data", fail)
    found = await findings(H2Target())
    assert any("the engine fails: ValueError: broken" in what for what in found)


async def test_a_call_without_an_end_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream_h2.H2Upstream, "_leave_all", lambda *_: None)
    assert "a call has 0 ends" in await findings(H2UpstreamTarget())


async def test_an_exception_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(head: bytes, scheme: bytes) -> Headers:
        raise ValueError("broken")

    monkeypatch.setattr(h2_messages, "request_fields", fail)
    found = await findings(H1Target(), 200)
    assert any("ValueError: broken" in what for what in found)


class Hoarder:
    """A target that keeps what it is given."""

    name = "hoarder"

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.kept: list[bytes] = []

    def seeds(self) -> list[bytes]:
        return []

    def make(self, rng: Random) -> bytes:
        return rng.randbytes(60_000)

    def check(self, data: bytes) -> list[str]:
        self.kept.append(data)
        return []


async def test_memory_that_grows_is_noticed() -> None:
    assert set(await findings(Hoarder(), 1000)) == {"memory grows"}


@pytest.mark.parametrize("make", [*fuzz.SHARES])
def test_the_same_seed_makes_the_same_inputs(make: Callable[[], fuzz.Target]) -> None:
    first, second, rng, same = make(), make(), Random(7), Random(7)
    assert [first.make(rng) for _ in range(50)] == [second.make(same) for _ in range(50)]


def test_pieces_are_the_whole() -> None:
    rng = Random(1)
    mutator = Mutator([b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"], [b"x"])
    for _ in range(500):
        data = mutator.make(rng)
        assert b"".join(pieces(data, rng)) == data


def test_the_command_prints_json_and_replays() -> None:
    command = [sys.executable, "-m", "bench.fuzz"]
    done = subprocess.run([*command, "--inputs", "70", "--json"], capture_output=True, check=True)
    assert msgspec.json.decode(done.stdout, type=fuzz.Report).findings == ()
    again = [*command, "--replay", "h1", r"GET / HTTP/1.1\r\nHost: h\r\n\r\n"]
    assert b"nothing found" in subprocess.run(again, capture_output=True, check=True).stdout


def test_an_input_is_replayed_by_itself() -> None:
    report = asyncio.run(fuzz.replay("h1", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"))
    assert report.ok
