"""The store over a real NATS server: compare-and-swap, order, integrity, and what outages look like."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import aclosing

import nats
import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats_server import NatsServer, nats_server

from atoll.config.spec import FunctionSpec, NetworkSpec
from atoll.control.link import Link
from atoll.control.specs import Specs
from atoll.control.store import BUNDLES_BUCKET, SPECS_BUCKET, Store
from atoll.errors import AtollError, RemoteError

__all__ = ["nats_server"]

pytestmark = pytest.mark.real

NETWORK = NetworkSpec(
    name="test", prefixes=(), anycast4="", anycast6="", pops=(), eyeballs=(), origins=(), pools=(), sites=(),
    default_site="",
)  # fmt: skip


def function(name: str = "hello", active: str = "v1") -> FunctionSpec:
    return FunctionSpec(name=name, active=active)


@pytest_asyncio.fixture
async def client(nats_server: NatsServer) -> AsyncIterator[Client]:
    connection = await nats.connect(nats_server.url, allow_reconnect=False)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def store(client: Client) -> Store:
    return await Store.create(client)


async def test_what_is_put_is_loaded_with_its_revision(store: Store) -> None:
    network = await store.put_network(NETWORK, 0)
    first = await store.put_function(function("b"), 0)
    second = await store.put_function(function("a"), 0)
    stored = await store.load()
    assert stored.specs.network == NETWORK
    assert [f.name for f in stored.specs.functions] == ["a", "b"]
    assert stored.revisions == {"network": network, "fn.default.b": first, "fn.default.a": second}
    assert stored.specs.seq == second


async def test_what_is_read_while_others_write_is_complete(store: Store) -> None:
    """The library's own mark for `that was all` comes too early now and then."""
    await store.put_network(NETWORK, 0)
    await store.put_function(function("still"), 0)

    async def write(name: str) -> None:
        last = 0
        for number in range(40):
            last = await store.put_function(function(name, f"v{number}"), last)

    async def load() -> None:
        for _ in range(40):
            specs = (await store.load()).specs
            assert specs.network == NETWORK
            assert specs.function("default", "still")

    async def watch() -> None:
        for _ in range(40):
            async with aclosing(store.watch()) as changes:
                specs = await anext(changes)
            assert specs.network == NETWORK
            assert specs.function("default", "still")

    await asyncio.gather(write("a"), write("b"), *(load() for _ in range(5)), watch())


async def test_a_newest_change_that_was_removed_is_not_waited_for(store: Store, client: Client) -> None:
    await store.put_network(NETWORK, 0)
    newest = await store.put_function(function(), 0)
    await client.jetstream().purge_stream(
        f"KV_{SPECS_BUCKET}", subject=f"$KV.{SPECS_BUCKET}.fn.default.hello"
    )
    async with asyncio.timeout(5):
        assert (await store.load()).specs == Specs(seq=newest - 1, network=NETWORK)
        async with aclosing(store.watch()) as watch:
            assert (await anext(watch)).network == NETWORK
    await client.jetstream().purge_stream(f"KV_{SPECS_BUCKET}")
    async with asyncio.timeout(5):
        assert (await store.load()).specs == Specs()


