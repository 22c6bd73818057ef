"""What a PoP serves while versions come and go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atoll.config.spec import FunctionRuntime, FunctionSpec, FunctionVersion, NetworkSpec, PopSpec
from atoll.control import reconcile
from atoll.control.specs import Specs

VERSIONS = tuple(
    FunctionVersion(id=f"v{n}", bundle=f"bundle-{n}", number=n, created_s=0.0, size=1) for n in range(1, 5)
)
POP = PopSpec(
    code="lhr", index=2, asn=64513, city="london", country="GB", continent="EU", lat=51.5, lon=-0.1,
    http_port=1, https_port=2,
)  # fmt: skip
NETWORK = NetworkSpec(
    name="test", prefixes=(), anycast4="192.0.2.1", anycast6="2001:db8::1", pops=(POP,), eyeballs=(),
    origins=(), pools=(), sites=(), default_site="",
)  # fmt: skip


def function(active: str, previous: str = "") -> FunctionSpec:
    return FunctionSpec(name="f", active=active, previous=previous, versions=VERSIONS, routes=("f.test/*",))


def sockets(*versions: str) -> dict[str, str]:
    return {f"default.f.{version}": f"/{version}.sock" for version in versions}


def test_the_active_and_the_previous_host_are_wanted() -> None:
    wanted = reconcile.wanted_hosts([function("v3", "v1")], {})
    assert wanted == {"default.f.v1": "bundle-1", "default.f.v3": "bundle-3"}


def test_what_serves_is_wanted_too() -> None:
    wanted = reconcile.wanted_hosts([function("v3", "v2")], {"default.f": "v1"})
    assert set(wanted) == set(sockets("v1", "v2", "v3"))


def test_the_active_version_serves_when_it_is_ready() -> None:
    assert reconcile.serving_versions([function("v2", "v1")], sockets("v1", "v2"), {"default.f": "v1"}) == {
        "default.f": "v2"
    }


def test_until_then_what_served_serves_on() -> None:
    served = {"default.f": "v1"}
    assert reconcile.serving_versions([function("v3", "v2")], sockets("v1", "v2"), served) == served
    assert not reconcile.up_to_date([function("v3", "v2")], served)


def test_a_cold_pop_may_start_with_the_previous_version() -> None:
    assert reconcile.serving_versions([function("v3", "v2")], sockets("v2"), {}) == {"default.f": "v2"}


def test_the_snapshot_carries_sockets_and_compiled_sites() -> None:
    specs = Specs(seq=7, network=NETWORK, functions=(function("v2"),))
    snapshot = reconcile.snapshot(specs, POP, sockets("v2"), {"default.f": "v2"})
    assert snapshot.seq == 7
    assert snapshot.functions == (
        FunctionRuntime(name="f", version="v2", socket="/v2.sock", routes=("f.test/*",)),
    )
    assert [site.host for site in snapshot.network.sites] == ["f.test"]


_id = st.sampled_from(["", "v1", "v2", "v3", "v4"])


@given(_id, _id, _id, st.sets(st.sampled_from(["v1", "v2", "v3", "v4"])))
def test_only_ready_hosts_serve_and_a_ready_active_one_always_does(
    active: str, previous: str, served: str, ready: set[str]
) -> None:
    spec = function(active, previous)
    serving = reconcile.serving_versions([spec], sockets(*ready), {"default.f": served} if served else {})
    chosen = serving.get("default.f")
    assert chosen is None or chosen in ready
    if active in ready:
        assert chosen == active
    elif served in ready:
        assert chosen == served
    wanted = reconcile.wanted_hosts([spec], serving)
    assert chosen is None or f"default.f.{chosen}" in wanted
