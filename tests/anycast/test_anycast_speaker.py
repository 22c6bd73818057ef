"""What may be announced: prefixes and attributes as the wire allows them."""

from __future__ import annotations

import pytest

from atoll.anycast.speaker import Announcement, checked
from atoll.errors import AtollError


def test_what_is_valid_stays_and_its_prefix_becomes_canonical() -> None:
    route = Announcement(
        prefix="2001:DB8:0:0::/48",
        prepend=16,
        med=4294967295,
        communities=("65535:0", "0:65535"),
        large_communities=("4294967295:0:1",),
    )
    assert checked(route) == Announcement(
        prefix="2001:db8::/48",
        prepend=16,
        med=4294967295,
        communities=("65535:0", "0:65535"),
        large_communities=("4294967295:0:1",),
    )


@pytest.mark.parametrize(
    ("where", "route"),
    [
        ("prefix", Announcement(prefix="192.0.2.1/24")),
        ("prefix", Announcement(prefix="nowhere")),
        ("prepend", Announcement(prefix="192.0.2.0/24", prepend=17)),
        ("prepend", Announcement(prefix="192.0.2.0/24", prepend=-1)),
        ("med", Announcement(prefix="192.0.2.0/24", med=4294967296)),
        ("med", Announcement(prefix="192.0.2.0/24", med=-1)),
        ("communities", Announcement(prefix="192.0.2.0/24", communities=("65536:0",))),
        ("communities", Announcement(prefix="192.0.2.0/24", communities=("1",))),
        ("communities", Announcement(prefix="192.0.2.0/24", communities=("1:2:3",))),
        ("communities", Announcement(prefix="192.0.2.0/24", communities=("1:-2",))),
        ("communities", Announcement(prefix="192.0.2.0/24", communities=("1:",))),
        ("communities", Announcement(prefix="192.0.2.0/24", communities=("1:²",))),
        ("large_communities", Announcement(prefix="192.0.2.0/24", large_communities=("1:2",))),
        ("large_communities", Announcement(prefix="192.0.2.0/24", large_communities=("4294967296:2:3",))),
    ],
)
def test_what_no_neighbour_would_take_is_refused_with_its_field(where: str, route: Announcement) -> None:
    with pytest.raises(AtollError) as caught:
        checked(route)
    assert caught.value.where == where


def test_a_wrong_community_is_answered_with_a_right_one() -> None:
    with pytest.raises(AtollError, match=r"not a community: 'x' \(such as 65535:65535\)"):
        checked(Announcement(prefix="192.0.2.0/24", communities=("x",)))
