"""Parts of a running network killed or frozen, one by one, while people use it.

What a killed process itself was answering at that moment is lost with it; nothing else may be.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import httpx
import msgspec
import pytest
from faults import frozen, kill, pids, until, whole
from live_network import LiveNetwork
from load import USERS, load

from atoll.control.answers import Status

pytestmark = pytest.mark.real

ORIGINS = ("origin-us", "origin-eu", "origin-asia")
UNCACHED = "/api/slow?ms=0"
PATIENT_S = 40.0


@pytest.fixture(autouse=True)
async def _whole_before_and_after(network: LiveNetwork) -> AsyncIterator[None]:
    await whole(network)
    yield
    await whole(network)


def project(folder: Path, name: str) -> str:
    """The folder of a function that answers its own name, for `<name>.test` and `<name>.<city>.localhost`."""
    folder.mkdir()
    text = f'export default {{ fetch() {{ return new Response("{name}") }} }}\n'
    (folder / "worker.js").write_text(text)
    (folder / "wrangler.toml").write_text(
        f'name = "{name}"\nmain = "worker.js"\nroutes = ["{name}.test/*"]\n'
        'compatibility_date = "2026-11-01"\n'
    )
    return str(folder)


async def ask(network: LiveNetwork, path: str, host: str = "london", **fields: str) -> httpx.Response:
    """A request from somebody who waits as long as it takes."""
    base = f"http://127.0.0.1:{network.http_port}"
    async with httpx.AsyncClient(base_url=base, trust_env=False, timeout=PATIENT_S) as client:
        headers = {"host": f"{host}.localhost"} | {
            name.replace("_", "-"): text for name, text in fields.items()
        }
        return await client.get(path, headers=headers)


async def in_thread(network: LiveNetwork, *arguments: str) -> object:
    return await asyncio.to_thread(network.ask, *arguments)


# --- origins


async def test_a_killed_origin_is_missed_by_nobody(network: LiveNetwork) -> None:
    """Its socket is the daemon's: who connects meanwhile waits for its successor."""
    async with load(network, "london", UNCACHED) as outcome:
        await kill(network, "origin-eu")
        await outcome.more(50)
    assert outcome.failures == []


async def test_north_america_stands_in_for_an_origin_that_hangs(network: LiveNetwork) -> None:
    running = await pids(network)
    assert (await ask(network, "/?hangs=before")).headers["x-origin-region"] == "EU"
    with frozen(running["origin-eu"]):
        began_s = monotonic()
        first = await ask(network, "/?hangs=first")
        assert (first.status_code, first.headers["x-origin-region"]) == (200, "NA")
        assert monotonic() - began_s < 9  # its checks have found it out, not the request's own limit of 10 s
        began_s = monotonic()
        second = await ask(network, "/?hangs=second")
        assert second.headers["x-origin-region"] == "NA"
        assert monotonic() - began_s < 1

    async def is_back() -> bool:
        return (await ask(network, f"/?hangs={monotonic()}")).headers["x-origin-region"] == "EU"

    await until(is_back)


async def test_with_every_origin_gone_the_cache_answers_and_the_rest_says_why(network: LiveNetwork) -> None:
    running = await pids(network)
    path = "/?gone=cached"
    body = (await ask(network, path)).content
    with frozen(*(running[name] for name in ORIGINS)):
        await until(lambda: none_is_up(network))
        assert (await ask(network, path)).headers["x-cache"] == "HIT"
        reload = await ask(network, path, cache_control="no-cache")
        assert (reload.status_code, reload.content) == (200, body)
        assert reload.headers["x-cache"] == "STALE"
        assert "no origin is healthy" in reload.headers["cache-status"]
        gone = await ask(network, "/?gone=uncached")
        assert gone.status_code in (502, 504)
        assert "fwd=miss" in gone.headers["cache-status"]
        assert "-origin.example.com: response timeout" in gone.headers["cache-status"]
        assert gone.headers["server-timing"].startswith('edge;desc="lhr";dur=')
        assert "-origin.example.com: response timeout" in gone.text

    async def is_back() -> bool:
        answer = await ask(network, f"/?gone={monotonic()}")
        return ("x-origin-region", "EU") in answer.headers.items()

    await until(is_back)


async def none_is_up(network: LiveNetwork) -> bool:
    """Whether London's edge has found out that no origin of the shop answers."""
    status = await asyncio.to_thread(network.run, "status", "--json")
    pops = msgspec.json.decode(status.stdout, type=Status).pops
    edges = next(pop for pop in pops if pop.code == "lhr").edges
    shop = {f"{region}-origin.example.com" for region in ("us", "eu", "asia")}
    return not any(up for edge in edges for host, up in edge.origins_up.items() if host in shop)


