"""Rollout decisions: tables of cases, and what must hold for any history of deploys and rollbacks."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atoll.config.spec import FunctionSpec, FunctionVersion
from atoll.control import rollout
from atoll.control.rollout import Absent, PopReceipt, Preparation, Prepared, Refused
from atoll.errors import RemoteError


def version(number: int) -> FunctionVersion:
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    return FunctionVersion(
        id=digest[:16],
        bundle=digest,
        number=number,
        created_s=float(number),
        size=1,
        routes=(f"v{number}.test/*",),
    )


def deployed(count: int) -> FunctionSpec:
    spec = FunctionSpec(name="hello", active="")
    for number in range(1, count + 1):
        spec = rollout.activated(spec, version(number))
    return spec


class TestAdmit:
    def test_every_pop_that_prepared_is_waited_for(self) -> None:
        assert rollout.admit({"lhr": Prepared(1.0), "nrt": Prepared(2.0)}) == ("lhr", "nrt")

    def test_an_absent_pop_does_not_block(self) -> None:
        assert rollout.admit({"lhr": Absent(), "nrt": Prepared(2.0)}) == ("nrt",)

    def test_one_refusal_refuses_with_the_runtimes_words(self) -> None:
        words = "SyntaxError: Unexpected token"
        with pytest.raises(RemoteError, match="Unexpected token") as raised:
            rollout.admit({"lhr": Prepared(1.0), "nrt": Refused(words, where="index.js:3"), "sin": Absent()})
        assert raised.value.status == 422
        assert raised.value.where == "index.js:3"

    def test_a_refusal_without_a_place_names_the_pops(self) -> None:
        with pytest.raises(RemoteError) as raised:
            rollout.admit({"nrt": Refused("no"), "lhr": Refused("no")})
        assert raised.value.where == "lhr, nrt"

    def test_a_rollback_needs_one_that_can_run_it(self) -> None:
        refused = Refused("no memory")
        assert rollout.admit({"lhr": Prepared(1.0), "nrt": refused, "sin": Absent()}, back=True) == ("lhr",)
        with pytest.raises(RemoteError, match="no memory"):
            rollout.admit({"nrt": refused, "sin": Absent()}, back=True)
        with pytest.raises(RemoteError, match="no PoP answers"):
            rollout.admit({"sin": Absent()}, back=True)

    def test_nobody_there_is_unavailable(self) -> None:
        with pytest.raises(RemoteError, match="no PoP answers") as raised:
            rollout.admit({"lhr": Absent(), "nrt": Absent()})
        assert raised.value.status == 503


def test_receipts_say_what_each_pop_did() -> None:
    preparations: dict[str, Preparation] = {
        "sjc": Prepared(9.0),
        "lhr": Prepared(8.0),
        "nrt": Absent(),
        "sin": Absent(),
        "iad": Refused("no memory", where="index.js:1"),
    }
    assert rollout.receipts(preparations, {"sjc": 3.0, "sin": 4.0}) == {
        "sjc": PopReceipt(state="active", prepare_ms=9.0, activate_ms=3.0),
        "lhr": PopReceipt(state="late", prepare_ms=8.0),
        "nrt": PopReceipt(state="catches up"),
        "sin": PopReceipt(state="active", activate_ms=4.0),
        "iad": PopReceipt(state="refused", why="index.js:1: no memory"),
    }


class TestVersions:
    def test_numbers_grow_from_one(self) -> None:
        first = rollout.new_version(None, "a" * 64, 10, (), 5.0)
        assert (first.id, first.number, first.bundle) == ("a" * 16, 1, "a" * 64)
        spec = rollout.activated(FunctionSpec(name="f", active=""), first)
        assert rollout.new_version(spec, "b" * 64, 10, (), 6.0).number == 2

    def test_the_same_content_is_the_same_version(self) -> None:
        spec = deployed(3)
        again = rollout.new_version(spec, version(2).bundle, 1, ("other.test/*",), 99.0)
        assert again == version(2)

    def test_activation_brings_its_routes_and_remembers_what_served(self) -> None:
        spec = deployed(2)
        assert (spec.active, spec.previous) == (version(2).id, version(1).id)
        assert spec.routes == ("v2.test/*",)

    def test_activating_what_serves_keeps_the_way_back(self) -> None:
        spec = deployed(2)
        assert rollout.activated(spec, version(2)) == spec

    def test_ten_are_kept(self) -> None:
        assert [v.number for v in deployed(13).versions] == list(range(4, 14))

    def test_the_active_and_the_previous_are_never_forgotten(self) -> None:
        spec = rollout.activated(deployed(12), version(3))  # back to the oldest kept
        for number in range(13, 20):
            candidate = rollout.activated(spec, version(number))
            numbers = {v.id for v in candidate.versions}
            assert {candidate.active, candidate.previous} <= numbers
            spec = msgspec.structs.replace(candidate, active=version(3).id, previous=candidate.active)
        assert version(3) in spec.versions


class TestRollbackTarget:
    @pytest.mark.parametrize(
        ("to", "number"), [(None, 2), ("1", 1), (version(1).id, 1), (version(1).id[:7], 1)]
    )
    def test_goes_to(self, to: str | None, number: int) -> None:
        assert rollout.rollback_target(deployed(3), to).number == number

    def test_twice_goes_forth_again(self) -> None:
        back = rollout.activated(deployed(3), version(2))
        assert rollout.rollback_target(back, None) == version(3)

    @pytest.mark.parametrize(
        ("count", "to", "status", "words"),
        [
            (1, None, 409, "no version to go back to"),
            (3, "9", 404, "no version 9"),
            (3, "", 409, "no version to go back to"),
            (3, "3", 409, "serves already"),
        ],
    )
    def test_refuses(self, count: int, to: str | None, status: int, words: str) -> None:
        with pytest.raises(RemoteError, match=words) as raised:
            rollout.rollback_target(deployed(count), to)
        assert raised.value.status == status


@given(st.lists(st.integers(1, 30), min_size=1, max_size=60))
def test_any_history_keeps_its_invariants(history: list[int]) -> None:
    """Deploys of thirty contents in any order: what serves and what served are always at hand."""
    spec = FunctionSpec(name="f", active="")
    before = ""
    for content in history:
        bundle = hashlib.sha256(str(content).encode()).hexdigest()
        spec = rollout.activated(spec, rollout.new_version(spec, bundle, 1, (), 0.0))
        ids = [v.id for v in spec.versions]
        assert spec.active == bundle[:16]
        assert spec.active in ids
        assert spec.previous == "" or spec.previous in ids
        assert before in (spec.previous, spec.active)
        assert len(ids) == len(set(ids)) <= rollout.KEPT_VERSIONS
        numbers = [v.number for v in spec.versions]
        assert numbers == sorted(set(numbers))
        before = spec.active
