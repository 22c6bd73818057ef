"""`atoll serve`'s parts: where it listens, what it serves, how workers hear of purges, what it counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from atoll.cache.purge import PurgeLog
from atoll.config.policy import Surroundings
from atoll.config.purge import Selector
from atoll.config.spec import ANYWHERE, OriginSpec, Policy, PoolSpec, RouteSpec, SiteSpec
from atoll.edge.routing import compile_table
from atoll.edge.soundness import require_sound
from atoll.errors import AtollError, RemoteError
from atoll.node.policy_file import find_secret, read_policy, read_secret
from atoll.node.serve_admin import Report, metrics
from atoll.node.serve_plan import POOL, Listen, Plan, local_pop, parse_listen, snapshot_of, surroundings
from atoll.node.serve_purges import LocalPurges
from atoll.node.serve_sockets import WorkerSockets, listen_admin
from atoll.wire import frames
from atoll.wire.messages import EdgeStats, Message, PurgeState, PurgeUpdate

ALL = ("0.0.0.0", "::")
LOOPBACK = ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("text", "scheme", "addresses", "port"),
    [
        ("127.0.0.1:8000", "http", ("127.0.0.1",), 8000),
        ("[::1]:8000", "http", ("::1",), 8000),
        (":8000", "http", ALL, 8000),
        ("*:8000", "http", ALL, 8000),
        ("8000", "http", ALL, 8000),
        ("localhost:0", "http", LOOPBACK, 0),
        ("https://:443", "https", ALL, 443),
        ("http://127.0.0.1:80/", "http", ("127.0.0.1",), 80),
    ],
)
def test_places_to_listen(text: str, scheme: str, addresses: tuple[str, ...], port: int) -> None:
    found = parse_listen(text, "http")
    assert (found.scheme, found.addresses, found.port) == (scheme, addresses, port)


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "example.com:80", "::1:80", "ftp://:21", "1.2.3:80"],
)
def test_no_places_to_listen(text: str) -> None:
    with pytest.raises(AtollError) as caught:
        parse_listen(text, "http")
    assert "127.0.0.1:8000" in caught.value.hint


def test_where_it_listens_is_said_as_a_url() -> None:
    assert str(parse_listen(":80", "http")) == "http://*:80"
    assert str(parse_listen("[::1]:443", "https")) == "https://[::1]:443"


def test_without_a_scheme_it_is_what_the_certificate_says() -> None:
    assert parse_listen(":443", "https").scheme == "https"


def test_every_worker_has_sockets_on_the_same_ports() -> None:
    plan = Plan(
        listen=(parse_listen("localhost:0", "http"), parse_listen("127.0.0.1:0", "https")),
        workers=3,
        http3=True,
    )
    sockets = WorkerSockets(plan)
    try:
        http, https = sockets.listen
        assert sockets.https_port == https.port
        for worker in sockets.sets[:3]:
            ports = {name: sock.getsockname()[1] for name, sock in worker.items()}
            assert ports["http"] == http.port
            assert ports["https"] == https.port
            assert all(port == http.port for name, port in ports.items() if name.startswith("http."))
        assert sockets.sets[3]["quic"].getsockname()[1] == https.port
        with pytest.raises(AtollError, match=f"port {http.port} is in use"):
            WorkerSockets(Plan(listen=(Listen("http", ("127.0.0.1",), http.port),), workers=2))
    finally:
        sockets.close()


def test_counters_are_told_on_loopback_alone() -> None:
    for text in (":0", "0.0.0.0:0", "192.0.2.1:0"):
        with pytest.raises(AtollError, match="this machine only"):
            listen_admin(text)


# --- what is served

PLAN = Plan(listen=(), origins=("http://127.0.0.1:9000",))


def hosts(plan: Plan, policy: Policy) -> dict[str, str]:
    """Each site's host and the pool of its first route."""
    snapshot = snapshot_of(plan, policy, local_pop(plan, 0), 1)
    require_sound(snapshot.network)
    compile_table(snapshot)
    return {site.host: site.routes[0].pool for site in snapshot.network.sites}


