"""What everybody asks for at once is fetched once, and by others when who fetches it dies."""

from __future__ import annotations

import json

import pytest
from live_network import LiveNetwork

pytestmark = pytest.mark.real


def test_all_pops_together_ask_the_origin_once(network: LiveNetwork) -> None:
    outcome = network.ask("lab", "stampede", "--requests", "300", "--trials", "3")
    assert [trial["origin_requests"] for trial in outcome["trials"]] == [1, 1, 1]
    assert (outcome["unanswered"], outcome["wrong"], outcome["retried"]) == (0, 0, 0)


def test_everybody_is_answered_when_the_shield_dies_meanwhile(network: LiveNetwork) -> None:
    done = network.run("lab", "stampede", "--requests", "150", "--trials", "1", "--kill-shield", "--json")
    outcome = json.loads(done.stdout)
    (trial,) = outcome["trials"]
    assert (outcome["shield"], outcome["killed"]) == ("iad", "pop")
    assert trial["retried"] > 0  # its own users, at least
    assert (trial["unanswered"], trial["wrong"]) == (0, 0)
    assert 1 <= trial["origin_requests"] <= 6
    assert network.ask("status")["degraded"] == []