async def test_a_value_that_cannot_be_read_is_named_and_logged_once(
    store: Store, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    await store.put_network(NETWORK, 0)
    kv = await client.jetstream().key_value(SPECS_BUCKET)
    await kv.put("fn.default.poison", b"{")
    for _ in range(2):
        stored = await store.load()
    async with aclosing(store.watch()) as watch:
        specs = await anext(watch)
    assert specs == stored.specs
    assert (specs.network, specs.unreadable) == (NETWORK, ("fn.default.poison",))
    (line,) = caplog.messages
    assert line.startswith("fn.default.poison (revision 2) cannot be read")


async def test_a_store_gets_one_identity_and_keeps_it(store: Store, client: Client) -> None:
    await asyncio.gather(store.identify(), (await Store.create(client)).identify())
    first = (await store.load()).specs.store
    await store.identify()
    assert len(first) == 16
    assert (await store.load()).specs.store == first


async def test_an_empty_store_loads_as_nothing(store: Store) -> None:
    stored = await store.load()
    assert (stored.specs.seq, stored.specs.network, stored.revisions) == (0, None, {})


async def test_of_two_changes_from_one_revision_one_wins(store: Store) -> None:
    last = await store.put_function(function(active="v1"), 0)
    results = await asyncio.gather(
        *(store.put_function(function(active=f"v{n}"), last) for n in range(2, 7)), return_exceptions=True
    )
    assert sum(isinstance(result, int) for result in results) == 1
    losers = [result for result in results if isinstance(result, RemoteError)]
    assert [loser.status for loser in losers] == [409] * 4
    assert "changed by someone else" in losers[0].message


async def test_a_function_that_exists_is_not_created_twice(store: Store) -> None:
    await store.put_function(function(), 0)
    with pytest.raises(RemoteError) as raised:
        await store.put_function(function(), 0)
    assert raised.value.status == 409


async def test_deleting_needs_the_revision_and_the_name_can_be_used_again(store: Store) -> None:
    last = await store.put_function(function(), 0)
    with pytest.raises(RemoteError):
        await store.delete_function("default", "hello", last + 1)
    await store.delete_function("default", "hello", last)
    gone = await store.load()
    assert gone.specs.functions == ()
    assert gone.specs.seq == gone.revisions["fn.default.hello"] > last
    assert (
        await store.put_function(function(active="v9"), gone.revisions["fn.default.hello"]) > gone.specs.seq
    )


async def test_a_watch_gives_the_whole_set_then_every_change_in_order(store: Store) -> None:
    await store.put_network(NETWORK, 0)
    last = await store.put_function(function(active="v1"), 0)
    async with aclosing(store.watch()) as watch, asyncio.timeout(5):
        assert (await anext(watch)).functions == (function(active="v1"),)
        updated = await store.put_function(function(active="v2"), last)
        seen = await anext(watch)
        assert (seen.seq, seen.functions) == (updated, (function(active="v2"),))
        await store.delete_function("default", "hello", updated)
        seen = await anext(watch)
        assert (seen.functions, seen.network) == ((), NETWORK)
        assert seen.seq > updated


@pytest.mark.parametrize("size", [0, 1, 128 * 1024, 700_001])
async def test_bundles_are_named_by_their_content(store: Store, size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    digest = await store.put_bundle(data)
    assert digest == hashlib.sha256(data).hexdigest()
    assert await store.put_bundle(data) == digest
    assert await store.get_bundle(digest) == data


async def test_a_bundle_with_another_content_is_refused(store: Store, client: Client) -> None:
    digest = await store.put_bundle(b"what was deployed")
    objects = await client.jetstream().object_store(BUNDLES_BUCKET)
    await objects.put(digest, b"what someone put there")
    with pytest.raises(AtollError, match="damaged"):
        await store.get_bundle(digest)


async def test_a_bundle_that_is_not_there(store: Store) -> None:
    with pytest.raises(RemoteError, match="no bundle abcdef") as raised:
        await store.get_bundle("abcdef" * 10)
    assert raised.value.status == 404
    digest = await store.put_bundle(b"x")
    await store.delete_bundle(digest)
    await store.delete_bundle(digest)
    with pytest.raises(RemoteError, match="no bundle"):
        await store.get_bundle(digest)


async def test_opening_needs_the_control_plane_to_have_been_there(client: Client) -> None:
    with pytest.raises(RemoteError) as raised:
        await Store.open(client)
    assert raised.value.status == 503


async def test_specs_survive_sigkill_of_the_server(nats_server: NatsServer, store: Store) -> None:
    last = await store.put_function(function(), 0)
    await nats_server.kill()
    with pytest.raises(RemoteError) as raised:
        await store.load()
    assert raised.value.status == 503
    await nats_server.start()
    client = await nats.connect(nats_server.url)
    try:
        assert (await (await Store.open(client)).load()).revisions == {"fn.default.hello": last}
    finally:
        await client.close()


async def test_a_link_ends_whenever_it_is_told_to(nats_server: NatsServer) -> None:
    """Also in the middle of connecting, where the client library loses a cancellation."""

    async def session(_client: Client) -> None:
        await asyncio.Event().wait()

    for turns in range(0, 80, 2):
        running = asyncio.ensure_future(Link(nats_server.url, "test").run(session))
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        _, late = await asyncio.wait({running}, timeout=5)
        assert not late, turns


async def test_a_link_opens_a_session_again_and_tells_of_each_outage_once(nats_server: NatsServer) -> None:
    sessions: asyncio.Queue[Client] = asyncio.Queue()
    outages: list[str] = []
    link = Link(nats_server.url, "test")

    async def session(client: Client) -> None:
        link.settled()
        sessions.put_nowait(client)
        await asyncio.Event().wait()

    await nats_server.kill()
    running = asyncio.ensure_future(link.run(session, outages.append))
    async with asyncio.timeout(15):
        with pytest.raises(RemoteError) as raised:
            _ = link.client
        assert raised.value.status == 503
        await nats_server.start()
        assert await sessions.get() is link.client
        await nats_server.kill()
        await nats_server.start()
        assert await sessions.get() is link.client
    running.cancel()
    assert len(outages) in (1, 2)  # the first attempt may have found the server already back


async def test_a_session_that_breaks_is_a_session_that_ends(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    outages: list[str] = []
    again = asyncio.Event()
    link = Link(nats_server.url, "test")

    async def session(_client: Client) -> None:
        if outages:
            again.set()
            await asyncio.Event().wait()
        raise ValueError("a mistake of ours")

    running = asyncio.ensure_future(link.run(session, outages.append))
    await asyncio.wait_for(again.wait(), 5)
    running.cancel()
    assert outages == ["ValueError: a mistake of ours"]
    assert "the session broke" in caplog.messages
