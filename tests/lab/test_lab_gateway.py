"""The gateway from end to end: real speakers, hub and sockets; PoPs that read PROXY v2."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from time import perf_counter

import pytest
from emulated_lab import get, lab

from atoll.anycast.speaker import GRACEFUL_SHUTDOWN
from atoll.http import proxy_protocol
from atoll.lab import flows


async def test_the_name_says_the_city_and_the_model_the_pop(tmp_path: Path) -> None:
    async with lab(tmp_path, "sjc", "iad", "lhr", "sin", "nrt") as net:
        seen = {}
        for eyeball in net.network.eyeballs:
            streams = await net.connect()
            pop, body = await get(streams, f"shop.{eyeball.city}.localhost:8080")
            port = streams[1].get_extra_info("sockname")[1]
            assert body == f"{eyeball.address4} 192.0.2.1 80 {port}"
            seen[eyeball.city] = pop
        assert seen == {row.city: row.pop for row in net.hub.v4.rows.values()}
        assert seen["london"] == "lhr"
        assert seen["tokyo"] == "nrt"
        assert len(set(seen.values())) == 5


async def test_other_names_come_from_the_default_city_and_v6_from_its_v6_address(tmp_path: Path) -> None:
    async with lab(tmp_path, "iad", "nrt") as net:
        pop, body = await get(await net.connect(v6=True), "www.example.com")
        eyeball = net.network.eyeballs[0]
        assert eyeball.city == "new-york"
        assert pop == "iad"
        assert body.rpartition(" ")[0] == f"{eyeball.address6} 2001:db8:a70::1 80"


async def test_sni_says_the_city_of_a_tls_flow_and_every_byte_arrives(tmp_path: Path) -> None:
    seen: list[tuple[str, int, bytes]] = []
    done = asyncio.Event()

    async def take(
        code: str, parsed: proxy_protocol.Parsed, reader: asyncio.StreamReader, _: asyncio.StreamWriter
    ) -> None:
        seen.append((code, parsed.dest_port, await reader.readexactly(len(hello))))
        done.set()

    inward, outward = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(inward, outward, server_hostname="tokyo.localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outward.read()
    async with lab(tmp_path, "iad", "nrt", handler=take) as net:
        _, writer = await net.connect(443)
        for at in range(0, len(hello), 100):
            writer.write(hello[at : at + 100])
            await writer.drain()
            await asyncio.sleep(0)
        await done.wait()
    assert seen == [("nrt", 443, hello)]


async def test_a_lost_session_moves_its_users_within_50_ms(tmp_path: Path) -> None:
    async with lab(tmp_path, "iad", "lhr") as net:
        streams, other = await net.connect(), await net.connect()
        assert (await get(streams, "london.localhost"))[0] == "lhr"
        assert (await get(other, "new-york.localhost"))[0] == "iad"
        waiting = asyncio.create_task(get(streams, "london.localhost", "/slow"))
        await asyncio.sleep(0)
        started_s = perf_counter()
        await net.speakers["lhr"].close()
        with pytest.raises(ConnectionResetError):
            await waiting
        assert (await get(await net.connect(), "london.localhost"))[0] == "iad"
        assert perf_counter() - started_s < 0.05
        assert (await get(other, "new-york.localhost"))[0] == "iad"


async def test_without_a_route_a_user_is_reset(tmp_path: Path) -> None:
    async with lab(tmp_path, "lhr") as net:
        await net.speakers["lhr"].withdraw("192.0.2.0/24")
        with pytest.raises(ConnectionResetError):
            await get(await net.connect(), "london.localhost")
        assert (await get(await net.connect(v6=True), "london.localhost"))[0] == "lhr"


async def test_a_pop_that_refuses_resets_its_users_at_once(tmp_path: Path) -> None:
    async with lab(tmp_path, "lhr") as net:
        net.pops["lhr"].stop()
        started_s = perf_counter()
        with pytest.raises(ConnectionResetError):
            await get(await net.connect(), "london.localhost")
        assert perf_counter() - started_s < 0.05


async def test_a_drain_keeps_open_flows_until_the_withdrawal(tmp_path: Path) -> None:
    async with lab(tmp_path, "iad", "lhr") as net:
        old = await net.connect()
        assert (await get(old, "london.localhost"))[0] == "lhr"
        await net.announce("lhr", 3, (GRACEFUL_SHUTDOWN,))
        assert (await get(await net.connect(), "london.localhost"))[0] == "iad"
        assert (await get(old, "london.localhost"))[0] == "lhr"
        for prefix in net.network.prefixes:
            await net.speakers["lhr"].withdraw(prefix)
        with pytest.raises(ConnectionResetError):
            await get(old, "london.localhost")


async def test_a_better_pop_that_comes_back_takes_its_users_from_open_flows(tmp_path: Path) -> None:
    async with lab(tmp_path, "iad", "lhr") as net:
        await net.speakers["lhr"].withdraw("192.0.2.0/24")
        old = await net.connect()
        assert (await get(old, "london.localhost"))[0] == "iad"
        await net.announce("lhr")
        with pytest.raises(ConnectionResetError):
            await get(old, "london.localhost")
        assert (await get(await net.connect(), "london.localhost"))[0] == "lhr"


async def test_real_latency_adds_the_paths_round_trips(tmp_path: Path) -> None:
    async with lab(tmp_path, "lhr", latency="real") as net:
        rtt_s = net.hub.v4.rows["tokyo"].rtt_ms / 1000
        assert rtt_s > 0.1
        streams = await net.connect()
        started_s = perf_counter()
        await get(streams, "tokyo.localhost")
        first_s = perf_counter() - started_s
        await get(streams, "tokyo.localhost")
        second_s = perf_counter() - started_s - first_s
        assert 2 * rtt_s - 0.005 < first_s < 2 * rtt_s + 0.05  # the handshake's and the request's
        assert rtt_s - 0.005 < second_s < rtt_s + 0.05


@pytest.mark.parametrize("latency", ["off", "real"])
async def test_a_slow_reader_slows_its_sender_and_loses_nothing(tmp_path: Path, latency: str) -> None:
    total = 24 * 1024 * 1024
    sent = 0

    async def pour(
        _: str, __: proxy_protocol.Parsed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        while sent < total:
            writer.write(sent.to_bytes(8, "big") * 8192)
            sent += 65536
            await writer.drain()
        writer.write_eof()
        assert await reader.read() == b""

    async with lab(tmp_path, "lhr", latency=latency, handler=pour) as net:
        reader, writer = await net.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: london.localhost\r\n\r\n")
        await reader.readexactly(1)
        await asyncio.sleep(0.2)
        assert sent < total - 4 * 1024 * 1024
        body = b"\x00" + await reader.read()
        writer.close()
        assert len(body) == total
        assert all(body[at : at + 8] == at.to_bytes(8, "big") for at in range(0, total, 65536))


@pytest.mark.parametrize("latency", ["off", "real"])
async def test_a_client_may_end_its_side_and_still_gets_the_answer(tmp_path: Path, latency: str) -> None:
    async def echo(
        _: str, __: proxy_protocol.Parsed, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(await reader.read())

    async with lab(tmp_path, "lhr", latency=latency, handler=echo) as net:
        reader, writer = await net.connect()
        data = b"POST / HTTP/1.1\r\nHost: london.localhost\r\n\r\n" + bytes(range(256)) * 4096
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        writer.close()
        await net.gateway.idle()


async def test_a_client_that_says_nothing_is_reset_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows, "SET_UP_S", 0.05)
    async with lab(tmp_path, "lhr") as net:
        reader, writer = await net.connect()
        writer.write(b"GET / HTTP/1.1\r\nHo")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)


async def test_more_flows_than_the_limit_are_reset(tmp_path: Path) -> None:
    async with lab(tmp_path, "lhr") as net:
        net.gateway._max_flows = 1
        first = await net.connect()
        assert (await get(first, "london.localhost"))[0] == "lhr"
        with pytest.raises(ConnectionResetError):
            await get(await net.connect(), "london.localhost")
        first[1].close()
        await net.gateway.idle()
        assert (await get(await net.connect(), "london.localhost"))[0] == "lhr"


async def test_a_pop_that_resets_a_flow_resets_the_user(tmp_path: Path) -> None:
    async with lab(tmp_path, "lhr") as net:
        streams = await net.connect()
        await get(streams, "london.localhost")
        net.pops["lhr"].stop()
        with pytest.raises(ConnectionResetError):
            await get(streams, "london.localhost")
