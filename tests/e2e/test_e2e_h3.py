"""HTTP/3 in a whole network: beside the other protocols, over a change of workers, after a death."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from faults import kill, pids, until
from http3_client import LIBRARIES, connected
from live_network import LiveNetwork

from atoll.config.spec import NetworkSpec
from atoll.wire import frames
from atoll.wire.messages import Ok, RestartRole

pytestmark = pytest.mark.real

POP = "nrt"
HOST = "tokyo.localhost"


def udp_of(network: LiveNetwork) -> tuple[str, int]:
    """Where the PoP speaks HTTP/3: on the number of its HTTPS port."""
    spec = msgspec.json.decode(network.paths.network_file.read_bytes(), type=NetworkSpec)
    pop = next(pop for pop in spec.pops if pop.code == POP)
    return pop.address, pop.https_port


@pytest.mark.parametrize("using", LIBRARIES)
async def test_the_shop_answers(network: LiveNetwork, using: str) -> None:
    async with connected(udp_of(network), HOST, using=using) as client:
        for _ in range(3):
            answer = await client.ask("/")
            assert (answer.status, answer.field("x-edge-location")) == (200, POP)
        assert answer.field("x-cache") == "HIT"
        assert b"<html" in answer.body


async def test_tls_says_where_http_3_is_spoken_and_plain_http_does_not(network: LiveNetwork) -> None:
    _, port = udp_of(network)
    async with network.client() as client:
        assert "alt-svc" not in (await client.get("/", headers={"host": HOST})).headers
    done = await asyncio.create_subprocess_exec(
        *("curl", "-sk", "-o", "/dev/null", "-D-", "--resolve", f"{HOST}:{network.https_port}:127.0.0.1"),
        f"https://{HOST}:{network.https_port}/",
        stdout=asyncio.subprocess.PIPE,
    )
    head = (await done.communicate())[0].decode().lower()
    assert f'alt-svc: h3=":{port}"; ma=' in head


async def test_a_worker_is_replaced_under_open_connections(network: LiveNetwork) -> None:
    address = udp_of(network)
    before = (await pids(network))[f"{POP}/edge-h3"]
    failures, served = 0, 0
    stop = asyncio.Event()

    async def visit() -> None:
        nonlocal failures, served
        while not stop.is_set():
            async with connected(address, HOST) as client:
                for _ in range(20):
                    if client.closed.is_set() or stop.is_set():
                        break
                    answer = await client.ask("/")
                    served += answer.status == 200
                    # Told to go (GOAWAY), or closed between two requests: what was refused may be repeated.
                    failures += answer.status not in (0, 200) or answer.reset not in (None, 0x10B)

    visitors = [asyncio.ensure_future(visit()) for _ in range(4)]
    supervisor = network.paths.pop_run(POP) / "supervisor.sock"
    assert isinstance(await frames.ask(supervisor, RestartRole(name="edge-h3"), 30), Ok)
    served_before = served

    async def more() -> bool:
        return served >= served_before + 50

    await until(more)
    stop.set()
    await asyncio.gather(*visitors)
    assert failures == 0
    assert (await pids(network))[f"{POP}/edge-h3"] != before


async def test_a_killed_worker_comes_back_and_holds_up_nobody_else(network: LiveNetwork) -> None:
    before = (await pids(network))[f"{POP}/edge-h3"]
    await kill(network, f"{POP}/edge-h3")
    assert (await network.get("tokyo")).headers["x-edge-location"] == POP

    async def back() -> bool:
        return (await pids(network))[f"{POP}/edge-h3"] not in (0, before)

    await until(back)
    async with connected(udp_of(network), HOST) as client:
        assert (await client.ask("/")).status == 200
