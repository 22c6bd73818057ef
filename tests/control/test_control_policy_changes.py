"""What would be another way, in the words of a policy file."""

from __future__ import annotations

import msgspec
import pytest
from networks import network, pop

from atoll.config.admission import AdmissionSpec, ChallengeSpec, RateLimitSpec, SignedUrlSpec, SigningKeySpec
from atoll.config.compression import CompressionSpec
from atoll.config.spec import NetworkSpec, OriginSpec, PoolSpec, RouteSpec, SiteSpec
from atoll.control.policy_changes import CHANGED, HIDDEN, FieldChange, SpecChange, changes

SITE = SiteSpec(name="s", host="s.example", routes=(RouteSpec(pool="p"),))
POOL = PoolSpec(name="p", origins=("o",))
ORIGIN = OriginSpec(host="o", url="http://127.0.0.1:1")
BASE = msgspec.structs.replace(network(pop("lhr", 0)), sites=(SITE,), pools=(POOL,), origins=(ORIGIN,))


def with_route(**more: object) -> NetworkSpec:
    changed = msgspec.structs.replace(RouteSpec(pool="p"), **more)
    return msgspec.structs.replace(BASE, sites=(msgspec.structs.replace(SITE, routes=(changed,)),))


def of_site(after: NetworkSpec, before: NetworkSpec = BASE) -> list[tuple[str, str, str]]:
    [change] = changes(before, after)
    assert (change.kind, change.name, change.action) == ("site", "s", "change")
    return [(field.field, field.before, field.after) for field in change.fields]


def test_nothing_is_no_change() -> None:
    assert changes(BASE, BASE) == ()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cache", False, ("route[/*].cache", "", "false")),
        ("stale_if_error_s", 3600, ("route[/*].stale_if_error", "", "1h")),
        ("slice_bytes", 1048576, ("route[/*].slice_bytes", "", "1MB")),
        ("upgrades", (), ("route[/*].upgrades", "", "none")),
        ("compression", CompressionSpec(), ("route[/*].compression", "", "true")),
        ("admission", AdmissionSpec(max_body=1024), ("route[/*].admission.max_body", "", "1KB")),
        ("admission", AdmissionSpec(methods=("GET", "PUT")), ("route[/*].admission.methods", "", "GET, PUT")),
    ],
)
def test_fields_are_said_as_a_file_says_them(field: str, value: object, said: tuple[str, str, str]) -> None:
    assert of_site(with_route(**{field: value})) == [said]


def test_what_is_back_as_it_was_by_itself_has_nothing_after() -> None:
    assert of_site(BASE, with_route(cache=False)) == [("route[/*].cache", "false", "")]


def test_items_go_by_their_names() -> None:
    before = with_route(admission=AdmissionSpec(limits=(RateLimitSpec(name="a", rate=1),)))
    after = with_route(
        admission=AdmissionSpec(limits=(RateLimitSpec(name="b", rate=9), RateLimitSpec(name="a", rate=2)))
    )
    assert of_site(after, before) == [
        ("route[/*].admission.limit[b].rate", "", "9"),
        ("route[/*].admission.limit[a].rate", "1", "2"),
    ]


def test_secrets_are_compared_and_never_shown() -> None:
    def signed(secret: str) -> NetworkSpec:
        keys = (SigningKeySpec(id="k", secret=secret),)
        challenge = ChallengeSpec(secret=secret)
        return with_route(admission=AdmissionSpec(challenge=challenge, signed_url=SignedUrlSpec(keys=keys)))

    one, two = signed("hunter2-hunter2-1"), signed("hunter2-hunter2-2")
    shown = [*changes(BASE, one), *changes(one, two), *changes(one, BASE)]
    assert "hunter2" not in msgspec.json.encode(shown).decode()
    assert of_site(two, one) == [
        ("route[/*].admission.challenge.secret", HIDDEN, CHANGED),
        ("route[/*].admission.signed_url.key[k].secret", HIDDEN, CHANGED),
    ]
    assert changes(one, signed("hunter2-hunter2-1")) == ()


def test_what_comes_and_what_goes() -> None:
    other = msgspec.structs.replace(
        BASE,
        origins=(OriginSpec(host="n", url="http://127.0.0.1:2"),),
        resolvers=("192.0.2.53",),
    )
    assert changes(BASE, other) == (
        SpecChange(
            kind="origin",
            name="n",
            action="add",
            fields=(FieldChange("url", "", "http://127.0.0.1:2"),),
        ),
        SpecChange(kind="origin", name="o", action="remove"),
        SpecChange(
            kind="network",
            name="test",
            action="change",
            fields=(FieldChange("resolvers", "", "192.0.2.53"),),
        ),
    )
