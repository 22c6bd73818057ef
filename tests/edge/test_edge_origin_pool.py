"""Pools of origins with real sockets: balance, failing over, being left out, limits and times."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import pytest_asyncio
from dns_server import DnsServer
from edge_world import Asked, Server, page, until
from h2_origin import H2Origin
from networks import network, pop

from atoll.config.origins import EjectionSpec, OriginLimitsSpec, RetrySpec
from atoll.config.spec import NetworkSpec, OriginSpec, PoolSpec
from atoll.edge.origin import Origins
from atoll.errors import RemoteError
from atoll.http.exchange import RequestBody
from atoll.http.fields import Headers
from atoll.http.upstream import ResponseReader

HERE = pop("nrt", 0)
QUIET_S = 3600.0
SICK = page(b"sick", status=b"500 Internal Server Error")
AWAY = page(b"away", status=b"503 Service Unavailable")


class Farm:
    """Some origins, and the worker's side of them."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.origins: Origins | None = None

    async def start(self, count: int) -> None:
        """Start `count` servers; they say their number."""
        for number in range(count):
            server = Server()
            server.answer = self.says(b"%d" % number)
            await server.start()
            self.servers.append(server)

    @staticmethod
    def says(body: bytes) -> Callable[[Asked], bytes]:
        return lambda asked: page(body)

    def spec(self, *more: OriginSpec, weights: tuple[int, ...] = (), **pool: object) -> NetworkSpec:
        """A network with these servers, in order of distance, and `more` origins."""
        specs = [
            OriginSpec(
                host=f"{number}.test",
                url=f"http://127.0.0.1:{server.port}",
                lat=HERE.lat + number,
                lon=HERE.lon,
                weight=weights[number] if weights else 1,
            )
            for number, server in enumerate(self.servers)
        ]
        every = (*specs, *more)
        fields = {"health_interval_s": QUIET_S, "origins": tuple(spec.host for spec in every)} | pool
        made = PoolSpec(name="pool", **fields)  # type: ignore[arg-type]
        return msgspec.structs.replace(network(HERE), origins=every, pools=(made,))

    def use(self, spec: NetworkSpec) -> Origins:
        """From now on."""
        before, self.origins = self.origins, Origins(HERE, spec, self.origins)
        if before is not None:
            before.close(self.origins)
        return self.origins

    async def fetch(
        self,
        target: bytes = b"/",
        method: bytes = b"GET",
        body: RequestBody | None = None,
        headers: Headers | None = None,
    ) -> ResponseReader:
        assert self.origins is not None
        reader, _ = await self.origins.fetch("pool", method, target, b"shop.test", headers or [], body)
        return reader

    async def get(self, target: bytes = b"/") -> bytes:
        return await (await self.fetch(target)).read_all(1000)

    async def fails(self, target: bytes = b"/", **more: object) -> RemoteError:
        with pytest.raises(RemoteError) as raised:
            await self.fetch(target, **more)  # type: ignore[arg-type]
        return raised.value

    def counts(self) -> list[int]:
        return [len(server.asked) for server in self.servers]


@pytest_asyncio.fixture
async def farm() -> AsyncIterator[Farm]:
    farm = Farm()
    yield farm
    if farm.origins is not None:
        farm.origins.close()
    for server in farm.servers:
        server.stop()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


# --- balance


async def test_weighted(farm: Farm) -> None:
    await farm.start(3)
    farm.use(farm.spec(weights=(3, 1, 0), balance="weighted"))
    assert Counter([await farm.get() for _ in range(40)]) == {b"0": 30, b"1": 10}


async def test_one_url_one_origin(farm: Farm) -> None:
    await farm.start(3)
    farm.use(farm.spec(balance="hash"))
    answers = {number: await farm.get(b"/%d" % number) for number in range(30)}
    assert set(answers.values()) == {b"0", b"1", b"2"}
    assert all([await farm.get(b"/%d" % number) == answers[number] for number in range(30)])