def test_one_origin_serves_every_host() -> None:
    assert hosts(PLAN, Policy()) == {ANYWHERE: POOL}
    assert surroundings(PLAN) == Surroundings(
        pools=(POOL,), origins=["127.0.0.1:9000"], pool=POOL, functions=False
    )


def test_a_policys_sites_come_before_every_other_host() -> None:
    site = SiteSpec(name="a", host="a.example", routes=(RouteSpec(pool=POOL),))
    assert hosts(PLAN, Policy(sites=(site,))) == {"a.example": POOL, ANYWHERE: POOL}
    named = SiteSpec(name="anywhere", host="b.example", routes=(RouteSpec(pool=POOL),))
    assert hosts(PLAN, Policy(sites=(named,))) == {"b.example": POOL, ANYWHERE: POOL}


def test_without_an_origin_only_the_policys_sites_are_served() -> None:
    pool = PoolSpec(name="p", origins=("o",))
    origin = OriginSpec(host="o", url="http://127.0.0.1:1")
    site = SiteSpec(name="a", host="a.example", routes=(RouteSpec(pool="p"),))
    policy = Policy(sites=(site,), pools=(pool,), origins=(origin,))
    assert hosts(Plan(listen=()), policy) == {"a.example": "p"}
    with pytest.raises(AtollError, match="nothing to serve"):
        hosts(Plan(listen=()), Policy(pools=(pool,), origins=(origin,)))


def test_a_policy_may_not_have_a_pool_of_the_command_lines_name() -> None:
    with pytest.raises(AtollError, match="two pools are called origin"):
        hosts(PLAN, Policy(pools=(PoolSpec(name=POOL, origins=("127.0.0.1:9000",)),)))


def test_the_command_lines_origins_are_as_the_policy_says_where_it_names_them() -> None:
    heavy = OriginSpec(host="127.0.0.1:9000", url="http://127.0.0.1:9000", weight=7)
    snapshot = snapshot_of(PLAN, Policy(origins=(heavy,)), local_pop(PLAN, 0), 1)
    assert snapshot.network.origins == (heavy,)


