"""Whatever is killed, and in the middle of whatever: what is served are the right bytes."""

from __future__ import annotations

import json

import pytest
from live_network import LiveNetwork

pytestmark = pytest.mark.real


def test_no_byte_is_wrong_after_writers_are_killed(network: LiveNetwork) -> None:
    done = network.run("lab", "kills", "--trials", "1", "--rate", "20", "--only", "writer", "--json")
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
    assert {kill["kind"] for kill in outcome["kills"]} == {"writer"}
    assert outcome["evidence"] == []
    assert (outcome["wrong"], outcome["stale"], outcome["unanswered"]) == (0, 0, 0)
    assert outcome["unexplained"] == []
    assert sum(kill["cut_off"] for kill in outcome["kills"]) > 0  # it was in the middle of it
    assert outcome["purges"] > 0
    assert network.ask("status")["degraded"] == []


def test_users_notice_nothing_of_what_does_not_serve_them(network: LiveNetwork) -> None:
    only = ("--only", "agent", "--only", "nats")
    outcome = network.ask("lab", "kills", "--trials", "2", "--rate", "20", *only)
    assert outcome["failed"] == {}
    assert outcome["requests"] > 100
    assert (outcome["wrong"], outcome["stale"], outcome["unanswered"]) == (0, 0, 0)
