"""A bundle on disk: flushed, and known by its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bundles import tiny

from atoll.errors import AtollError
from atoll.functions.workers import bundle

DATA = tiny("hello", "hello", ("hello.test/*",))


def test_an_unpacked_bundle_has_the_name_it_came_with(tmp_path: Path) -> None:
    bundle.unpack(DATA, tmp_path / "b")
    assert bundle.unpacked_digest(tmp_path / "b") == bundle.digest(DATA)


def test_a_damaged_one_has_another_or_none(tmp_path: Path) -> None:
    bundle.unpack(DATA, tmp_path / "b")
    (tmp_path / "b/index.js").write_bytes(b"")
    assert bundle.unpacked_digest(tmp_path / "b") != bundle.digest(DATA)
    (tmp_path / "b/index.js").unlink()
    with pytest.raises(FileNotFoundError):
        bundle.unpacked_digest(tmp_path / "b")
    (tmp_path / "b/manifest.json").write_bytes(b"")
    with pytest.raises(AtollError, match="no manifest"):
        bundle.unpacked_digest(tmp_path / "b")


def test_every_file_and_the_folder_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    monkeypatch.setattr("os.fsync", lambda fd: flushed.append(os.readlink(f"/proc/self/fd/{fd}")))
    bundle.unpack(DATA, tmp_path / "b")
    assert flushed == [str(tmp_path / "b" / name) for name in ("index.js", "manifest.json")] + [
        str(tmp_path / "b")
    ]
