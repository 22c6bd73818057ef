"""A purge that has been acknowledged is over at every PoP, also at one that has heard of nothing."""

from __future__ import annotations

import json

import pytest
from live_network import LiveNetwork

pytestmark = pytest.mark.real


def test_nobody_is_served_what_has_been_purged(network: LiveNetwork) -> None:
    done = network.run("lab", "purge", "--trials", "5", "--rate", "60", "--json")
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["evidence"] == []
    assert {trial["kind"] for trial in outcome["trials"]} == {"url", "tag", "prefix", "host", "all"}
    assert outcome["checked"] > 100
    assert (outcome["stale"], outcome["wrong"], outcome["errors"]) == (0, 0, {})
    assert done.returncode == 0


def test_softly_neither(network: LiveNetwork) -> None:
    outcome = network.ask("lab", "purge", "--trials", "5", "--rate", "60", "--soft")
    assert outcome["soft"]
    assert outcome["checked"] > 100
    assert (outcome["stale"], outcome["wrong"]) == (0, 0)


def test_strict_routes_stay_current_where_nothing_is_heard(network: LiveNetwork) -> None:
    cut_off = ("--partition", "nrt", "--restart")
    done = network.run("lab", "purge", "--trials", "2", "--rate", "40", *cut_off, "--json")
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
    lapsed, gone, restarted = outcome["trials"]
    assert [trial["partition"] for trial in outcome["trials"]] == ["lapses", "gone", "restarted"]
    assert lapsed["states"]["lapsed"] >= 1
    assert gone["states"]["gone"] >= 1
    assert restarted["states"]["gone"] >= 1  # its worker is another, and has heard of nothing either
    assert outcome["evidence"] == []
    assert 3000 < outcome["ack_lapsed_ms"]["max"] < 6000  # the lease's end, and no later
    assert outcome["ack_gone_ms"]["max"] < 2000  # who is known to be gone is not waited for
    assert outcome["catch_up_ms"]["max"] < 5000
    assert (outcome["stale"], outcome["wrong"]) == (0, 0)
    assert network.ask("status")["degraded"] == []
