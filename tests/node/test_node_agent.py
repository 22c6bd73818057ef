"""A PoP's agent against a real NATS server and a PoP of fakes."""

from __future__ import annotations

import asyncio
import errno
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import nats
import nats.errors
import pytest
import pytest_asyncio
from bundles import tiny
from fake_pop import FakePop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats_server import NatsServer, nats_server
from networks import network, pop

from atoll.config.spec import FunctionSpec, FunctionVersion, Snapshot
from atoll.control import rollout
from atoll.control.store import SPECS_BUCKET, Store
from atoll.node import agent_disk, agent_hosts
from atoll.node.agent import Agent
from atoll.node.role import RoleConfig
from atoll.wire import control as wire

__all__ = ["nats_server"]

pytestmark = pytest.mark.real

LHR = pop("lhr", 0)
NETWORK = network(LHR)


_Body = TypeVar("_Body")


class Bench:
    """One PoP, its agent, and the control plane's end of NATS."""

    def __init__(self, server: NatsServer, home: Path, run: Path) -> None:
        self.server = server
        self.config = RoleConfig(
            role="agent", home=str(home), run=str(run), token="", pop=LHR, nats_url=server.url
        )
        self.home = home
        self.pop = FakePop(LHR, run / "lhr")
        self.receipts: asyncio.Queue[wire.Receipt] = asyncio.Queue()
        self.heartbeats: asyncio.Queue[wire.Heartbeat] = asyncio.Queue()
        self._client: Client | None = None
        self._store: Store | None = None
        self._agent: asyncio.Task[None] | None = None

    @property
    def store(self) -> Store:
        assert self._store is not None
        return self._store

    async def connect(self) -> None:
        """The control plane comes up."""
        self._client = await nats.connect(self.server.url, allow_reconnect=False)
        self._store = await Store.create(self._client)
        await self._client.subscribe(wire.ALL_RECEIPTS, cb=self._into(self.receipts, wire.Receipt))
        await self._client.subscribe(wire.ALL_HEARTBEATS, cb=self._into(self.heartbeats, wire.Heartbeat))
        await self._client.flush()

    def start_agent(self) -> None:
        self._agent = asyncio.ensure_future(Agent(self.config, LHR).run())

    async def stop_agent(self) -> None:
        if self._agent is not None:
            self._agent.cancel()
            with suppress(asyncio.CancelledError):
                await self._agent
            self._agent = None

    async def close(self) -> None:
        await self.stop_agent()
        await self.pop.stop()
        if self._client is not None:
            await self._client.close()

    async def new_version(self, name: str, text: str) -> FunctionVersion:
        """A version whose bundle is in the store."""
        data = tiny(name, text)
        digest = await self.store.put_bundle(data)
        spec = (await self.store.load()).specs.function("default", name)
        return rollout.new_version(spec, digest, len(data), (f"{name}.test/*",), 0.0)

    async def activate(self, name: str, version: FunctionVersion) -> int:
        """What the control plane does to bring a version into service."""
        stored = await self.store.load()
        spec = stored.specs.function("default", name) or FunctionSpec(name=name, active="")
        last = stored.revisions.get(f"fn.default.{name}", 0)
        return await self.store.put_function(rollout.activated(spec, version), last)

    async def deploy(self, name: str, text: str) -> FunctionVersion:
        version = await self.new_version(name, text)
        await self.activate(name, version)
        return version

    async def put_raw(self, key: str, value: bytes) -> None:
        """Something that this version did not write."""
        assert self._client is not None
        await (await self._client.jetstream().key_value(SPECS_BUCKET)).put(key, value)

    async def lose_the_store(self) -> None:
        """JetStream's data is gone, and made anew."""
        assert self._client is not None
        await self._client.jetstream().delete_key_value(SPECS_BUCKET)
        self._store = await Store.create(self._client)

    async def prepare(self, name: str, version: FunctionVersion) -> wire.PrepareReply:
        """Ask the agent, as soon as it listens."""
        request = wire.PrepareRequest(tenant="default", name=name, version=version.id, bundle=version.bundle)
        assert self._client is not None
        for _attempt in range(500):
            with suppress(nats.errors.NoRespondersError):
                reply = await self._client.request(
                    wire.prepare_subject("lhr"), wire.encode(request), timeout=5
                )
                return wire.decode(reply.data, wire.PrepareReply)
            await asyncio.sleep(0.01)
        raise AssertionError("the agent does not listen")

    async def adopt(self, store: str) -> wire.AdoptReply:
        """Have the agent follow the store of that identity."""
        assert self._client is not None
        request = wire.encode(wire.AdoptRequest(store=store))
        reply = await self._client.request(wire.adopt_subject("lhr"), request, timeout=5)
        return wire.decode(reply.data, wire.AdoptReply)

    async def receipt(self, seq: int) -> wire.Receipt:
        """The first receipt for `seq` or later."""
        async with asyncio.timeout(10):
            while True:
                receipt = await self.receipts.get()
                if receipt.seq >= seq:
                    return receipt

    def _into(self, queue: asyncio.Queue[_Body], kind: type[_Body]) -> Callable[[Msg], Awaitable[None]]:
        async def take(message: Msg) -> None:
            queue.put_nowait(wire.decode(message.data, kind))

        return take


