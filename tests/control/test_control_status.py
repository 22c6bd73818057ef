"""Complaints about a network, by table."""

from __future__ import annotations

import msgspec
import pytest

from atoll.config.spec import FunctionSpec
from atoll.control.answers import Pop
from atoll.control.specs import Specs
from atoll.control.status import announces, degraded
from atoll.wire.messages import AnycastStatus, CatchmentRow, CatchmentTable, EdgeStats, ProcessInfo

WELL = AnycastStatus(
    pop="lhr", healthy=True, drain=False, announced=("192.0.2.0/24",), session_up=True, reason="healthy"
)
LHR = Pop(
    code="lhr",
    city="london",
    country="GB",
    asn=64513,
    http_port=1,
    https_port=2,
    state="up",
    seq=7,
    heard_s=0.5,
    anycast=WELL,
)


SPECS = Specs(seq=7)
INTERNET = CatchmentTable(rows=())


def complaints(pop: Pop, specs: Specs = SPECS) -> tuple[str, ...]:
    return degraded(specs, True, INTERNET, [pop], [])


def test_a_certificate_that_is_not_used_is_named_once() -> None:
    """PoPs that share a disk say the same."""
    faults = {"/certificates/a.pem": "it has no private key"}
    edge = EdgeStats(
        seq=7,
        requests=0,
        hits=0,
        misses=0,
        stale=0,
        bypass=0,
        errors=0,
        connections=0,
        cache_bytes=0,
        cache_objects=0,
        certificate_faults=faults,
    )
    pops = [msgspec.structs.replace(LHR, code=code, edges=(edge, edge)) for code in ("lhr", "nrt")]
    assert degraded(SPECS, True, INTERNET, pops, []) == (
        "certificate /certificates/a.pem is not used, what was there before serves: it has no private key",
    )


def test_nothing_is_wrong() -> None:
    assert complaints(LHR) == ()


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"state": "down"}, "lhr is down"),
        ({"seq": 6}, "lhr catches up: it serves seq 6 of 7"),
        ({"seq": 12}, "lhr serves seq 12, the store is at 7: was the store replaced?"),
        ({"heard_s": None}, "lhr's agent is silent"),
        ({"heard_s": 60.0}, "lhr's agent is silent"),
        (
            {"heard_s": 0.9, "processes": (ProcessInfo(name="agent", pid=2, state="ready", uptime_s=0.5),)},
            "lhr's agent has said nothing since it started",
        ),
        ({"anycast": None}, "lhr's anycast role does not answer"),
    ],
)
def test_what_is_wrong_with_a_pop(changes: dict[str, object], complaint: str) -> None:
    assert complaints(msgspec.structs.replace(LHR, **changes)) == (complaint,)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"session_up": False}, "lhr is not announced: no session with the Internet"),
        ({"healthy": False, "reason": "edge-0: 503"}, "lhr is not announced: edge-0: 503"),
        ({"announced": (), "reason": "refused"}, "lhr announces nothing: refused"),
    ],
)
def test_why_it_is_not_announced(changes: dict[str, object], complaint: str) -> None:
    pop = msgspec.structs.replace(LHR, anycast=msgspec.structs.replace(WELL, **changes))
    assert complaints(pop) == (complaint,)


def test_the_widest_complaint_comes_first() -> None:
    dead = ProcessInfo(name="gateway", pid=0, state="backoff")
    found = degraded(None, False, None, [msgspec.structs.replace(LHR, state="down")], [dead])
    assert found[0] == "the network daemon does not answer"
    assert found[1] == "the emulated Internet does not answer"
    assert found[2].startswith("NATS is not reachable")
    assert found[3:] == ("gateway is backoff", "lhr is down")


def test_a_spec_that_cannot_be_read_is_named() -> None:
    (complaint,) = complaints(LHR, Specs(seq=7, unreadable=("fn.default.hello",)))
    assert complaint.startswith("fn.default.hello in the store cannot be read")


def test_a_pop_of_another_store_is_named_and_not_compared() -> None:
    (complaint,) = complaints(msgspec.structs.replace(LHR, store="a", seq=40), Specs(seq=7, store="b"))
    assert complaint.startswith("lhr follows another store")
    assert complaints(msgspec.structs.replace(LHR, store="b"), Specs(seq=7, store="b")) == ()


def test_a_pop_that_is_drained_on_purpose_is_no_complaint() -> None:
    drained = msgspec.structs.replace(WELL, drain=True, announced=())
    assert complaints(msgspec.structs.replace(LHR, anycast=drained)) == ()
    assert not announces(drained)
    assert not announces(None)
    assert announces(WELL)


@pytest.mark.parametrize(
    ("cities", "found"),
    [
        ((), ()),
        (("tokyo", "london"), ("tokyo has no route", "london has no route")),
        (("a", "b", "c", "d"), ("4 cities have no route: a, b, c, …",)),
    ],
)
def test_cities_without_a_route(cities: tuple[str, ...], found: tuple[str, ...]) -> None:
    rows = [CatchmentRow(city=city, asn=1, pop="", as_path=(), rtt_ms=0.0) for city in cities]
    served = CatchmentRow(city="paris", asn=2, pop="lhr", as_path=(2, 3), rtt_ms=1.0)
    assert degraded(SPECS, True, CatchmentTable(rows=(*rows, served)), [LHR], []) == found


@pytest.mark.parametrize(
    ("functions", "found"),
    [
        ({"default.hello": "v2"}, ()),
        ({"default.hello": "v1"}, ("lhr serves default.hello v1, not v2",)),
        ({}, ("lhr does not serve default.hello",)),
        ({"default.hello": "v2", "default.old": "v1"}, ("lhr serves default.old v1, which was removed",)),
        ({"default.hello": "v2", "default.odd": "v1"}, ()),
    ],
)
def test_what_serves_is_compared_with_what_should(functions: dict[str, str], found: tuple[str, ...]) -> None:
    hello, off = FunctionSpec(name="hello", active="v2"), FunctionSpec(name="off", active="")
    specs = Specs(seq=7, functions=(hello, off), unreadable=("fn.default.odd",))
    unread, *about = complaints(msgspec.structs.replace(LHR, functions=functions), specs)
    assert unread.startswith("fn.default.odd")
    assert tuple(about) == found
