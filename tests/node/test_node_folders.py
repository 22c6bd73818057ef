from __future__ import annotations

from pathlib import Path

import pytest

from atoll.config.paths import Paths
from atoll.errors import AtollError
from atoll.node import folders


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(home=tmp_path / "home", run=tmp_path / "sockets/abc", token=tmp_path / "token")


def test_every_folder_is_its_users_alone(paths: Paths) -> None:
    folders.make_folders(paths)
    for folder in (paths.home, paths.logs, paths.run.parent, paths.run):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_named(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("in the way")
    with pytest.raises(AtollError, match="a folder cannot be used") as refused:
        folders.make_folders(paths)
    assert refused.value.where.startswith(str(paths.home))
    assert "ATOLL_HOME" in refused.value.hint


def test_a_folder_for_sockets_that_somebody_else_has_made_is_refused(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths.run.parent.mkdir()
    monkeypatch.setattr("os.getuid", lambda: 424242)
    with pytest.raises(AtollError, match="belongs to another user"):
        folders.make_folders(paths)
    assert list(paths.run.parent.iterdir()) == []


def test_removing_leaves_the_sockets_of_another_network(paths: Paths) -> None:
    folders.make_folders(paths)
    other = paths.run.parent / "other"
    other.mkdir()
    folders.remove_run(paths)
    assert list(paths.run.parent.iterdir()) == [other]
    other.rmdir()
    folders.remove_run(paths)
    assert not paths.run.parent.exists()
