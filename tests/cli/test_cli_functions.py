"""What a change prints, and that one which is not everywhere is degraded."""

from __future__ import annotations

from typing import Any

import pytest

from atoll.cli import functions, main, store
from atoll.control.answers import Adoption, Change
from atoll.control.rollout import PopReceipt

ACTIVE = PopReceipt(state="active", prepare_ms=1.0, activate_ms=2.0)


class FakeClient:
    """Answers every question with one value."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def __call__(self) -> FakeClient:
        return self

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def post(self, *_arguments: Any) -> object:
        return self._answer

    def delete(self, *_arguments: Any) -> object:
        return self._answer


def change(version: str = "abc", **pops: PopReceipt) -> Change:
    return Change(name="hello", version=version, number=1, previous="", seq=4, pops=pops, total_ms=9.0)


@pytest.mark.parametrize("command", [["rollback", "hello"], ["delete", "hello"]])
@pytest.mark.parametrize(
    ("receipt", "code", "words"),
    [
        (ACTIVE, 0, ""),
        (PopReceipt(state="late", prepare_ms=1.0), 3, "not yet on nrt (late)"),
        (PopReceipt(state="catches up"), 3, "not yet on nrt (catches up)"),
        (PopReceipt(state="refused", why="no memory"), 3, "not yet on nrt (refused: no memory)"),
    ],
)
def test_a_change_is_done_when_every_pop_has_it(
    command: list[str],
    receipt: PopReceipt,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(functions, "Client", FakeClient(change(lhr=ACTIVE, nrt=receipt)))
    assert main.run(command) == code
    assert words in capsys.readouterr().err
    assert main.run([*command, "--json"]) == code


@pytest.mark.parametrize(("answer", "code"), [("follows", 0), ("does not answer", 3)])
def test_a_store_is_adopted_when_every_pop_follows(
    answer: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    adoption = Adoption(store="a1b2", pops={"lhr": "follows", "nrt": answer})
    monkeypatch.setattr(store, "Client", FakeClient(adoption))
    assert main.run(["adopt-store"]) == code
    assert "store a1b2" in capsys.readouterr().out
    assert main.run(["adopt-store", "--json"]) == code