@pytest_asyncio.fixture
async def bench(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="atoll-", dir="/tmp") as run:
        bench = Bench(nats_server, tmp_path / "home", Path(run))
        await bench.pop.start()
        yield bench
        await bench.close()


@pytest_asyncio.fixture
async def live(bench: Bench) -> Bench:
    """With a control plane, its network stored, and the agent running."""
    await bench.connect()
    await bench.store.put_network(NETWORK, 0)
    bench.start_agent()
    return bench


def on_disk(bench: Bench) -> Snapshot:
    return msgspec.msgpack.decode((bench.home / "pops/lhr/snapshot.msgpack").read_bytes(), type=Snapshot)


async def test_every_edge_worker_serves_the_network_and_a_receipt_says_so(live: Bench) -> None:
    receipt = await live.receipt(1)
    assert (receipt.pop, receipt.seq) == ("lhr", 1)
    for edge in live.pop.edges:
        assert (edge.latest.seq, edge.latest.network, edge.latest.pop) == (1, NETWORK, LHR)
    assert on_disk(live) == live.pop.edges[0].latest


async def test_preparing_runs_a_host_and_changes_nothing(live: Bench) -> None:
    await live.receipt(1)
    version = await live.new_version("hello", "one")
    reply = await live.prepare("hello", version)
    assert reply.ok
    assert reply.ms > 0
    (order,) = live.pop.supervisor.orders
    assert order.id == f"default.hello.{version.id}"
    assert (Path(order.bundle_dir) / "manifest.json").exists()
    assert live.pop.edges[0].versions() == {}


async def test_a_prepared_version_serves_when_it_is_activated(live: Bench) -> None:
    version = await live.new_version("hello", "one")
    assert (await live.prepare("hello", version)).ok
    seq = await live.activate("hello", version)
    await live.receipt(seq)
    (runtime,) = live.pop.edges[1].latest.functions
    assert (runtime.version, runtime.socket) == (version.id, f"/fn/0/default.hello.{version.id}")
    assert [site.host for site in live.pop.edges[1].latest.network.sites] == ["www.example.com", "hello.test"]
    assert on_disk(live).seq == seq


async def test_a_refusal_comes_back_in_the_runtimes_words(live: Bench) -> None:
    version = await live.new_version("hello", "broken")
    live.pop.supervisor.refused[f"default.hello.{version.id}"] = "Uncaught SyntaxError: Unexpected token"
    reply = await live.prepare("hello", version)
    assert not reply.ok
    assert (reply.message, reply.where) == ("Uncaught SyntaxError: Unexpected token", "index.js:1")


async def test_a_bundle_that_is_not_in_the_store_is_refused(live: Bench) -> None:
    version = FunctionVersion(id="a" * 16, bundle="a" * 64, number=1, created_s=0, size=1)
    reply = await live.prepare("hello", version)
    assert not reply.ok
    assert "no bundle" in reply.message


async def test_a_bundle_that_is_damaged_on_disk_is_fetched_again(live: Bench) -> None:
    version = await live.new_version("hello", "one")
    assert (await live.prepare("hello", version)).ok
    main = live.home / "pops/lhr/bundles" / version.bundle / "index.js"
    whole = main.read_bytes()
    main.write_bytes(b"")  # as a machine may find it that lost its power
    assert (await live.prepare("hello", version)).ok
    assert main.read_bytes() == whole


async def test_a_version_that_cannot_start_is_asked_for_once_at_a_time(live: Bench) -> None:
    version = await live.new_version("hello", "one")
    live.pop.supervisor.refused[f"default.hello.{version.id}"] = "Uncaught Error: no"
    assert not (await live.prepare("hello", version)).ok
    orders = len(live.pop.supervisor.orders)
    assert not (await live.prepare("hello", version)).ok
    assert len(live.pop.supervisor.orders) == orders + 1


