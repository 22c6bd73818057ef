"""The open loop with everything else that goes on: a small one, with every part of it."""

from __future__ import annotations

import pytest

from bench import open as opened

pytestmark = pytest.mark.real


def test_all_of_it_goes_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "PROBE_S", 0.3)
    monkeypatch.setattr(opened, "PROBE_RATE", 100.0)
    monkeypatch.setattr(opened, "MOST_RATE", 300.0)
    told: list[str] = []
    options = opened.Options(objects=300, load=0.9, seconds=1.0, handshakes=20.0, readers=20)
    result = opened.run(options, told.append)
    assert result.failed == 0
    assert result.answered > 50
    assert result.stored == 301
    assert result.readers_open >= 20
    assert result.readers.failed == 0
    assert result.handshakes.done > 5
    assert result.handshakes.failed == 0
    assert result.purges > 5
    assert result.memory_mb["begin"] <= result.memory_mb["most"]
    assert any("slow readers" in line for line in told)
