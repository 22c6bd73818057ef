"""Names into addresses: how long an answer holds, and what is done when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import dns.rcode
import pytest
import pytest_asyncio
from dns_server import DnsServer

from atoll.errors import AtollError, RemoteError
from atoll.http import resolve
from atoll.http.resolve import Resolver, parse_hosts

NAME = "origin.test"


class Clock:
    """The clock as the resolver sees it."""

    now_s = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(resolve, "monotonic", lambda: clock.now_s)
    return clock


@pytest_asyncio.fixture
async def server() -> AsyncIterator[DnsServer]:
    server = DnsServer()
    await server.start()
    yield server
    server.stop()


@pytest.fixture
def resolver(server: DnsServer, tmp_path: Path) -> Resolver:
    return Resolver([server.address], hosts=tmp_path / "hosts")


async def ask(resolver: Resolver, name: str = NAME) -> set[str]:
    return {str(address) for address in await resolver.addresses(name)}


async def test_both_families_are_asked_and_the_shortest_life_counts(
    server: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    server.records = {(NAME, "A"): (30, ["192.0.2.1", "192.0.2.2"]), (NAME, "AAAA"): (300, ["2001:db8::1"])}
    assert await ask(resolver) == {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
    clock.now_s += 29
    await ask(resolver, NAME.upper() + ".")
    assert server.asked[NAME, "A"] == 1
    server.records[NAME, "A"] = (30, ["192.0.2.3"])
    clock.now_s += 2
    assert await ask(resolver) == {"192.0.2.3", "2001:db8::1"}
    assert server.asked[NAME, "A"] == 2


async def test_aliases_are_followed_and_their_life_counts(
    server: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    server.records = {(NAME, "CNAME"): (5, ["real.test."]), ("real.test", "A"): (300, ["192.0.2.1"])}
    assert await ask(resolver) == {"192.0.2.1"}
    clock.now_s += 6
    await ask(resolver)
    assert server.asked[NAME, "A"] == 2


async def test_who_waits_together_asks_once(server: DnsServer, resolver: Resolver) -> None:
    server.records = {(NAME, "A"): (30, ["192.0.2.1"])}
    answers = await asyncio.gather(*[ask(resolver) for _ in range(20)])
    assert answers == [{"192.0.2.1"}] * 20
    assert server.asked[NAME, "A"] == 1


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
async def test_the_last_good_answer_holds_while_dns_fails(
    server: DnsServer, resolver: Resolver, clock: Clock, rcode: dns.rcode.Rcode
) -> None:
    server.records = {(NAME, "A"): (5, ["192.0.2.1"])}
    await ask(resolver)
    server.rcode = rcode
    clock.now_s += 3600
    assert await ask(resolver) == {"192.0.2.1"}
    asked = server.asked[NAME, "A"]
    assert await ask(resolver) == {"192.0.2.1"}  # not asked again at once
    assert server.asked[NAME, "A"] == asked
    server.rcode = dns.rcode.NOERROR
    server.records = {(NAME, "A"): (5, ["192.0.2.9"])}
    clock.now_s += 3
    assert await ask(resolver) == {"192.0.2.9"}
    server.rcode = rcode
    clock.now_s += 25 * 3600
    with pytest.raises(RemoteError, match=r"DNS cannot answer|DNS does not answer"):
        await ask(resolver)


async def test_a_name_that_is_gone_is_forgotten_soon(
    server: DnsServer, resolver: Resolver, clock: Clock
) -> None:
    server.records = {(NAME, "A"): (5, ["192.0.2.1"])}
    await ask(resolver)
    server.records = {}
    clock.now_s += 10
    assert await ask(resolver) == {"192.0.2.1"}
    clock.now_s += 30
    with pytest.raises(RemoteError, match=r"there is no origin\.test"):
        await ask(resolver)


async def test_a_name_without_addresses(server: DnsServer, resolver: Resolver) -> None:
    server.records = {(NAME, "TXT"): (5, ["x"])}
    with pytest.raises(RemoteError, match=r"no address of origin\.test"):
        await ask(resolver)


async def test_a_family_that_is_late_does_not_hold_up_the_other(
    server: DnsServer, resolver: Resolver
) -> None:
    server.records = {(NAME, "A"): (30, ["192.0.2.1"]), (NAME, "AAAA"): (30, ["2001:db8::1"])}
    server.silent = {(NAME, "AAAA")}
    async with asyncio.timeout(1):
        assert await ask(resolver) == {"192.0.2.1"}
    server.silent = set()  # the question is repeated, and its answer comes after all
    for _ in range(200):
        if len(found := await ask(resolver)) > 1:
            break
        await asyncio.sleep(0.02)
    assert found == {"192.0.2.1", "2001:db8::1"}


async def test_silence_is_an_error_in_time(server: DnsServer, resolver: Resolver) -> None:
    server.silent = {(NAME, "A"), (NAME, "AAAA")}
    async with asyncio.timeout(5):
        with pytest.raises(RemoteError, match=r"DNS does not answer for origin\.test"):
            await ask(resolver)


async def test_the_hosts_file_comes_first_and_is_followed(
    server: DnsServer, resolver: Resolver, tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.7 other.test Origin.Test # comment\n")
    assert await ask(resolver) == {"192.0.2.7"}
    hosts.write_text("# moved\n192.0.2.88\torigin.test\n2001:db8::8 origin.test\nnonsense origin.test\n")
    assert await ask(resolver) == {"192.0.2.88", "2001:db8::8"}
    assert not server.asked


def test_lines_of_a_hosts_file_that_are_none() -> None:
    assert parse_hosts("\n#x\n127.0.0.1\nx y\n300.1.1.1 a\n::1 b b.\n") == {
        "b": (*parse_hosts("::1 c")["c"],) * 2
    }


async def test_literal_addresses_are_no_question(server: DnsServer, resolver: Resolver) -> None:
    assert await ask(resolver, "192.0.2.1") == {"192.0.2.1"}
    assert await ask(resolver, "2001:db8::1") == {"2001:db8::1"}
    assert await ask(resolver, "x.localhost") == {"127.0.0.1", "::1"}
    assert not server.asked


@pytest.mark.parametrize("text", ["dns.test", "192.0.2.1:0", "192.0.2.1:x", ":53", "192.0.2.1:99999"])
def test_a_resolver_that_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(AtollError, match="no DNS resolver"):
        Resolver([text])