async def test_while_a_version_does_not_start_the_one_before_serves_on(live: Bench) -> None:
    first = await live.deploy("hello", "one")
    await live.pop.serves("hello", first.id)
    second = await live.new_version("hello", "two")
    host = f"default.hello.{second.id}"
    live.pop.supervisor.refused[host] = "not yet"
    seq = await live.activate("hello", second)
    await live.pop.edges[0].until(lambda: live.pop.edges[0].latest.seq == seq)
    assert live.pop.edges[0].versions() == {"hello": first.id}
    del live.pop.supervisor.refused[host]
    assert (await live.receipt(seq)).seq == seq
    assert live.pop.edges[0].versions() == {"hello": second.id}


async def test_the_previous_version_stays_warm_and_others_are_stopped(
    live: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_hosts, "UNWANTED_LEASE_S", 0.0)
    versions = [await live.deploy("hello", text) for text in ("one", "two", "three")]
    await live.pop.serves("hello", versions[2].id)
    hosts = [f"default.hello.{version.id}" for version in versions]
    supervisor = live.pop.supervisor
    await supervisor.until(
        lambda: hosts[0] in supervisor.stopped and set(supervisor.running) == set(hosts[1:])
    )
    orders = len(supervisor.orders)
    await live.receipt(await live.activate("hello", versions[1]))
    assert live.pop.edges[0].versions() == {"hello": versions[1].id}
    assert len(supervisor.orders) == orders  # a rollback starts nothing


async def test_a_version_that_is_wanted_again_while_its_host_stops_is_asked_for_anew(
    live: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_hosts, "UNWANTED_LEASE_S", 0.0)
    version = await live.deploy("hello", "one")
    await live.pop.serves("hello", version.id)
    host, supervisor = f"default.hello.{version.id}", live.pop.supervisor
    supervisor.may_stop.clear()
    stored = await live.store.load()
    await live.store.delete_function("default", "hello", stored.revisions["fn.default.hello"])
    await live.receipt(stored.specs.seq + 1)
    await asyncio.wait_for(supervisor.stop_asked.wait(), 10)
    orders = len(supervisor.orders)
    seq = await live.activate("hello", version)
    await supervisor.until(lambda: len(supervisor.orders) > orders)
    supervisor.may_stop.set()
    assert (await live.receipt(seq)).functions == {"default.hello": version.id}
    assert supervisor.orders[-1].id == host
    assert live.pop.edges[0].versions() == {"hello": version.id}


async def test_a_host_that_stops_slowly_holds_up_no_heartbeat(
    live: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_hosts, "UNWANTED_LEASE_S", 0.0)
    version = await live.deploy("hello", "one")
    await live.pop.serves("hello", version.id)
    live.pop.supervisor.may_stop.clear()
    stored = await live.store.load()
    await live.store.delete_function("default", "hello", stored.revisions["fn.default.hello"])
    await asyncio.wait_for(live.pop.supervisor.stop_asked.wait(), 10)
    while not live.heartbeats.empty():
        live.heartbeats.get_nowait()
    async with asyncio.timeout(3):
        await live.heartbeats.get()
        await live.heartbeats.get()
    live.pop.supervisor.may_stop.set()


async def test_a_host_left_by_an_agent_before_is_stopped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_hosts, "UNWANTED_LEASE_S", 0.0)
    bench.pop.supervisor.running["default.gone.v1"] = "/fn/x"
    await bench.connect()
    bench.start_agent()
    await bench.pop.supervisor.until(lambda: bench.pop.supervisor.stopped == ["default.gone.v1"])


async def test_a_function_that_is_removed_is_no_longer_served(live: Bench) -> None:
    version = await live.deploy("hello", "one")
    await live.pop.serves("hello", version.id)
    stored = await live.store.load()
    await live.store.delete_function("default", "hello", stored.revisions["fn.default.hello"])
    await live.receipt(stored.specs.seq + 1)
    assert live.pop.edges[0].versions() == {}
    assert [site.host for site in live.pop.edges[0].latest.network.sites] == ["www.example.com"]


async def test_an_edge_worker_that_restarts_gets_the_snapshot_again(live: Bench) -> None:
    await live.receipt(1)
    edge = live.pop.edges[0]
    await edge.stop()
    seq = await live.activate("hello", await live.new_version("hello", "one"))
    other = live.pop.edges[1]
    await other.until(lambda: other.latest.seq == seq and other.versions() != {})
    assert live.receipts.empty()  # not before every worker serves it
    edge.snapshots.clear()
    await edge.start()
    assert (await live.receipt(seq)).seq == seq
    assert edge.snapshots == [other.latest]