def test_a_broken_rule_is_told_by_its_line(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text(
        '[[site]]\nhost = "a.example"\n[[site.route]]\n'
        '[site.route.admission.challenge]\nsecret = { file = "s" }\n'
    )
    (tmp_path / "s").write_text("short\n")
    read = read_policy(file, surroundings(PLAN))
    with pytest.raises(AtollError) as caught:
        hosts(PLAN, read.policy)
    assert read.located(caught.value).where == f"{file}:5"


# --- files


def test_secrets_are_read_without_the_lines_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text(" a secret \r\n")
    assert read_secret(tmp_path / "key") == " a secret "
    monkeypatch.setenv("ATOLL_TEST_SECRET", "x")
    assert find_secret("env", "ATOLL_TEST_SECRET") == "x"
    for source, name in (("env", "ATOLL_TEST_NOTHING"), ("file", str(tmp_path / "nothing"))):
        with pytest.raises(AtollError, match=name):
            find_secret(source, name)  # type: ignore[arg-type]
    (tmp_path / "long").write_bytes(b"x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("long", "binary"):
        with pytest.raises(AtollError, match=name):
            read_secret(tmp_path / name)


# --- purges


class Worker:
    """A worker's control socket that applies purges when it is let."""

    def __init__(self, path: Path, applied: int = 0) -> None:
        self.path = path
        self.log = PurgeLog()
        self.log.behind(applied)
        self.heard: list[Selector] = []
        self.may = asyncio.Event()
        self.may.set()
        self.asked = asyncio.Event()
        self._server: asyncio.AbstractServer | None = None
        self._peers: set[frames.Peer] = set()

    async def start(self) -> None:
        self._server = await frames.serve(self.path, self.answer)

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self._peers:
            peer.close()

    async def answer(self, peer: frames.Peer, message: Message) -> Message | None:
        self._peers.add(peer)
        assert isinstance(message, PurgeUpdate)
        if message.purges:
            self.asked.set()
            await self.may.wait()
        for purge in message.purges:
            if self.log.add(purge.seq, purge.selector):
                self.heard.append(purge.selector)
        return PurgeState(applied=self.log.applied)


@asynccontextmanager
async def purging(*applied: int) -> AsyncIterator[tuple[LocalPurges, list[Worker]]]:
    with TemporaryDirectory(prefix="purges-") as folder:
        workers = [Worker(Path(folder) / f"{n}.sock", before) for n, before in enumerate(applied)]
        for worker in workers:
            await worker.start()
        purges = LocalPurges([worker.path for worker in workers])
        running = asyncio.ensure_future(purges.run())
        try:
            yield purges, workers
        finally:
            running.cancel()
            for worker in workers:
                worker.stop()


ONE, TWO = Selector(kind="tag", value="one"), Selector(kind="tag", value="two")


async def test_a_purge_is_done_when_every_worker_has_applied_it() -> None:
    async with purging(0, 0) as (purges, workers):
        workers[1].may.clear()
        pending = asyncio.ensure_future(purges.purge([ONE, TWO]))
        await workers[1].asked.wait()
        assert not pending.done()
        workers[1].may.set()
        number = await pending
        assert [worker.heard for worker in workers] == [[ONE, TWO], [ONE, TWO]]
        assert await purges.purge([ONE]) > number


async def test_numbers_go_on_after_those_on_a_disk_of_a_clock_that_was_ahead() -> None:
    ahead = 1 << 60
    async with purging(ahead, 0) as (purges, workers):
        assert await purges.purge([ONE]) == ahead + 1
        assert [worker.heard for worker in workers] == [[ONE], [ONE]]


async def test_a_worker_that_comes_back_hears_what_it_has_missed() -> None:
    async with purging(0, 0) as (purges, workers):
        await purges.purge([ONE])
        workers[1].stop()
        pending = asyncio.ensure_future(purges.purge([TWO]))
        await workers[0].asked.wait()
        workers[1] = Worker(workers[1].path)
        await workers[1].start()
        await pending
        assert workers[1].heard == [ONE, TWO]


async def test_a_worker_that_does_not_answer_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atoll.node.serve_purges.APPLY_TIMEOUT_S", 0.1)
    async with purging(0, 0) as (purges, workers):
        workers[1].may.clear()
        with pytest.raises(RemoteError) as caught:
            await purges.purge([ONE])
        assert caught.value.status == 503


# --- counters


def test_counters_in_prometheus_words() -> None:
    stats = EdgeStats(
        seq=1, requests=7, hits=4, misses=2, stale=0, bypass=1, errors=0, connections=3, cache_bytes=10,
        cache_objects=2, origins_up={"a": True, "b": False}, refused={'x/* limit:"q"': 2},
    )  # fmt: skip
    report = Report(
        version="1", pid=1, uptime_s=1.5, listen=(), policy="", policy_seq=1, sites=(), restarts=0,
        workers=(stats, msgspec.structs.replace(stats, hits=9)),
    )  # fmt: skip
    lines = metrics(report).splitlines()
    assert "atoll_uptime_seconds 1.500" in lines
    assert 'atoll_requests_total{worker="1"} 7' in lines
    assert 'atoll_responses_total{worker="1",result="hits"} 9' in lines
    assert 'atoll_origin_up{worker="0",origin="b"} 0' in lines
    assert 'atoll_refused_total{worker="0",rule="x/* limit:\\"q\\""} 2' in lines
    assert len([line for line in lines if line.startswith("# TYPE atoll_requests_total")]) == 1
