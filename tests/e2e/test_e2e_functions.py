"""Functions deployed to a whole network by the command, the way their author would do it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from pathlib import Path
from time import monotonic

import httpx
import pytest
from faults import until
from live_network import LiveNetwork
from load import load

from atoll.functions.workers.binaries import CHECKOUT

pytestmark = pytest.mark.real

POPS = ("sjc", "iad", "lhr", "sin", "nrt")


def project(folder: Path, name: str, script: str, main: str = "worker.js") -> Path:
    """A function's directory; it answers for `<name>.test`."""
    folder.mkdir(exist_ok=True)
    (folder / main).write_text(script)
    (folder / "wrangler.toml").write_text(
        f'name = "{name}"\nmain = "{main}"\ncompatibility_date = "2026-11-01"\nroutes = ["{name}.test/*"]\n'
    )
    return folder


def says(text: str) -> str:
    return f'export default {{ fetch() {{ return new Response("{text}") }} }}\n'


async def ask(network: LiveNetwork, host: str, path: str = "/", **headers: str) -> httpx.Response:
    async with network.client() as client:
        return await client.get(path, headers={"host": host, **headers})


async def test_the_smart_routing_example(network: LiveNetwork) -> None:
    change = network.ask("deploy", str(CHECKOUT / "examples/smart-routing"))
    assert {pop: receipt["state"] for pop, receipt in change["pops"].items()} == dict.fromkeys(POPS, "active")
    try:
        path = "/?seen-by=the-smart-routing-example"
        first, second = await network.get("tokyo", path), await network.get("tokyo", path)
        assert [answer.headers["x-cache"] for answer in (first, second)] == ["MISS", "HIT"]
        assert first.headers["x-edge-location"] == "nrt"
        assert first.headers["cache-status"].startswith("atoll-nrt; ")
        assert first.headers["cache-control"] == "public, max-age=60"
        assert first.content == second.content
        origins = {}
        for city in ("new-york", "london", "tokyo", "sydney"):
            answer = await network.get(city, path)
            origins[city] = answer.headers["x-origin"].removeprefix("https://").partition("-")[0]
        # Sydney's own origin does not exist: the Worker finds it unhealthy and takes North America's.
        assert origins == {"new-york": "us", "london": "eu", "tokyo": "asia", "sydney": "us"}
    finally:
        network.ask("delete", "smart-routing")


async def test_the_ab_example_keeps_users_where_they_were(network: LiveNetwork) -> None:
    network.ask("deploy", str(CHECKOUT / "examples/ab-test"))
    try:
        first = await ask(network, "ab.london.localhost")
        variant = first.headers["x-experiment-variant"]
        assert f"experiment_variant={variant}" in first.headers["set-cookie"]
        pages: dict[str, str] = {}
        for wanted in ("A", "B"):
            again = await ask(network, "ab.london.localhost", cookie=f"experiment_variant={wanted}")
            assert again.headers["x-experiment-variant"] == wanted
            pages[wanted] = again.text
        assert pages["A"] != pages["B"]
        clock = re.compile(r"\d\d:\d\d:\d\d")
        assert clock.sub("", first.text) == clock.sub("", pages[variant])
    finally:
        network.ask("delete", "ab-test")


