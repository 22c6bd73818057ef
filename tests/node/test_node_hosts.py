"""A PoP's function hosts, with real workerd."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from bundles import tiny
from function_hosts import ask

from atoll.config.spec import BundleManifest
from atoll.errors import AtollError
from atoll.functions.workers import bundle
from atoll.node.hosts import Hosts
from atoll.node.listeners import listen_unix
from atoll.wire.messages import EnsureHost

pytestmark = pytest.mark.real

ID = "default.hello.0123456789abcdef"
MANIFEST = BundleManifest(name="slow", main="slow.js", syntax="modules", compatibility_date="2026-11-01")
SLOW = b"""export default { async fetch() {
  await new Promise((done) => setTimeout(done, 400));
  return new Response("slow");
} }"""


@pytest.fixture
def order(tmp_path: Path) -> EnsureHost:
    bundle.unpack(tiny("hello", "hello"), tmp_path / "bundle")
    return EnsureHost(id=ID, bundle_dir=str(tmp_path / "bundle"))


@pytest.fixture
def run() -> Iterator[Path]:
    """A short path: sockets go there."""
    with tempfile.TemporaryDirectory(prefix="atoll-") as folder, listen_unix(Path(folder) / "bindings.sock"):
        yield Path(folder)


@pytest.fixture
async def hosts(run: Path, tmp_path: Path) -> AsyncIterator[Hosts]:
    found = Hosts(run, tmp_path / "logs", "lhr")
    yield found
    await found.stop_all()


async def test_asking_twice_answers_for_one_host(hosts: Hosts, order: EnsureHost, tmp_path: Path) -> None:
    first, second = await asyncio.gather(hosts.ensure(order), hosts.ensure(order))
    assert first == second == await hosts.ensure(order)
    assert 0 < first.start_ms < 10_000
    answer = await ask(Path(first.socket))
    assert answer is not None
    assert answer.body == b"hello"
    assert [info.name for info in hosts.infos()] == [f"fn:{ID}"]
    assert [path.name for path in hosts.logs()] == ["lhr-fn-hello-0123456789abcdef.log"]


async def test_a_stopped_host_is_gone_and_can_be_asked_for_again(hosts: Hosts, order: EnsureHost) -> None:
    first = await hosts.ensure(order)
    await hosts.stop(ID, 0.2)
    await hosts.stop(ID, 0.2)
    assert not psutil.pid_exists(first.pid)
    assert not os.path.exists(first.socket)
    assert hosts.infos() == ()
    assert (await hosts.ensure(order)).pid != first.pid


async def test_a_host_that_is_wanted_again_while_it_stops_comes_back_and_stays(
    hosts: Hosts, tmp_path: Path
) -> None:
    bundle.unpack(bundle.pack(MANIFEST, {"slow.js": SLOW}), tmp_path / "slow")
    order = EnsureHost(id=ID, bundle_dir=str(tmp_path / "slow"))
    first = await hosts.ensure(order)
    answering = asyncio.ensure_future(ask(Path(first.socket)))
    await asyncio.sleep(0.1)  # until it answers: nothing outside can tell
    stopping = asyncio.ensure_future(hosts.stop(ID, 2.0))
    await asyncio.sleep(0)
    second = await hosts.ensure(order)
    await stopping
    answer = await answering
    assert answer is not None
    assert (second.socket, answer.body) == (first.socket, b"slow")
    assert second.pid != first.pid
    assert [info.pid for info in hosts.infos()] == [second.pid]
    again = await ask(Path(second.socket))
    assert again is not None
    assert again.status == 200


async def test_the_last_order_counts(hosts: Hosts, order: EnsureHost) -> None:
    orders = [hosts.ensure(order), hosts.stop(ID, 0.2), hosts.ensure(order), hosts.stop(ID, 0.2)]
    await asyncio.gather(*orders)
    assert hosts.infos() == ()
    await asyncio.gather(hosts.stop(ID, 0.2), hosts.ensure(order))
    assert [info.state for info in hosts.infos()] == ["ready"]


async def test_stopping_everything_waits_for_what_stops(hosts: Hosts, order: EnsureHost) -> None:
    pid = (await hosts.ensure(order)).pid
    stopping = asyncio.ensure_future(hosts.stop(ID, 0.2))
    await asyncio.sleep(0.01)
    await hosts.stop_all()
    assert not psutil.pid_exists(pid)
    await stopping


async def test_a_host_that_does_not_start_leaves_nothing_behind(
    hosts: Hosts, order: EnsureHost, run: Path
) -> None:
    (Path(order.bundle_dir) / "index.js").write_text("export default {")
    with pytest.raises(AtollError, match="SyntaxError"):
        await hosts.ensure(order)
    assert hosts.infos() == ()
    assert list((run / "fn").iterdir()) == []


async def test_stopping_everything_waits_for_what_starts(hosts: Hosts, order: EnsureHost) -> None:
    starting = asyncio.ensure_future(hosts.ensure(order))
    await asyncio.sleep(0)
    await hosts.stop_all()
    assert not psutil.pid_exists((await starting).pid)


async def test_killing_by_a_name_that_is_none_lists_those_there_are(hosts: Hosts, order: EnsureHost) -> None:
    await hosts.ensure(order)
    with pytest.raises(AtollError) as caught:
        hosts.kill("fn:default.other.1")
    assert f"fn:{ID}" in caught.value.hint