async def test_the_failover_is_asked_last(farm: Farm) -> None:
    await farm.start(2)
    spec = farm.spec(balance="weighted", origins=("1.test",), failover="0.test")
    origins = farm.use(spec)
    assert {await farm.get() for _ in range(4)} == {b"1"}
    origins.by_host["1.test"].up = False
    assert await farm.get() == b"0"
    origins.by_host["0.test"].up = False
    assert origins.dark("pool")
    assert await farm.get() == b"1"


# --- failing over


async def test_who_cannot_be_connected_to_is_passed_over_whatever_the_method(farm: Farm) -> None:
    await farm.start(1)
    nearer = OriginSpec(host="dead.test", url=f"http://127.0.0.1:{closed_port()}", lat=HERE.lat, lon=HERE.lon)
    farm.use(farm.spec(nearer, origins=("dead.test", "0.test")))
    body = RequestBody()
    waiting = asyncio.ensure_future(farm.fetch(b"/", b"POST", body, [(b"content-length", b"5")]))
    await asyncio.sleep(0)
    body.feed(b"order")
    body.end()
    assert (await waiting).status == 200
    assert [asked.body for asked in farm.servers[0].asked] == [b"order"]


async def test_a_post_that_somebody_has_heard_is_not_repeated(farm: Farm) -> None:
    await farm.start(2)
    farm.use(farm.spec())
    farm.servers[0].answer = lambda asked: AWAY
    body = RequestBody()
    body.feed(b"x")
    body.end()
    assert (await farm.fetch(b"/", b"POST", body)).status == 503
    assert farm.counts() == [1, 0]


async def test_a_small_put_that_is_there_is_kept_and_repeated(farm: Farm) -> None:
    await farm.start(2)
    farm.use(farm.spec())
    farm.servers[0].answer = lambda asked: AWAY
    body = RequestBody()
    for piece in (b"ab", b"cd"):
        body.feed(piece)
    body.end()
    assert (await farm.fetch(b"/", b"PUT", body)).status == 200
    assert [server.asked[0].body for server in farm.servers] == [b"abcd", b"abcd"]


@pytest.mark.parametrize("how", ["large", "not whole"])
async def test_another_put_is_not(farm: Farm, how: str) -> None:
    await farm.start(2)
    farm.use(farm.spec(retry=RetrySpec(body=3)))
    farm.servers[0].answer = lambda asked: AWAY
    body = RequestBody()
    body.feed(b"abcd" if how == "large" else b"ab")
    if how == "large":
        body.end()
    else:
        asyncio.get_running_loop().call_soon(body.end)
    assert (await farm.fetch(b"/", b"PUT", body)).status == 503
    assert farm.counts() == [1, 0]


async def test_retries_come_out_of_a_budget(farm: Farm) -> None:
    await farm.start(2)
    farm.use(farm.spec(retry=RetrySpec(share=0.25, floor_per_s=0.0), ejection=EjectionSpec(failures=0)))
    farm.servers[0].answer = lambda asked: AWAY
    statuses = Counter([(await farm.fetch()).status for _ in range(40)])
    assert statuses == {200: 10, 503: 30}


async def test_no_request_is_asked_of_everybody(farm: Farm) -> None:
    await farm.start(5)
    farm.use(farm.spec(retry=RetrySpec(most=2)))
    for server in farm.servers:
        server.answer = lambda asked: AWAY
    assert (await farm.fetch()).status == 503
    assert farm.counts() == [1, 1, 1, 0, 0]


# --- being left out


async def test_who_fails_in_a_row_is_left_out_and_comes_back(
    farm: Farm, caplog: pytest.LogCaptureFixture
) -> None:
    await farm.start(2)
    origins = farm.use(farm.spec(ejection=EjectionSpec(failures=3, base_s=0.3)))
    farm.servers[0].answer = lambda asked: SICK
    assert [await farm.get() for _ in range(4)] == [b"sick"] * 3 + [b"1"]
    assert "0.test is left out" in caplog.text
    assert origins.up() == {"0.test": True, "1.test": True}  # its checks say nothing else
    farm.servers[0].answer = Farm.says(b"0")
    await until(lambda: not origins.by_host["0.test"].passive.out(asyncio.get_running_loop().time()))
    assert await farm.get() == b"0"


