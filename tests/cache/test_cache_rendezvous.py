"""Rendezvous hashing: one order for everybody, little moves, loads are even."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from atoll.cache.rendezvous import ranked

_MEMBERS = st.lists(st.text("abcdefgh/0123", min_size=1, max_size=6), min_size=1, max_size=6, unique=True)


@given(st.binary(max_size=40), _MEMBERS)
def test_the_order_of_members_does_not_matter(key: bytes, members: list[str]) -> None:
    shuffled = sorted(members)
    assert ranked(key, members) == ranked(key, shuffled)


@given(st.binary(max_size=40), _MEMBERS, st.integers(0, 5))
def test_a_member_that_leaves_moves_only_what_it_owned(key: bytes, members: list[str], index: int) -> None:
    gone = members[index % len(members)]
    before = ranked(key, members)
    after = ranked(key, [member for member in members if member != gone])
    assert after == [member for member in before if member != gone]


def test_every_member_owns_its_share() -> None:
    members = [f"m/{index}" for index in range(5)]
    owned = Counter(ranked(b"https://shop.example/%d" % number, members)[0] for number in range(20_000))
    assert min(owned.values()) > 3_700
    assert max(owned.values()) < 4_300
