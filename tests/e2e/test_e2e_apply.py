"""Policy files in a whole network: applied, served everywhere, refused as a whole, kept over a restart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from edge_world import Server, page
from live_network import LiveNetwork

pytestmark = pytest.mark.real

CITIES = ("tokyo", "london", "new-york")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    """A network of its own: it is restarted here, and its sites change."""
    live = LiveNetwork(tmp_path_factory.mktemp("apply"))
    try:
        live.up("--no-deploy")
        yield live
    finally:
        assert live.ask("down")["killed"] == []


@pytest_asyncio.fixture
async def origin() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    server.answer = lambda asked: page(asked.fields[b"host"] + asked.target, b"max-age=60")
    yield server
    server.stop()


@pytest.fixture
def policy(tmp_path: Path, origin: Server) -> Path:
    file = tmp_path / "policy.toml"
    file.write_text(
        f'[[pool]]\nname = "mine"\norigins = ["http://127.0.0.1:{origin.port}"]\n\n'
        '[[site]]\nname = "mine"\nhost = "mine.example.com"\n\n'
        '[[site.route]]\npool = "mine"\n\n'
        '[[site.route]]\npath = "/closed/*"\npool = "mine"\n'
        '[site.route.admission.access]\notherwise = "deny"\nallow = ["192.0.2.0/24"]\n'
    )
    return file


async def seen(network: LiveNetwork, path: str, site: str = "mine") -> set[tuple[int, str]]:
    """What users in some cities get."""
    answers = [await network.get(f"{site}.{city}", path) for city in CITIES]
    return {(answer.status_code, answer.text if answer.status_code == 200 else "") for answer in answers}


async def test_a_policy_is_shown_applied_served_and_pruned(network: LiveNetwork, policy: Path) -> None:
    before = network.ask("sites")
    shown = network.ask("apply", str(policy), "--dry-run")
    assert [(change["kind"], change["action"]) for change in shown["changes"]] == [
        ("origin", "add"),
        ("pool", "add"),
        ("site", "add"),
    ]
    assert (shown["seq"], shown["pops"]) == (None, {})
    assert network.ask("sites") == before
    assert {status for status, _ in await seen(network, "/a")} == {404}

    applied = network.ask("apply", str(policy))
    assert applied["changes"] == shown["changes"]
    assert {pop: receipt["state"] for pop, receipt in applied["pops"].items()} == dict.fromkeys(
        ("sjc", "iad", "lhr", "sin", "nrt"), "active"
    )
    assert await seen(network, "/a") == {(200, "mine.example.com/a")}
    assert await seen(network, "/closed/a") == {(403, "")}
    assert {status for status, _ in await seen(network, "/", "shop")} == {200}

    again = network.run("apply", str(policy))
    assert "the network is that way already" in again.stderr
    listed = {site["name"]: site for site in network.ask("sites")["sites"]}
    assert listed["mine"]["source"] == "policy"
    assert listed["www"]["source"] == "network"
    assert listed["mine"]["routes"][1]["rules"] == ["access"]

    policy.write_text("")
    pruned = network.ask("apply", str(policy), "--prune")
    assert [change["action"] for change in pruned["changes"]] == ["remove"] * 3
    assert network.ask("sites") == before
    assert {status for status, _ in await seen(network, "/a")} == {404}


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ('pool = "mine"\n\n', 'pool = "nosuch"\n\n', 10, "no pool 'nosuch'"),
        ('pool = "mine"\n\n', 'function = "nosuch"\n\n', None, "no function nosuch"),
        ("192.0.2.0/24", "192.0.2/24", 17, "is no network prefix"),
        ("mine.example.com", "example.com:80", 7, "is no host name"),
        ('name = "mine"\norigins', 'name = "mine"\nshield = "xyz"\norigins', None, "no PoP xyz"),
        ("allow = [", "alow = [", 17, "is no field"),
    ],
)
async def test_what_cannot_be_served_changes_nothing(
    network: LiveNetwork, policy: Path, old: str, new: str, line: int | None, said: str
) -> None:
    before = network.ask("sites")
    policy.write_text(policy.read_text().replace(old, new, 1))
    done = network.run("apply", str(policy))
    assert done.returncode == 1
    assert said in done.stderr
    if line is not None:
        assert f"{policy}:{line}" in done.stderr
    assert "Traceback" not in done.stderr
    assert network.ask("sites") == before


async def test_a_site_of_the_networks_is_replaced_until_it_is_pruned(
    network: LiveNetwork, policy: Path
) -> None:
    policy.write_text(
        policy.read_text().replace('name = "mine"\nhost = "mine.example.com"', 'host = "shop.example.com"')
    )
    network.ask("apply", str(policy))
    try:
        assert await seen(network, "/a", "shop") == {(200, "shop.example.com/a")}
        purged = network.ask("purge", "http://shop.example.com/a")
        assert {pop["state"] for pop in purged[0]["pops"].values()} == {"applied"}
    finally:
        policy.write_text("")
        network.ask("apply", str(policy), "--prune")
    assert {status for status, _ in await seen(network, "/a", "shop")} == {404}


async def test_functions_and_policies_leave_each_other_alone(
    network: LiveNetwork, policy: Path, tmp_path: Path
) -> None:
    project = tmp_path / "fn"
    project.mkdir()
    (project / "worker.js").write_text(
        'export default { fetch() { return new Response("from the function") } }\n'
    )
    (project / "wrangler.toml").write_text(
        'name = "both"\nmain = "worker.js"\ncompatibility_date = "2026-01-01"\n'
        'routes = ["mine.example.com/fn/*"]\n'
    )
    network.ask("apply", str(policy))
    try:
        network.ask("deploy", str(project))
        assert await seen(network, "/fn/x") == {(200, "from the function")}
        assert await seen(network, "/b") == {(200, "mine.example.com/b")}
        network.ask("apply", str(policy))
        assert await seen(network, "/fn/y") == {(200, "from the function")}
        network.ask("delete", "both")
        assert await seen(network, "/fn/z") == {(200, "mine.example.com/fn/z")}
    finally:
        policy.write_text("")
        network.ask("apply", str(policy), "--prune")


async def test_what_was_applied_is_there_after_a_restart_and_secrets_are_not_shown(
    network: LiveNetwork, policy: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2-hunter2-hunter2\n")
    challenged = f'[site.route.admission.challenge]\nsecret = {{ file = "{secret}" }}\n'
    policy.write_text(policy.read_text() + '[[site.route]]\npath = "/proof/*"\npool = "mine"\n' + challenged)
    shown = network.run("apply", str(policy))
    listed = network.run("sites", "--json")
    assert "hunter2" not in shown.stdout + shown.stderr + listed.stdout + network.run("logs").stdout
    network.ask("down")
    network.up("--no-deploy")
    assert "mine" in {site["name"] for site in json.loads(network.run("sites", "--json").stdout)["sites"]}
    assert await seen(network, "/a") == {(200, "mine.example.com/a")}
    assert await seen(network, "/proof/a") == {(403, "")}
    assert "the network is that way already" in network.run("apply", str(policy)).stderr
