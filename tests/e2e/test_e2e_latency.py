"""`--latency real`: distance can be felt."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import httpx
import pytest
from live_network import LiveNetwork

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def distant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveNetwork]:
    """A network with the model's round trips."""
    live = LiveNetwork(tmp_path_factory.mktemp("distant"))
    try:
        live.up("--latency", "real", "--no-deploy")
        yield live
    finally:
        live.run("down")


async def quickest_s(network: LiveNetwork, city: str) -> float:
    """The quickest of a few cached answers on an open connection: the machine's own noise left aside."""
    times = []
    base = f"http://127.0.0.1:{network.http_port}"
    async with httpx.AsyncClient(base_url=base, trust_env=False) as client:
        for _ in range(5):
            began_s = monotonic()
            response = await client.get("/", headers={"host": f"{city}.localhost"})
            times.append(monotonic() - began_s)
            assert response.status_code == 200
    return min(times[1:])


async def test_an_answer_takes_its_path_s_round_trip(distant: LiveNetwork) -> None:
    status = distant.ask("status")
    assert status["latency"] == "real"
    rtt_s = {row["city"]: row["rtt_ms"] / 1000 for row in status["catchment"]}
    pops = {row["city"]: row["pop"] for row in status["catchment"]}
    assert (pops["london"], pops["sydney"]) == ("lhr", "sin")
    london_s, sydney_s = await quickest_s(distant, "london"), await quickest_s(distant, "sydney")
    assert sydney_s >= rtt_s["sydney"] > 0.05
    assert london_s >= rtt_s["london"]
    assert london_s < rtt_s["london"] + 0.03
    assert sydney_s < rtt_s["sydney"] + 0.03


def test_another_latency_is_refused_while_it_runs(distant: LiveNetwork) -> None:
    other = distant.run("up", "--latency", "off")
    assert other.returncode == 1
    assert "with latency real, not off" in other.stderr
    assert "`atoll down`" in other.stderr