async def test_a_supervisor_that_restarts_is_asked_for_every_host_again(live: Bench) -> None:
    version = await live.deploy("hello", "one")
    await live.pop.serves("hello", version.id)
    supervisor, edge = live.pop.supervisor, live.pop.edges[0]
    await supervisor.stop()
    supervisor.running.clear()
    supervisor.generation = 1
    await supervisor.start()
    await edge.until(lambda: edge.latest.functions[0].socket.startswith("/fn/1/"))


async def test_a_pop_that_was_down_catches_up_by_itself(live: Bench) -> None:
    first = await live.deploy("hello", "one")
    await live.pop.serves("hello", first.id)
    await live.stop_agent()
    await live.pop.stop()
    second = await live.new_version("hello", "two")
    seq = await live.activate("hello", second)
    await live.pop.start()
    live.start_agent()
    assert (await live.receipt(seq)).seq == seq
    assert live.pop.edges[0].versions() == {"hello": second.id}


async def test_it_serves_from_disk_without_nats_and_catches_up_when_it_is_back(live: Bench) -> None:
    first = await live.deploy("hello", "one")
    await live.pop.serves("hello", first.id)
    await live.stop_agent()
    await live.pop.stop()
    await live.server.kill()
    for edge in live.pop.edges:
        edge.snapshots.clear()

    await live.pop.start()
    live.start_agent()
    await live.pop.serves("hello", first.id)
    assert live.pop.edges[0].latest.network.sites[1].host == "hello.test"

    await live.server.start()
    await live.connect()
    second = await live.deploy("hello", "two")
    await live.pop.serves("hello", second.id)


async def test_killing_nats_changes_nothing_and_the_next_change_arrives(live: Bench) -> None:
    first = await live.deploy("hello", "one")
    await live.pop.serves("hello", first.id)
    served = [len(edge.snapshots) for edge in live.pop.edges]
    await live.server.kill()
    await live.server.start()
    await live.connect()
    assert [len(edge.snapshots) for edge in live.pop.edges] == served
    second = await live.new_version("hello", "two")
    assert (await live.prepare("hello", second)).ok
    await live.receipt(await live.activate("hello", second))
    assert live.pop.edges[0].versions() == {"hello": second.id}


async def test_a_first_start_without_nats_serves_the_networks_sites(bench: Bench) -> None:
    await bench.server.kill()
    bench.home.mkdir()
    (bench.home / "network.json").write_bytes(msgspec.json.encode(NETWORK))
    bench.start_agent()
    edge = bench.pop.edges[0]
    await edge.until(lambda: bool(edge.snapshots))
    assert (edge.latest.seq, edge.latest.network) == (0, NETWORK)


async def test_ports_that_moved_count_before_the_control_plane_has_stored_them(live: Bench) -> None:
    await live.receipt(1)
    await live.stop_agent()
    site = msgspec.structs.replace(NETWORK.sites[0], host="moved.example.com")
    moved = msgspec.structs.replace(NETWORK, sites=(site,))
    (live.home / "network.json").write_bytes(msgspec.json.encode(moved))
    edge = live.pop.edges[0]
    served = len(edge.snapshots)
    live.start_agent()
    version = await live.deploy("hello", "one")  # the store still has the network of the run before
    await live.pop.serves("hello", version.id)
    stored = await live.store.load()
    assert stored.specs.network == NETWORK
    await live.store.put_network(msgspec.structs.replace(moved, name="stored"), stored.revisions["network"])
    await edge.until(lambda: edge.latest.network.name == "stored")
    hosts = [snapshot.network.sites[0].host for snapshot in edge.snapshots[served:]]
    assert set(hosts) == {"moved.example.com"}


async def test_ports_that_moved_count_while_the_hosts_start(live: Bench) -> None:
    version = await live.deploy("hello", "one")
    await live.pop.serves("hello", version.id)
    await live.stop_agent()
    live.pop.supervisor.running.clear()
    await live.pop.supervisor.stop()
    live.config = msgspec.structs.replace(live.config, nats_url="nats://127.0.0.1:1")
    moved = msgspec.structs.replace(NETWORK, name="moved")
    (live.home / "network.json").write_bytes(msgspec.json.encode(moved))
    live.start_agent()
    edge = live.pop.edges[0]
    await edge.until(lambda: edge.latest.network.name == "moved")
    assert (edge.versions(), edge.latest.network.sites[1].host) == ({"hello": version.id}, "hello.test")
    assert on_disk(live) == edge.latest