async def test_the_last_one_is_never_left_out(farm: Farm) -> None:
    await farm.start(2)
    origins = farm.use(farm.spec(ejection=EjectionSpec(failures=1, base_s=60.0)))
    for server in farm.servers:
        server.answer = lambda asked: SICK
    for _ in range(10):
        await farm.get()
    now_s = asyncio.get_running_loop().time()
    assert sum(origin.passive.out(now_s) for origin in origins.by_host.values()) == 1


async def test_a_client_s_fault_is_not_the_origin_s(farm: Farm) -> None:
    await farm.start(2)
    origins = farm.use(farm.spec(ejection=EjectionSpec(failures=1)))
    farm.servers[0].answer = lambda asked: page(b"", status=b"404 Not Found")
    for _ in range(5):
        assert (await farm.fetch()).status == 404
        body = RequestBody()
        body.fail()
        assert (await farm.fails(b"/", method=b"POST", body=body)).status == 400
    assert not origins.by_host["0.test"].passive.out(asyncio.get_running_loop().time())
    assert origins.by_host["0.test"].up


# --- checks


async def test_a_check_asks_as_it_is_told_and_expects_what_it_is_told(farm: Farm) -> None:
    heard: list[Asked] = []

    async def answer(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(asked)
        writer.write(page(b"", status=b"418 Teapot"))
        await writer.drain()

    server = Server()
    await server.start()
    server.converse = answer
    spec = OriginSpec(
        host="odd.test",
        url=f"http://127.0.0.1:{server.port}",
        health_path="/alive?deep=1",
        health_host="in.test",
    )
    origins = farm.use(farm.spec(spec, health_interval_s=0.02, health_statuses=(400, 499), rise=1))
    origins.by_host["odd.test"].up = False
    await until(lambda: origins.by_host["odd.test"].up)
    assert heard[0].target == b"/alive?deep=1"
    assert heard[0].fields[b"host"] == b"in.test"
    origins = farm.use(farm.spec(spec, health_interval_s=0.02, fall=1))
    await until(lambda: not origins.by_host["odd.test"].up)
    server.stop()


# --- times


async def drip(_asked: Asked, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A response of which a little comes now and then, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


async def stall(_asked: Asked, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    await writer.drain()
    await asyncio.Event().wait()


async def test_silence_in_the_middle_has_its_own_time(farm: Farm) -> None:
    await farm.start(1)
    farm.use(farm.spec(response_timeout_s=60.0, between_timeout_s=0.1))
    farm.servers[0].converse = stall
    reader = await farm.fetch()
    with pytest.raises(RemoteError) as raised:
        await reader.read_all(100)
    assert raised.value.status == 504


async def test_all_of_it_has_a_time_too(farm: Farm) -> None:
    await farm.start(1)
    farm.use(farm.spec(response_timeout_s=60.0, total_timeout_s=0.3))
    farm.servers[0].converse = drip
    reader = await farm.fetch()
    with pytest.raises(RemoteError, match="took too long"):
        await reader.read_all(10_000)


async def test_the_whole_time_is_for_all_origins_together(farm: Farm) -> None:
    await farm.start(3)
    farm.use(farm.spec(response_timeout_s=0.2, total_timeout_s=0.25))
    for server in farm.servers:
        server.hold = asyncio.Event()
    assert (await farm.fails()).status == 504
    assert farm.counts()[2] == 0


# --- limits


async def test_more_than_an_origin_takes_waits_and_more_than_may_wait_is_refused(farm: Farm) -> None:
    await farm.start(1)
    origins = farm.use(farm.spec(limits=OriginLimitsSpec(connections=2, pending=3), fall=1))
    await farm.get(b"/warm")  # the first check is over then, too
    farm.servers[0].hold = asyncio.Event()
    calls = [asyncio.ensure_future(farm.get(b"/%d" % number)) for number in range(5)]
    await farm.servers[0].until_asked(3)
    error = await farm.fails()
    assert error.status == 503
    assert error.message == "0.test: 2 connections are busy and 3 requests wait"
    assert farm.counts() == [3]
    assert origins.by_host["0.test"].up  # that is our limit, not its fault
    farm.servers[0].hold.set()
    assert await asyncio.gather(*calls) == [b"0"] * 5


async def test_one_that_waits_and_leaves_gives_its_place_away(farm: Farm) -> None:
    await farm.start(1)
    farm.use(farm.spec(limits=OriginLimitsSpec(connections=1, pending=1)))
    farm.servers[0].hold = asyncio.Event()
    first = asyncio.ensure_future(farm.get())
    await farm.servers[0].until_asked(1)
    for _ in range(5):
        waiting = asyncio.ensure_future(farm.get(b"/left"))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
    last = asyncio.ensure_future(farm.get(b"/last"))
    await asyncio.sleep(0)
    farm.servers[0].hold.set()
    assert [await first, await last] == [b"0", b"0"]
    assert [asked.target for asked in farm.servers[0].asked] == [b"/", b"/last"]


async def test_those_who_wait_are_served_when_a_connection_dies(farm: Farm) -> None:
    await farm.start(1)
    farm.use(farm.spec(limits=OriginLimitsSpec(connections=1)))

    async def hang_up(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        farm.servers[0].converse = None

    farm.servers[0].converse = hang_up
    calls = [farm.fetch(method=b"POST") for _ in range(3)]
    first, *others = await asyncio.gather(*calls, return_exceptions=True)
    assert str(first) == "0.test: connection closed before the response was complete"
    assert [other.status for other in others if isinstance(other, ResponseReader)] == [200, 200]


async def test_an_old_connection_is_not_used_for_ever(farm: Farm) -> None:
    await farm.start(1)
    limits = OriginLimitsSpec(age_s=0.0, connections=1)
    origins = farm.use(farm.spec(limits=limits))
    pool = origins.by_host["0.test"].pool
    farm.servers[0].hold = asyncio.Event()
    call = asyncio.ensure_future(farm.get())
    await farm.servers[0].until_asked(1)
    (connection,) = pool._connections
    await until(lambda: connection.worn)
    farm.servers[0].hold.set()
    assert await call == b"0"
    await until(lambda: not pool._connections)
    assert await farm.get() == b"0"


# --- changes


async def test_what_stays_the_same_keeps_its_connections_and_its_health(farm: Farm) -> None:
    await farm.start(2)
    before = farm.use(farm.spec())
    await farm.get()
    before.by_host["1.test"].up = False
    kept = before.by_host["0.test"]
    after = farm.use(farm.spec(OriginSpec(host="new.test", url="http://127.0.0.1:1")))
    assert after.by_host["0.test"] is not kept  # its pool's rules are others now
    again = farm.use(
        msgspec.structs.replace(farm.spec(OriginSpec(host="new.test", url="http://127.0.0.1:1")), pools=(
            *after_pools(farm), PoolSpec(name="other", origins=()),
        ))
    )  # fmt: skip
    assert again.by_host["0.test"] is after.by_host["0.test"]
    assert await farm.get() == b"0"
    assert again.dialer is before.dialer


def after_pools(farm: Farm) -> tuple[PoolSpec, ...]:
    return farm.spec(OriginSpec(host="new.test", url="http://127.0.0.1:1")).pools


# --- names and HTTP/2


async def test_an_origin_by_name_over_http2(farm: Farm) -> None:
    dns, origin = DnsServer(), H2Origin()
    await dns.start()
    await origin.start()
    dns.records = {("real.test", "A"): (60, ["127.0.0.1"])}
    spec = OriginSpec(
        host="named.test", url=f"http://real.test:{origin.port}", protocol="h2", allow_private=True
    )
    made = msgspec.structs.replace(farm.spec(spec), resolvers=(dns.address,))
    farm.use(made)
    assert set(await asyncio.gather(*[farm.get(b"/%d" % n) for n in range(10)])) == {
        b"hello /%d" % n for n in range(10)
    }
    assert len(origin.peers) == 1
    refused = msgspec.structs.replace(spec, allow_private=False)
    farm.use(msgspec.structs.replace(farm.spec(refused), resolvers=(dns.address,)))
    error = await farm.fails()
    assert error.message.startswith("named.test: real.test leads to 127.0.0.1")
    dns.stop()
    origin.stop()
