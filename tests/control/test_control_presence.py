"""What is known of a PoP between two heartbeats."""

from __future__ import annotations

from atoll.control.presence import Presence
from atoll.wire.control import Heartbeat, Receipt

BEAT = Heartbeat(pop="lhr", seq=3, functions={"default.shop": "a"})


async def test_a_receipt_brings_the_heartbeat_before_it_up_to_date() -> None:
    presence = Presence()
    presence.heard(BEAT, 10.0)
    await presence.acknowledged(Receipt(pop="lhr", seq=4, ms=1, functions={"default.shop": "b"}), 10.5)
    last = presence.last("lhr", 11.0)
    assert last is not None
    assert (last[0].seq, last[0].functions, last[1]) == (4, {"default.shop": "b"}, 1.0)


async def test_a_receipt_that_says_nothing_of_functions_leaves_them() -> None:
    presence = Presence()
    presence.heard(BEAT, 10.0)
    await presence.acknowledged(Receipt(pop="lhr", seq=4, ms=1), 10.5)
    last = presence.last("lhr", 11.0)
    assert last is not None
    assert (last[0].seq, last[0].functions) == (4, BEAT.functions)


async def test_a_heartbeat_after_a_receipt_is_the_later_word() -> None:
    presence = Presence()
    await presence.acknowledged(Receipt(pop="lhr", seq=4, ms=1, functions={}), 10.0)
    presence.heard(BEAT, 10.5)
    assert presence.last("lhr", 10.5) == (BEAT, 0.0)


async def test_a_receipt_counts_only_for_the_store_that_counted_it() -> None:
    presence = Presence()
    await presence.acknowledged(Receipt(pop="lhr", seq=40, ms=1, store="before"), 10.0)
    assert await presence.receipts(["lhr"], "after", 4, 0.01) == {}
    await presence.acknowledged(Receipt(pop="lhr", seq=4, ms=1, store="after"), 11.0)
    assert await presence.receipts(["lhr"], "after", 4, 0.01) == {"lhr": 11.0}


async def test_the_last_word_is_the_later_one_also_when_a_store_counts_from_the_start() -> None:
    presence = Presence()
    presence.heard(BEAT, 10.0)
    await presence.acknowledged(Receipt(pop="lhr", seq=1, ms=1, store="after"), 10.5)
    last = presence.last("lhr", 11.0)
    assert last is not None
    assert (last[0].seq, last[0].store) == (1, "after")