async def test_a_full_disk_takes_nothing_out_of_service(
    live: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await live.receipt(1)
    write = agent_disk._write

    def full(path: Path, _data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(agent_disk, "_write", full)
    version = await live.deploy("hello", "one")
    seq = (await live.store.load()).specs.seq
    assert (await live.receipt(seq)).functions == {"default.hello": version.id}
    assert on_disk(live).functions == ()
    assert sum("cannot be kept on disk" in message for message in caplog.messages) == 1
    monkeypatch.setattr(agent_disk, "_write", write)
    async with asyncio.timeout(5):
        while on_disk(live).functions == ():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_store_that_lost_its_history_replaces_nothing(bench: Bench) -> None:
    """JetStream's data gone: the PoP keeps what it serves rather than serve nothing."""
    await bench.connect()
    network_seq = await bench.store.put_network(NETWORK, 0)
    bench.start_agent()
    version = await bench.deploy("hello", "one")
    await bench.pop.serves("hello", version.id)
    await bench.stop_agent()
    await bench.lose_the_store()
    assert await bench.store.put_network(NETWORK, 0) == network_seq
    served = len(bench.pop.edges[0].snapshots)
    bench.start_agent()
    edge = bench.pop.edges[0]
    await edge.until(lambda: len(edge.snapshots) > served)
    assert (await bench.prepare("hello", version)).ok  # it has read the store by now
    assert edge.versions() == {"hello": version.id}


async def test_a_spec_that_cannot_be_read_takes_nothing_out_of_service(live: Bench) -> None:
    first = await live.deploy("hello", "one")
    await live.pop.serves("hello", first.id)
    await live.put_raw("fn.default.hello", b'{"name": 7}')
    await live.put_raw("fn.default.poison", b"{")
    other = await live.deploy("other", "two")
    await live.pop.serves("other", other.id)
    assert live.pop.edges[0].versions() == {"hello": first.id, "other": other.id}
    await live.stop_agent()
    served = len(live.pop.edges[0].snapshots)
    live.start_agent()
    third = await live.deploy("third", "three")
    await live.pop.serves("third", third.id)
    assert {**live.pop.edges[0].versions()}.keys() == {"hello", "other", "third"}
    assert all("hello" in {f.name for f in s.functions} for s in live.pop.edges[0].snapshots[served:])


async def test_another_store_is_followed_only_when_the_operator_says_so(bench: Bench) -> None:
    """It may count further than the one before: only its identity tells that it is another."""
    await bench.connect()
    await bench.store.identify()
    await bench.store.put_network(NETWORK, 0)
    bench.start_agent()
    version = await bench.deploy("hello", "one")
    await bench.pop.serves("hello", version.id)
    await bench.stop_agent()
    known = (await bench.store.load()).specs

    await bench.lose_the_store()
    await bench.store.identify()
    await bench.store.put_network(NETWORK, 0)
    other = [await bench.deploy("other", f"text {n}") for n in range(4)][-1]
    offered = (await bench.store.load()).specs
    assert offered.seq > known.seq
    bench.start_agent()
    assert (await bench.prepare("other", other)).ok
    while (beat := await bench.heartbeats.get()).store == "":
        pass
    assert (beat.store, beat.functions) == (known.store, {"default.hello": version.id})

    assert await bench.adopt("no such store") == wire.AdoptReply(
        ok=False, message="has not read that store yet"
    )
    assert await bench.adopt(offered.store) == wire.AdoptReply(ok=True)
    await bench.pop.serves("other", other.id)
    receipt = await bench.receipt(offered.seq)
    assert (receipt.store, bench.pop.edges[0].versions()) == (offered.store, {"other": other.id})
    assert await bench.adopt(offered.store) == wire.AdoptReply(ok=True), "twice is no mistake"
    await bench.stop_agent()
    served = len(bench.pop.edges[0].snapshots)
    bench.start_agent()
    edge = bench.pop.edges[0]
    await edge.until(lambda: len(edge.snapshots) > served)
    assert edge.versions() == {"other": other.id}, "it is remembered"


async def test_heartbeats_say_what_is_served(live: Bench) -> None:
    version = await live.deploy("hello", "one")
    await live.pop.serves("hello", version.id)
    async with asyncio.timeout(5):
        while (beat := await live.heartbeats.get()).functions == {}:
            pass
    assert (beat.pop, beat.seq, beat.functions) == ("lhr", 2, {"default.hello": version.id})
    assert [stats.hits for stats in beat.edges] == [5, 5]
