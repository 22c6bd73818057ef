"""The API with its control plane over a real NATS server, and PoPs whose agents are scripted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import nats
import pytest
import pytest_asyncio
from bundles import tiny
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats_server import NatsServer, nats_server
from networks import network, pop

from atoll.config.paths import Paths
from atoll.control import deployments
from atoll.control.api import create_app
from atoll.control.deployments import ControlPlane
from atoll.control.link import Link
from atoll.control.observe import Observer
from atoll.control.presence import Presence
from atoll.control.store import Store
from atoll.functions.workers import bundle
from atoll.wire import control as wire
from atoll.wire import frames
from atoll.wire.messages import (
    AnycastStatus,
    CatchmentRow,
    CatchmentTable,
    ForgiveFalls,
    GetAnycast,
    GetCatchment,
    GetNetwork,
    Message,
    NetworkStatus,
    Ok,
    PopCommand,
    PopState,
    ProcessInfo,
    ProcessSignal,
    SetIntent,
)

__all__ = ["nats_server"]

pytestmark = pytest.mark.real

LHR, NRT = pop("lhr", 0), pop("nrt", 1)
NETWORK = network(LHR, NRT)
TOKEN = "secret-token"


def with_var(value: object) -> bytes:
    """A bundle with one variable."""
    read = bundle.read(tiny("hello", "one"))
    manifest = msgspec.structs.replace(read.manifest, vars={"A": value})
    return msgspec.msgpack.encode(msgspec.structs.replace(read, manifest=manifest))


class ScriptedAgent:
    """Prepares and acknowledges what it is told to."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.refuses = ""
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.prepared: list[str] = []
        self._client: Client | None = None
        self._following: asyncio.Task[None] | None = None

    async def start(self, url: str) -> None:
        self._client = await nats.connect(url, allow_reconnect=False)
        await self._client.subscribe(wire.prepare_subject(self.code), cb=self._prepare)
        await self._client.subscribe(wire.adopt_subject(self.code), cb=self._adopt)
        await self._client.flush()
        self._following = asyncio.ensure_future(self._follow(self._client))

    async def stop(self) -> None:
        self.may_answer.set()
        if self._client is not None and self._following is not None:
            self._following.cancel()
            await self._client.close()

    async def _prepare(self, message: Msg) -> None:
        request = wire.decode(message.data, wire.PrepareRequest)
        self.prepared.append(request.version)
        await self.may_answer.wait()
        reply = wire.PrepareReply(ok=not self.refuses, ms=1.0, message=self.refuses, where="index.js:1")
        await message.respond(wire.encode(reply))

    async def _adopt(self, message: Msg) -> None:
        await message.respond(wire.encode(wire.AdoptReply(ok=True)))

    async def _follow(self, client: Client) -> None:
        store = await Store.open(client)
        async for specs in store.watch():
            receipt = wire.Receipt(pop=self.code, seq=specs.seq, ms=0.5, store=specs.store)
            beat = wire.Heartbeat(pop=self.code, seq=specs.seq, store=specs.store)
            await client.publish(wire.heartbeat_subject(self.code), wire.encode(beat))
            await client.publish(wire.receipt_subject(self.code), wire.encode(receipt))


