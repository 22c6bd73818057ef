from __future__ import annotations

from pathlib import Path

import pytest

from atoll.cli import logs
from atoll.errors import AtollError

NAMES = ("nats", "lhr-agent", "lhr-access", "lhr-fn-shop-1f", "nrt-agent", "nrt-fn-shop-1f", "nrt-fn-ab-2e")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / f"{name}.log").write_text(f"{name} one\n{name} two\n")
    return tmp_path


@pytest.mark.parametrize(
    ("process", "pop", "function", "chosen"),
    [
        ("nats", None, None, ["nats"]),
        ("lhr/agent", None, None, ["lhr-agent"]),
        ("lhr-access", None, None, ["lhr-access"]),
        (None, "lhr", None, ["lhr-agent", "lhr-fn-shop-1f"]),
        (None, None, "shop", ["lhr-fn-shop-1f", "nrt-fn-shop-1f"]),
        (None, "nrt", "ab", ["nrt-fn-ab-2e"]),
        (None, None, None, [name for name in sorted(NAMES) if name != "lhr-access"]),
    ],
)
def test_which_logs(
    folder: Path, process: str | None, pop: str | None, function: str | None, chosen: list[str]
) -> None:
    assert [path.stem for path in logs.choose(folder, process, pop, function)] == chosen


def test_no_such_log_lists_those_there_are(folder: Path) -> None:
    with pytest.raises(AtollError, match="no such log") as caught:
        logs.choose(folder, "lhr/nobody", None, None)
    assert "lhr-agent" in caught.value.hint


def test_the_last_lines(folder: Path) -> None:
    path = folder / "nats.log"
    assert logs.tail(path, 1) == ["nats two"]
    assert logs.tail(path, 9) == ["nats one", "nats two"]
    assert logs.tail(path, 0) == []
    assert logs.tail(folder / "gone.log", 5) == []


def test_following_gives_whole_lines_once(folder: Path) -> None:
    path = folder / "nats.log"
    seen = {path: path.stat().st_size}
    with path.open("a") as file:
        file.write("three\nfo")
    assert list(logs.added(path, seen)) == ["three"]
    assert list(logs.added(path, seen)) == []
    with path.open("a") as file:
        file.write("ur\n")
    assert list(logs.added(path, seen)) == ["four"]


def test_following_starts_again_after_a_log_was_set_aside(folder: Path) -> None:
    path = folder / "nats.log"
    seen = {path: path.stat().st_size}
    path.write_text("new\n")
    assert list(logs.added(path, seen)) == ["new"]