# --- processes


async def test_cached_traffic_outlives_everything_but_the_worker(
    network: LiveNetwork, tmp_path: Path
) -> None:
    """NATS, the PoP's agent and a function's host die together; only the host's own requests may fail."""
    await in_thread(network, "deploy", project(tmp_path / "mortal", "mortal"))
    host = next(name for name in await pids(network) if name.startswith("lhr/fn:default.mortal."))
    async with load(network, "london") as cached, load(network, "mortal.london") as function:
        await asyncio.gather(*(kill(network, name) for name in ("nats", "lhr/agent", host)))
        await cached.more(50)
        await function.more(20)
        await whole(network)
    assert cached.failures == []
    assert set(cached.pops) == {"lhr"}
    assert len(function.failures) <= USERS
    await in_thread(network, "delete", "mortal")


async def test_a_killed_worker_loses_its_own_requests_and_no_more(network: LiveNetwork) -> None:
    """Connections that it had not accepted wait in its socket, which is the supervisor's."""
    async with load(network, "london") as london, load(network, "tokyo") as tokyo:
        await kill(network, "lhr/edge-0")
        await london.more(50)
    assert len(london.failures) <= USERS
    assert set(london.pops) == {"lhr"}
    assert tokyo.failures == []


async def test_a_worker_that_hangs_is_replaced(network: LiveNetwork) -> None:
    """From outside it looks overloaded, which withdraws no route: its supervisor finds it out."""
    before = await pids(network)
    with frozen(before["lhr/edge-0"]):
        waiting = asyncio.ensure_future(ask(network, "/?hangs=worker"))

        async def is_replaced() -> bool:
            return (await pids(network))["lhr/edge-0"] not in (0, before["lhr/edge-0"])

        await until(is_replaced)
        await asyncio.gather(
            waiting, return_exceptions=True
        )  # in the hands of the one that hung, or in the queue
        assert (await ask(network, "/?hangs=worker")).status_code == 200
    await whole(network)
    assert (await ask(network, "/")).headers["x-edge-location"] == "lhr"


@pytest.mark.parametrize("name", ["api", "gateway"])
async def test_what_a_laptop_has_besides_comes_back_by_itself(network: LiveNetwork, name: str) -> None:
    before = (await pids(network))[name]
    await kill(network, name)
    await whole(network)
    assert (await pids(network))[name] != before
    assert (await ask(network, "/")).headers["x-edge-location"] == "lhr"


@pytest.mark.parametrize("name", ["network", "sjc/supervisor", "sjc/agent"])
async def test_what_looks_after_others_can_freeze_unnoticed(network: LiveNetwork, name: str) -> None:
    process = (await pids(network))[name]
    async with load(network, "san-francisco") as outcome:
        with frozen(process):
            await outcome.more(50)
    assert outcome.failures == []
    assert set(outcome.pops) == {"sjc"}


# --- without a control plane


async def test_a_pop_that_starts_without_nats_serves_from_its_disk(
    network: LiveNetwork, tmp_path: Path
) -> None:
    await in_thread(network, "deploy", project(tmp_path / "kept", "kept"))
    with frozen((await pids(network))["nats"]):
        await in_thread(network, "pop", "kill", "lhr")
        assert (await ask(network, "/", "kept.london")).headers["x-edge-location"] != "lhr"
        await in_thread(network, "pop", "start", "lhr")

        async def serves() -> bool:
            return (await ask(network, "/?from=disk")).headers["x-edge-location"] == "lhr"

        await until(serves)
        function = await ask(network, "/", "kept.london")
        assert (function.status_code, function.text) == (200, "kept")
        assert function.headers["x-edge-location"] == "lhr"
        assert (await ask(network, "/?from=disk")).headers["x-cache"] == "HIT"
    await whole(network)
    await in_thread(network, "delete", "kept")


async def test_deploys_at_the_same_time_disturb_nobody(network: LiveNetwork, tmp_path: Path) -> None:
    names = [f"crowd-{number}" for number in range(4)]
    folders = [project(tmp_path / name, name) for name in names]
    await in_thread(network, "deploy", project(tmp_path / "before", "before"))
    async with load(network, "london") as cached, load(network, "before.tokyo") as function:
        await asyncio.gather(*(in_thread(network, "deploy", folder) for folder in folders))
        for name in names:
            assert (await ask(network, "/", f"{name}.london")).text == name
        await asyncio.gather(*(in_thread(network, "delete", name) for name in names))
    assert cached.failures == []
    assert function.failures == []
    await in_thread(network, "delete", "before")