class Running:
    """An API with everything around it."""

    def __init__(self, paths: Paths, url: str) -> None:
        self.paths = paths
        self.url = url
        self.agents = {code: ScriptedAgent(code) for code in ("lhr", "nrt")}
        self.asked: list[Message] = []
        self.link = Link(url, "api")
        self.plane = ControlPlane(self.link, NETWORK, paths.ca)
        app = create_app(self.plane, Observer(paths, NETWORK, self.plane.presence), TOKEN)
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app),  # type: ignore[arg-type]
            base_url="http://api.test",
            headers={"authorization": f"Bearer {TOKEN}"},
        )

    async def connected(self) -> None:
        async with asyncio.timeout(10):
            while not (await self.http.get("/v1/health")).json()["store"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def deploy(self, name: str, text: str, *routes: str) -> httpx.Response:
        content = tiny(name, text, routes or (f"{name}.test/*",))
        return await self.http.post(f"/v1/functions/{name}/deploy", content=content)

    async def deployed(self, name: str, text: str, *routes: str) -> dict[str, Any]:
        answer = await self.deploy(name, text, *routes)
        assert answer.status_code == 200, answer.text
        change: dict[str, Any] = answer.json()
        return change

    async def answer(self, _peer: frames.Peer, message: Message) -> Message | None:
        """The network daemon, the Internet and lhr's anycast role in one."""
        self.asked.append(message)
        anycast = AnycastStatus(
            pop="lhr",
            healthy=True,
            drain=SetIntent(drain=True) in self.asked,
            announced=("192.0.2.0/24",),
            session_up=True,
        )
        row = CatchmentRow(city="tokyo", asn=64600, pop="nrt", as_path=(64600, 64513), rtt_ms=3.0)
        replies: dict[type, Message] = {
            GetNetwork: NetworkStatus(
                pops=(PopState(code="lhr", state="up"), PopState(code="nrt", state="down")),
                processes=(ProcessInfo(name="gateway", pid=1, state="backoff"),),
            ),
            GetCatchment: CatchmentTable(rows=(row,), latency="real"),
            GetAnycast: anycast,
        }
        return replies.get(type(message), Ok())

    @contextlib.asynccontextmanager
    async def neighbour(self, code: str, **changes: Any) -> AsyncIterator[None]:
        """Another PoP's anycast role, which announces."""
        status = AnycastStatus(
            pop=code, healthy=True, drain=False, announced=("192.0.2.0/24",), session_up=True
        )

        async def answer(_peer: frames.Peer, _message: Message) -> Message | None:
            return msgspec.structs.replace(status, **changes)

        self.paths.pop_run(code).mkdir()
        server = await frames.serve(self.paths.pop_run(code) / "anycast.sock", answer)
        yield
        server.close()


@pytest_asyncio.fixture
async def alone(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Running]:
    """Neither agents nor a network daemon; NATS is there but not looked at."""
    with tempfile.TemporaryDirectory(prefix="atoll-", dir="/tmp") as run:
        paths = Paths(home=tmp_path / "home", run=Path(run), token=tmp_path / "token")
        running = Running(paths, nats_server.url)
        yield running
        await running.http.aclose()


@pytest_asyncio.fixture
async def api(alone: Running) -> AsyncIterator[Running]:
    """With its store, and agents in both PoPs."""
    following = asyncio.ensure_future(alone.link.run(alone.plane.session))
    await alone.connected()
    for agent in alone.agents.values():
        await agent.start(alone.url)
    yield alone
    for agent in alone.agents.values():
        await agent.stop()
    following.cancel()


@pytest_asyncio.fixture
async def observed(alone: Running) -> AsyncIterator[Running]:
    """With a network daemon, an Internet and lhr's anycast role, but no store."""
    (alone.paths.pop_run("lhr")).mkdir()
    sockets = [
        alone.paths.network_socket,
        alone.paths.internet_socket,
        alone.paths.pop_run("lhr") / "anycast.sock",
    ]
    servers = [await frames.serve(socket, alone.answer) for socket in sockets]
    yield alone
    for server in servers:
        server.close()


class TestAccess:
    @pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
    async def test_no_token_no_entry(self, alone: Running, token: str | None) -> None:
        headers = {} if token is None else {"authorization": token}
        del alone.http.headers["authorization"]
        for method, path in [("GET", "status"), ("POST", "functions/f/deploy"), ("POST", "pops/lhr/kill")]:
            answer = await alone.http.request(method, f"/v1/{path}", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["message"] == "this needs the network's token"

    async def test_health_and_openapi_are_open(self, alone: Running) -> None:
        del alone.http.headers["authorization"]
        assert (await alone.http.get("/v1/health")).json() == {"ok": True, "store": False}
        schema = (await alone.http.get("/openapi.json")).json()
        assert schema["paths"]["/v1/functions/{name}/deploy"]["post"]["requestBody"]["content"] == {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
        }
        assert {"/v1/status", "/v1/pops/{pop}/{action}", "/v1/catchment"} <= schema["paths"].keys()

    async def test_an_unknown_path_is_an_error_of_three_parts(self, alone: Running) -> None:
        answer = await alone.http.get("/v1/nothing")
        assert answer.status_code == 404
        assert answer.json().keys() == {"message", "hint", "where"}


class TestDeploy:
    async def test_a_deploy_has_a_receipt_from_every_pop(self, api: Running) -> None:
        change = await api.deployed("hello", "one")
        assert change["number"] == 1
        assert change["previous"] == ""
        for code in ("lhr", "nrt"):
            receipt = change["pops"][code]
            assert receipt["state"] == "active"
            assert receipt["prepare_ms"] > 0
            assert 0 < receipt["activate_ms"] <= change["total_ms"]
            assert api.agents[code].prepared == [change["version"]]
        (function,) = (await api.http.get("/v1/functions")).json()
        assert (function["name"], function["version"]) == ("hello", change["version"])

    async def test_its_names_have_certificates_before_it_serves(self, api: Running) -> None:
        await api.deployed("hello", "one")
        made = {path.name for path in (api.paths.ca / "leaf").iterdir()}
        assert {"hello.test.pem", "hello.tokyo.localhost.pem", "tokyo.localhost.pem"} <= made

    async def test_a_refusal_leaves_everything_as_it_was(self, api: Running) -> None:
        before = await api.deployed("hello", "one")
        api.agents["nrt"].refuses = "Uncaught SyntaxError: Unexpected token '}'"
        answer = await api.deploy("hello", "two")
        assert answer.status_code == 422
        assert answer.json() == {
            "message": "Uncaught SyntaxError: Unexpected token '}'",
            "hint": "nrt could not run it",
            "where": "index.js:1",
        }
        (version,) = (await api.http.get("/v1/functions/hello/versions")).json()
        assert (version["id"], version["active"]) == (before["version"], True)

    async def test_a_pop_that_is_down_catches_up(self, api: Running) -> None:
        await api.agents["nrt"].stop()
        change = await api.deployed("hello", "one")
        assert change["pops"]["lhr"]["state"] == "active"
        assert change["pops"]["nrt"] == {
            "state": "catches up",
            "prepare_ms": None,
            "activate_ms": None,
            "why": "",
        }

    async def test_no_pop_at_all_is_unavailable_and_nothing_changes(self, api: Running) -> None:
        for agent in api.agents.values():
            await agent.stop()
        answer = await api.deploy("hello", "one")
        assert answer.status_code == 503
        assert (await api.http.get("/v1/functions")).json() == []

    async def test_a_pop_that_does_not_acknowledge_is_late(
        self, api: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deployments, "RECEIPTS_TIMEOUT_S", 0.3)
        following = api.agents["nrt"]._following
        assert following is not None
        following.cancel()
        change = await api.deployed("hello", "one")
        assert (change["pops"]["nrt"]["state"], change["pops"]["nrt"]["activate_ms"]) == ("late", None)
        assert change["pops"]["lhr"]["state"] == "active"

    async def test_a_route_of_another_function_is_refused_and_both_are_named(self, api: Running) -> None:
        await api.deployed("alpha", "one", "shared.test/*")
        answer = await api.deploy("beta", "one", "shared.test/*")
        assert answer.status_code == 409
        assert answer.json()["message"] == "beta and alpha both want shared.test/*"
        assert len((await api.http.get("/v1/functions")).json()) == 1

    async def test_deploying_at_once_loses_nothing(self, api: Running) -> None:
        answers = await asyncio.gather(*(api.deploy("hello", f"text {n}") for n in range(4)))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[0] == 200
        assert set(statuses) <= {200, 409}
        versions = (await api.http.get("/v1/functions/hello/versions")).json()
        assert len(versions) == statuses.count(200)

    async def test_a_deploy_that_fails_takes_no_bundle_from_one_of_the_same_content(
        self, api: Running
    ) -> None:
        await api.deployed("other", "x", "mine.test/*")
        lhr = api.agents["lhr"]
        lhr.may_answer.clear()
        first = asyncio.ensure_future(api.deploy("hello", "one"))
        while len(lhr.prepared) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        api.agents["nrt"].refuses = "not today"
        second = asyncio.ensure_future(api.deploy("hello", "one"))
        while len(api.agents["nrt"].prepared) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        lhr.may_answer.set()
        answers = [await first, await second]
        assert [answer.status_code for answer in answers] == [200, 422]
        digest = hashlib.sha256(tiny("hello", "one", ("hello.test/*",))).hexdigest()
        assert await api.plane.store.has_bundle(digest)

    async def test_a_bundle_that_went_meanwhile_is_not_activated(self, api: Running) -> None:
        lhr = api.agents["lhr"]
        lhr.may_answer.clear()
        deploying = asyncio.ensure_future(api.deploy("hello", "one"))
        while not lhr.prepared:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (digest,) = await api.plane.store.bundles()
        await api.plane.store.delete_bundle(digest)
        lhr.may_answer.set()
        answer = await deploying
        assert (answer.status_code, answer.json()["hint"]) == (409, "deploy it again")
        assert "removed meanwhile" in answer.json()["message"]
        assert (await api.http.get("/v1/functions")).json() == []

    async def test_what_failed_deploys_left_goes_with_the_next_session(self, api: Running) -> None:
        kept = await api.deployed("hello", "one")
        store = api.plane.store
        await store.put_bundle(b"left by a deploy that was refused")
        assert len(await store.bundles()) == 2
        await api.link.client.close()
        async with asyncio.timeout(10):
            while api.plane.connected and api.plane.store is store:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await api.connected()
        assert [name[:16] for name in await api.plane.store.bundles()] == [kept["version"]]

    async def test_bundles_are_kept_while_a_spec_cannot_be_read(self, api: Running) -> None:
        await api.deployed("hello", "one")
        client = await nats.connect(api.url)
        await (await client.jetstream().key_value("atoll")).put("fn.default.hello", b"{")
        await client.close()
        await api.deployed("other", "two")
        assert len(await api.plane.store.bundles()) == 2
        assert (await api.http.delete("/v1/functions/hello")).status_code == 200
        assert [f["name"] for f in (await api.http.get("/v1/functions")).json()] == ["other"]

    @pytest.mark.parametrize(
        ("path", "content", "words"),
        [
            ("hello", b"not a bundle", "no bundle"),
            ("other", tiny("hello", "x"), "calls itself hello, not other"),
            ("UP", tiny("UP", "x"), "cannot be a function's name"),
            ("a.b", tiny("a.b", "x"), "cannot be a function's name"),
            ("hello", tiny("hello", "x", ("*.test/*",)), "no host name"),
        ],
    )
    async def test_what_cannot_be_deployed(self, api: Running, path: str, content: bytes, words: str) -> None:
        answer = await api.http.post(f"/v1/functions/{path}/deploy", content=content)
        assert answer.status_code == 422
        assert words in answer.json()["message"]

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (json.loads("[" * 70 + "]" * 70), "nested too deeply"),
            (2**53 + 1, "an integer too large"),
        ],
    )
    async def test_variables_have_bounds(self, api: Running, value: object, words: str) -> None:
        answer = await api.http.post("/v1/functions/hello/deploy", content=with_var(value))
        assert (answer.status_code, answer.json()["message"]) == (422, words)
        assert answer.json()["where"].startswith("vars.A")

    async def test_a_bundle_too_deep_to_read_is_refused(self, api: Running) -> None:
        flat = with_var("here")
        deep = flat.replace(b"\xa4here", b"\x91" * 3000 + b"\x90")
        assert deep != flat
        answer = await api.http.post("/v1/functions/hello/deploy", content=deep)
        assert (answer.status_code, answer.json()["message"]) == (422, "nested too deeply")

    async def test_a_bundle_over_ten_mebibytes_is_not_read(self, api: Running) -> None:
        answer = await api.http.post("/v1/functions/f/deploy", content=b"x" * (10 * 1024 * 1024 + 1))
        assert answer.status_code == 413

    async def test_without_the_store_nothing_can_be_deployed(self, alone: Running) -> None:
        answer = await alone.deploy("hello", "one")
        assert (answer.status_code, answer.json()["message"]) == (503, "NATS is not reachable")


