"""The set of specs after changes: what can be read, what cannot, and what stays."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import network, pop

from atoll.config.spec import FunctionSpec
from atoll.control.specs import Specs, changed, continues, filled, function_key

NETWORK = network(pop("lhr", 0))
HELLO = FunctionSpec(name="hello", active="v1")
KEY = function_key("default", "hello")
KNOWN = Specs(seq=5, network=NETWORK, functions=(HELLO,))

UNREADABLE = [
    b"{",
    b"\xff\xfe",
    b"[]",
    b'{"name": "hello"}',
    b'{"name": "hello", "active": 7}',
    b'{"name": "other", "active": "v9"}',
    b"[" * 100_000,
]


def encoded(value: object) -> bytes:
    return msgspec.json.encode(value)


def test_a_change_sets_and_a_deletion_removes() -> None:
    specs = changed(Specs(), "network", 1, encoded(NETWORK))
    specs = changed(specs, KEY, 2, encoded(HELLO))
    assert specs == Specs(seq=2, network=NETWORK, functions=(HELLO,))
    assert changed(specs, KEY, 3, None) == Specs(seq=3, network=NETWORK)


@pytest.mark.parametrize("value", UNREADABLE)
@pytest.mark.parametrize("key", ["network", KEY])
def test_a_value_that_cannot_be_read_keeps_what_is_known(key: str, value: bytes) -> None:
    after = changed(KNOWN, key, 9, value)
    assert after == msgspec.structs.replace(KNOWN, seq=9, unreadable=(key,))


def test_what_can_be_read_again_is_no_longer_named() -> None:
    broken = changed(changed(KNOWN, KEY, 6, b"{"), "network", 7, b"{")
    assert broken.unreadable == (KEY, "network")
    after = changed(broken, KEY, 8, encoded(msgspec.structs.replace(HELLO, active="v2")))
    assert (after.unreadable, after.functions[0].active) == (("network",), "v2")
    assert changed(broken, KEY, 8, None).functions == ()


def test_keys_of_a_newer_version_only_advance() -> None:
    assert changed(KNOWN, "sealed.key", 9, b"anything") == msgspec.structs.replace(KNOWN, seq=9)


def test_a_set_that_was_read_anew_is_filled_with_what_was_known() -> None:
    anew = changed(changed(Specs(), "network", 3, b"{"), KEY, 9, b"{")
    assert filled(anew, KNOWN) == Specs(
        seq=9, network=NETWORK, functions=(HELLO,), unreadable=(KEY, "network")
    )
    gone = changed(Specs(), "network", 3, encoded(NETWORK))
    assert filled(gone, KNOWN) == gone, "what was deleted is not brought back"
    newer = msgspec.structs.replace(KNOWN, functions=(msgspec.structs.replace(HELLO, active="v0"),))
    assert filled(KNOWN, newer) == KNOWN, "what can be read is not replaced"


@pytest.mark.parametrize(
    ("known", "specs", "same"),
    [
        (Specs(seq=5, store="a"), Specs(seq=5, store="a"), True),
        (Specs(seq=5, store="a"), Specs(seq=6, store="a"), True),
        (Specs(seq=5, store="a"), Specs(seq=4, store="a"), False),
        (Specs(seq=5, store="a"), Specs(seq=9, store="b"), False),
        (Specs(seq=5, store="a"), Specs(seq=9), False),
        (Specs(), Specs(seq=9, store="a"), True),
        (Specs(seq=5), Specs(seq=4, store="a"), False),
    ],
)
def test_which_store_goes_on_with_what_is_known(known: Specs, specs: Specs, same: bool) -> None:
    assert continues(specs, known) is same


def test_the_identity_is_a_key_of_its_own() -> None:
    assert changed(KNOWN, "store-id", 9, b"a1b2") == msgspec.structs.replace(KNOWN, seq=9, store="a1b2")


@given(st.lists(st.tuples(st.sampled_from(["network", KEY, "fn.", "fn.x", "x"]), st.none() | st.binary())))
def test_nothing_in_the_store_raises(changes: list[tuple[str, bytes | None]]) -> None:
    specs = Specs()
    for seq, (key, value) in enumerate(changes, start=1):
        specs = changed(specs, key, seq, value)
        assert specs.seq == seq
