"""The lab's origin as a real process: it says what it is told to, and counts what it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import msgspec
import psutil
import pytest
import pytest_asyncio

from atoll.errors import RemoteError
from atoll.internet.laptop import LAB_ORIGIN
from atoll.lab import lab_origin
from atoll.lab.content import check
from atoll.lab.lab_origin import Answer, LabOrigin
from atoll.lab.reader import Reader
from atoll.lab.scene import HOST, OriginControl
from atoll.node.role import FDS_VARIABLE, READY_VARIABLE, ROLE_VARIABLE, RoleConfig

pytestmark = pytest.mark.real
MEMORY_MB = 32  # of which the interpreter's own pages are shared with others


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    home = str(tmp_path_factory.mktemp("home"))
    listening = socket.create_server(("127.0.0.1", 0))
    ready, writing = os.pipe()
    config = RoleConfig(role="origin", home=home, run=home, token="", options={"origin": LAB_ORIGIN})
    env = os.environ | {
        ROLE_VARIABLE: msgspec.json.encode(config).decode(),
        FDS_VARIABLE: json.dumps({"http": listening.fileno()}),
        READY_VARIABLE: str(writing),
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "atoll.lab.origin"], env=env, pass_fds=(listening.fileno(), writing)
    )
    os.close(writing)
    assert os.read(ready, 1) == b"1"
    os.close(ready)
    yield running, listening.getsockname()[1]
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 0
    listening.close()


@pytest_asyncio.fixture
async def origin(process: tuple[subprocess.Popen[bytes], int]) -> AsyncIterator[tuple[Reader, OriginControl]]:
    address = ("127.0.0.1", process[1])
    reader, control = Reader(address, HOST.encode()), OriginControl(address)
    await control.reset()
    yield reader, control
    reader.close()
    control.close()


Origin = tuple[Reader, OriginControl]


async def test_a_path_has_the_version_it_was_given(origin: Origin) -> None:
    reader, control = origin
    before = await reader.get("/a")
    assert await control.bump(["/a", "/b"]) == {"/a": 1, "/b": 1}
    after = await reader.get("/a?x=1")
    assert (check("/a", before.body), check("/a", after.body)) == (0, 1)
    assert await control.counts() == {"/a": 2}
    assert before.text(b"etag") != after.text(b"etag")


async def test_the_longest_prefix_says_what_is_answered(origin: Origin) -> None:
    reader, control = origin
    short = Answer(prefix="/x/", cache_control="no-store", tags=(), size=5000)
    long = Answer(prefix="/x/y/", status=503, fields={"retry-after": "7", "content-type": ""})
    await control.answers([short, long])
    first, second, other = [await reader.get(path) for path in ("/x/a", "/x/y/a", "/z/a")]
    assert (first.status, first.text(b"cache-control"), len(first.body)) == (200, "no-store", 5000)
    assert b"cache-tag" not in first.fields
    assert (second.status, second.text(b"retry-after"), second.text(b"content-type")) == (503, "7", "")
    assert (other.status, other.text(b"cache-tag")) == (200, "lab,lab-a")


async def test_conditions_heads_and_other_methods(origin: Origin) -> None:
    reader, control = origin
    etag = (await reader.get("/a")).fields[b"etag"]
    known = await reader.get("/a", [(b"If-None-Match", etag)])
    assert (known.status, known.body) == (304, b"")
    await control.bump(["/a"])
    assert (await reader.get("/a", [(b"If-None-Match", etag)])).status == 200


async def test_it_takes_its_time_where_it_is_told_to(origin: Origin) -> None:
    reader, control = origin
    await control.answers(
        [Answer(prefix="/late", delay_ms=60), Answer(prefix="/slow", spread_ms=80, size=9000)]
    )
    late, slow = await reader.get("/late"), await reader.get("/slow")
    assert late.took_ms >= 60
    assert slow.took_ms >= 70
    assert check("/slow", slow.body) == 0


async def test_a_version_is_that_of_the_moment_when_the_request_came(origin: Origin) -> None:
    reader, control = origin
    await control.answers([Answer(prefix="/late", delay_ms=100)])
    asking = asyncio.ensure_future(reader.get("/late"))
    while "/late" not in await control.counts():
        pass
    await control.bump(["/late"])
    assert check("/late", (await asking).body) == 0


async def test_what_is_said_to_its_public_name_controls_nothing(origin: Origin) -> None:
    reader, _ = origin
    assert check("/counts", (await reader.get("/counts")).body) == 0


async def test_what_is_no_request_is_refused(process: tuple[subprocess.Popen[bytes], int]) -> None:
    for nonsense in (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"\r\n\r\n", b"GET " + b"a" * 40_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", process[1])
        writer.write(nonsense)
        assert (await reader.read(12)).startswith(b"HTTP/1.1 4")
        writer.close()


def test_it_is_small_and_idle(process: tuple[subprocess.Popen[bytes], int]) -> None:
    running = psutil.Process(process[0].pid)
    assert running.memory_info().rss < MEMORY_MB * 1024 * 1024
    assert running.num_threads() == 1


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", b"", 404),
        ("POST", "/bump", b"{", 400),
        ("POST", "/bump", b'{"paths": [1]}', 400),
        ("PUT", "/answers", b'[{"size": 100000000}]', 413),
        ("PUT", "/answers", b"[" + b",".join([b"{}"] * 300) + b"]", 413),
    ],
)
def test_words_that_mean_nothing_are_refused(method: str, path: str, body: bytes, status: int) -> None:
    with pytest.raises(RemoteError) as refused:
        LabOrigin().control(method, path, body)
    assert refused.value.status == status


def test_paths_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_origin, "MAX_PATHS", 3)
    origin = LabOrigin()
    assert [origin.counted(path) for path in ("/a", "/b", "/c", "/d", "/a")] == [0] * 5
    assert json.loads(origin.control("GET", "/counts", b"")) == {"/a": 2, "/b": 1, "/c": 1}
    for _ in range(2):
        origin.control("POST", "/bump", b'{"paths": ["/a", "/x", "/y"]}')  # whatever has been counted
    with pytest.raises(RemoteError, match="more than 3"):
        origin.control("POST", "/bump", b'{"paths": ["/z"]}')
    origin.control("POST", "/reset", b"")
    assert origin.control("POST", "/bump", b'{"paths": ["/x"]}') == b'{"/x":1}'