class TestRollback:
    async def test_goes_to_what_served_before_and_back(self, api: Running) -> None:
        first = await api.deployed("hello", "one", "one.test/*")
        second = await api.deployed("hello", "two", "two.test/*")
        back = (await api.http.post("/v1/functions/hello/rollback")).json()
        assert (back["version"], back["previous"]) == (first["version"], second["version"])
        assert back["routes"] == ["one.test/*"]
        assert back["pops"]["lhr"]["state"] == "active"
        forth = (await api.http.post("/v1/functions/hello/rollback", json={})).json()
        assert forth["version"] == second["version"]

    @pytest.mark.parametrize("to", [1, "1"])
    async def test_goes_to_a_number(self, api: Running, to: object) -> None:
        changes = [await api.deployed("hello", text) for text in ("one", "two", "three")]
        answer = await api.http.post("/v1/functions/hello/rollback", json={"to": to})
        assert answer.json()["version"] == changes[0]["version"]

    async def test_has_somewhere_to_go_or_says_so(self, api: Running) -> None:
        await api.deployed("hello", "one")
        assert (await api.http.post("/v1/functions/hello/rollback")).status_code == 409
        assert (await api.http.post("/v1/functions/hello/rollback", json={"to": 7})).status_code == 404
        answer = await api.http.post("/v1/functions/nobody/rollback")
        assert (answer.status_code, answer.json()["hint"]) == (404, "deployed are: hello")

    async def test_a_pop_that_refuses_does_not_keep_the_others_from_it(self, api: Running) -> None:
        first = await api.deployed("hello", "one")
        await api.deployed("hello", "two")
        api.agents["nrt"].refuses = "no memory"
        back = (await api.http.post("/v1/functions/hello/rollback")).json()
        assert back["version"] == first["version"]
        assert back["pops"]["lhr"]["state"] == "active"

    async def test_a_pop_that_is_slow_is_not_waited_for(
        self, api: Running, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(deployments, "ROLLBACK_PATIENCE_S", 0.1)
        first = await api.deployed("hello", "one")
        await api.deployed("hello", "two")
        api.agents["nrt"].may_answer.clear()
        async with asyncio.timeout(3):
            back = (await api.http.post("/v1/functions/hello/rollback")).json()
        assert back["version"] == first["version"]

    async def test_that_no_pop_can_run_is_refused(self, api: Running) -> None:
        await api.deployed("hello", "one")
        await api.deployed("hello", "two")
        for agent in api.agents.values():
            agent.refuses = "no memory"
        assert (await api.http.post("/v1/functions/hello/rollback")).status_code == 422

    async def test_a_body_that_is_no_order_is_refused(self, api: Running) -> None:
        answer = await api.http.post("/v1/functions/hello/rollback", json={"to": [1]})
        assert answer.status_code == 400


async def test_a_removal_hears_an_agent_that_has_just_come_back(api: Running) -> None:
    await api.deployed("hello", "one")
    api.plane.presence = Presence()  # nothing has been heard of anyone
    gone = (await api.http.delete("/v1/functions/hello")).json()
    assert {receipt["state"] for receipt in gone["pops"].values()} == {"active"}


async def test_adopting_the_store_comes_with_every_pops_answer(api: Running) -> None:
    await api.agents["nrt"].stop()
    answer = (await api.http.post("/v1/store/adopt")).json()
    assert answer["store"] == (await api.plane.store.load()).specs.store
    assert answer["pops"] == {"lhr": "follows", "nrt": "does not answer"}


async def test_bundles_of_forgotten_versions_go(api: Running) -> None:
    changes = [await api.deployed("hello", f"text {n}") for n in range(12)]
    versions = (await api.http.get("/v1/functions/hello/versions")).json()
    assert [version["number"] for version in versions] == list(range(3, 13))
    client = await nats.connect(api.url)
    objects = await client.jetstream().object_store("atoll-bundles")
    kept = {info.name[:16] for info in await objects.list(ignore_deletes=True) if info.name}
    await client.close()
    assert kept == {change["version"] for change in changes[2:]}


async def test_removing_a_function(api: Running) -> None:
    change = await api.deployed("hello", "one")
    gone = await api.http.delete("/v1/functions/hello")
    assert gone.status_code == 200
    assert gone.json()["previous"] == change["version"]
    assert gone.json()["pops"]["lhr"]["state"] == "active"
    assert (await api.http.get("/v1/functions")).json() == []
    assert (await api.http.delete("/v1/functions/hello")).status_code == 404
    assert (await api.deployed("hello", "one"))["number"] == 1


class TestNetwork:
    async def test_status_tells_what_is_known_and_what_is_wrong(self, observed: Running) -> None:
        status = (await observed.http.get("/v1/status")).json()
        assert [(p["code"], p["state"]) for p in status["pops"]] == [("lhr", "up"), ("nrt", "down")]
        assert status["pops"][0]["anycast"]["session_up"] is True
        assert (status["latency"], status["catchment"][0]["pop"]) == ("real", "nrt")
        assert status["degraded"] == [
            "NATS is not reachable: PoPs serve from disk, nothing can be deployed",
            "gateway is backoff",
            "nrt is down",
        ]

    async def test_status_without_anything_still_answers(self, alone: Running) -> None:
        status = (await alone.http.get("/v1/status")).json()
        assert status["degraded"][:2] == [
            "the network daemon does not answer",
            "the emulated Internet does not answer",
        ]
        assert [pop["state"] for pop in status["pops"]] == ["unknown", "unknown"]

    async def test_pops_come_with_their_agents_word(self, api: Running) -> None:
        change = await api.deployed("hello", "one")
        pops = (await api.http.get("/v1/pops")).json()
        assert [pop["seq"] for pop in pops] == [change["seq"]] * 2

    @pytest.mark.parametrize("action", ["kill", "start", "stop"])
    async def test_life_and_death_are_the_daemons(self, observed: Running, action: str) -> None:
        answer = (await observed.http.post(f"/v1/pops/lhr/{action}")).json()
        assert (answer["pop"], answer["action"], answer["anycast"]) == ("lhr", action, None)
        forgiven = [ForgiveFalls()] if action == "start" else []
        assert observed.asked == [PopCommand(pop="lhr", action=action), *forgiven]

    async def test_a_drain_comes_with_its_receipt(self, observed: Running) -> None:
        async with observed.neighbour("nrt"):
            answer = (await observed.http.post("/v1/pops/lhr/drain")).json()
        assert answer["anycast"]["drain"] is True
        assert observed.asked == [SetIntent(drain=True), GetAnycast()]

    @pytest.mark.parametrize("changes", [None, {"drain": True}, {"announced": ()}])
    async def test_the_last_that_announces_is_drained_only_by_force(
        self, observed: Running, changes: dict[str, Any] | None
    ) -> None:
        async with contextlib.AsyncExitStack() as stack:
            if changes is not None:
                await stack.enter_async_context(observed.neighbour("nrt", **changes))
            refused = await observed.http.post("/v1/pops/lhr/drain")
            assert (refused.status_code, observed.asked) == (409, [])
            assert "--force" in refused.json()["hint"]
            assert (await observed.http.post("/v1/pops/lhr/drain?force=true")).status_code == 200
            assert observed.asked[0] == SetIntent(drain=True)

    @pytest.mark.parametrize(
        ("path", "status"),
        [("lhr/explode", 404), ("xyz/kill", 404), ("xyz/drain", 404), ("nrt/drain", 409)],
    )
    async def test_what_a_pop_cannot(self, observed: Running, path: str, status: int) -> None:
        assert (await observed.http.post(f"/v1/pops/{path}")).status_code == status
        assert [asked for asked in observed.asked if asked != GetAnycast()] == []

    @pytest.mark.parametrize("name", ["nats", "lhr/edge-0", "lhr/fn:default.hello.1f"])
    async def test_processes_are_killed_by_name(self, observed: Running, name: str) -> None:
        assert (await observed.http.post(f"/v1/processes/{name}/kill")).json() == {"name": name}
        assert observed.asked == [ProcessSignal(name=name)]

    async def test_a_catchment_without_pops_is_a_question(self, observed: Running) -> None:
        answer = await observed.http.get("/v1/catchment", params={"without": ["lhr", "nrt"]})
        assert answer.json()["rows"][0]["city"] == "tokyo"
        assert observed.asked == [GetCatchment(without=("lhr", "nrt"))]
        await observed.http.get("/v1/catchment?without=lhr,nrt")
        assert observed.asked[1] == observed.asked[0]
        assert (await observed.http.get("/v1/catchment?without=xyz")).status_code == 404

    async def test_without_a_daemon_commands_say_so(self, alone: Running) -> None:
        answer = await alone.http.post("/v1/pops/lhr/kill")
        assert (answer.status_code, answer.json()["message"]) == (503, "the network daemon does not answer")