async def test_versions_go_forth_and_back_without_a_failure(network: LiveNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "greeter"
    network.ask("deploy", str(project(folder, "greeter", says("one"))))
    async with load(network, "greeter.london") as outcome:
        second = network.ask("deploy", str(project(folder, "greeter", says("two"))))
        assert (second["number"], second["previous"]) == (2, network.ask("versions", "greeter")[0]["id"])
        for _ in range(3):
            network.ask("rollback", "greeter")
            assert (await ask(network, "greeter.test")).text == "one"
            network.ask("rollback", "greeter", "--to", "2")
            assert (await ask(network, "greeter.test")).text == "two"
    assert outcome.failures == []
    unknown = network.run("rollback", "greeter", "--to", "9")
    assert unknown.returncode == 1
    assert "greeter has no version 9" in unknown.stderr
    assert "there are 1, 2" in unknown.stderr
    network.ask("delete", "greeter")
    assert network.run("versions", "greeter").returncode == 1
    assert (await ask(network, "greeter.test")).status_code == 404


async def test_a_script_with_a_syntax_error_is_refused_in_the_runtimes_words(
    network: LiveNetwork, tmp_path: Path
) -> None:
    folder = tmp_path / "typo"
    network.ask("deploy", str(project(folder, "typo", says("fine"))))
    refused = network.run("deploy", str(project(folder, "typo", "export default {\n  fetch( {\n}\n")))
    assert refused.returncode == 1
    assert "SyntaxError" in refused.stderr
    assert "worker.js:" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert (await ask(network, "typo.test")).text == "fine"
    assert [version["number"] for version in network.ask("versions", "typo")] == [1]
    network.ask("delete", "typo")


def test_a_bad_wrangler_file_names_its_line_and_field(network: LiveNetwork, tmp_path: Path) -> None:
    folder = project(tmp_path / "bad", "bad", says("never"))
    (folder / "wrangler.toml").write_text('name = "bad"\nmain = "worker.js"\ncompatibility_date = 2026\n')
    refused = network.run("deploy", str(folder))
    assert refused.returncode == 1
    assert f"at    {folder}/wrangler.toml:3" in refused.stderr
    assert "compatibility_date" in refused.stderr
    assert network.run("deploy", str(tmp_path / "nowhere")).returncode == 1


async def test_a_script_that_throws_answers_500_and_says_why_in_its_log(
    network: LiveNetwork, tmp_path: Path
) -> None:
    script = "export default {\n  fetch() { throw new Error('the stock is a lie') }\n}\n"
    network.ask("deploy", str(project(tmp_path / "thrower", "thrower", script)))
    answer = await ask(network, "thrower.test")
    assert answer.status_code == 500
    assert "x-edge-location" in answer.headers

    async def logged() -> bool:
        done = await asyncio.to_thread(network.run, "logs", "--function", "thrower")
        return "the stock is a lie" in done.stdout and "worker.js:2" in done.stdout

    await until(logged)
    network.ask("delete", "thrower")


async def test_an_endless_loop_costs_its_own_requests_a_second_and_others_nothing(
    network: LiveNetwork, tmp_path: Path
) -> None:
    script = (
        "export default { fetch(request) {\n"
        "  if (new URL(request.url).pathname === '/loop') { for (;;) {} }\n"
        "  return new Response('well');\n} }\n"
    )
    network.ask("deploy", str(project(tmp_path / "looper", "looper", script)))
    network.ask("deploy", str(project(tmp_path / "neighbour", "neighbour", says("calm"))))
    async with load(network, "neighbour.london") as outcome:
        began_s = monotonic()
        looped = await ask(network, "looper.london.localhost", "/loop")
        took_s = monotonic() - began_s
        assert looped.status_code == 503
        assert took_s < 1.0

        async def is_back() -> bool:
            return (await ask(network, "looper.london.localhost")).text == "well"

        await until(is_back, 5)
    assert outcome.failures == []
    assert outcome.longest_s < 0.5
    network.ask("delete", "looper")
    network.ask("delete", "neighbour")


async def test_a_killed_host_comes_back(network: LiveNetwork, tmp_path: Path) -> None:
    network.ask("deploy", str(project(tmp_path / "mortal", "mortal", says("alive"))))
    status = network.ask("status")
    lhr = next(pop for pop in status["pops"] if pop["code"] == "lhr")
    host = next(process for process in lhr["processes"] if "mortal" in process["name"])
    os.kill(host["pid"], signal.SIGKILL)

    async def is_back() -> bool:
        return (await ask(network, "mortal.london.localhost")).status_code == 200

    await until(is_back, 5)
    network.ask("delete", "mortal")


async def test_a_pop_that_was_down_catches_up_by_itself(network: LiveNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "absent"
    network.ask("deploy", str(project(folder, "absent", says("before"))))
    network.ask("pop", "kill", "nrt")
    deployed = network.run("deploy", str(project(folder, "absent", says("after"))), "--json")
    assert deployed.returncode == 3
    change = json.loads(deployed.stdout)
    assert change["pops"]["nrt"]["state"] == "catches up"
    assert change["pops"]["lhr"]["state"] == "active"
    network.ask("pop", "start", "nrt")

    async def is_whole() -> bool:
        return (await asyncio.to_thread(network.run, "status")).returncode == 0

    await until(is_whole, 30)
    answer = await ask(network, "absent.tokyo.localhost")
    assert (answer.text, answer.headers["x-edge-location"]) == ("after", "nrt")
    network.ask("delete", "absent")


def test_a_rollout_fails_no_request(network: LiveNetwork) -> None:
    outcome = network.ask("lab", "rollout", "--trials", "2", "--rate", "40", "--limit-ms", "5000")
    assert [step["action"] for step in outcome["trials"]] == ["deploy", "rollback"] * 2
    assert all(set(step["served_ms"]) == set(POPS) for step in outcome["trials"])
    assert outcome["failed_requests"] == 0
    assert outcome["requests"] > 0
    assert network.run("versions", "lab-rollout").returncode == 1


async def test_the_token_is_needed(network: LiveNetwork) -> None:
    base = f"http://127.0.0.1:{network.api_port}"
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        assert (await client.get("/v1/status")).status_code == 401
        assert (await client.get("/v1/health")).json()["ok"] is True
        described = (await client.get("/openapi.json")).json()
    assert "/v1/functions/{name}/deploy" in json.dumps(described)
