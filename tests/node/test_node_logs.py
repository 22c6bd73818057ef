from __future__ import annotations

import os
from pathlib import Path

import pytest

from atoll.node import logs


def test_a_log_is_private_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "edge.log"
    for line in (b"one\n", b"two\n"):
        fd = logs.open_log(path)
        os.write(fd, line)
        os.close(fd)
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_large_log_is_set_aside_before_a_start(tmp_path: Path) -> None:
    path = tmp_path / "edge.log"
    path.write_bytes(b"x" * (logs.LARGEST + 1))
    os.close(logs.open_log(path))
    assert path.read_bytes() == b""
    assert (tmp_path / "edge.log.1").stat().st_size == logs.LARGEST + 1


def test_the_end_of_a_large_log_is_set_aside_under_its_writer(tmp_path: Path) -> None:
    path, older = tmp_path / "edge.log", tmp_path / "edge.log.1"
    older.touch(mode=0o644)
    fd = logs.open_log(path)
    os.write(fd, b"x" * 2 * logs.LARGEST + b"last\n")
    logs.bound_log(path)
    os.write(fd, b"next\n")
    os.close(fd)
    assert path.read_bytes() == b"next\n"
    assert older.stat().st_size == logs.LARGEST
    assert older.read_bytes().endswith(b"xlast\n")
    assert older.stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_copied_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "edge.log"
    path.write_bytes(b"x" * (logs.LARGEST + 1))
    (tmp_path / "edge.log.1").mkdir()
    logs.bound_log(path)
    assert "edge.log is not kept to a size" in caplog.text


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "edge.log"
    path.write_bytes(b"x" * logs.LARGEST)
    logs.bound_log(path)
    logs.bound_log(tmp_path / "not-yet.log")
    assert path.stat().st_size == logs.LARGEST
