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
    paths.run.parent.mkdir(mode=0o700)
    monkeypatch.setattr("os.getuid", lambda: 424242)
    with pytest.raises(AtollError, match="belongs to another user"):
        folders.make_folders(paths)
    assert list(paths.run.parent.iterdir()) == []


def test_a_folder_for_sockets_is_not_looked_at_through_a_link(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(mode=0o700)
    paths.run.parent.symlink_to(tmp_path / "mine")
    with pytest.raises(AtollError, match="is not a folder"):
        folders.make_folders(paths)
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_folder_for_sockets_that_others_may_write_to_is_refused(paths: Paths) -> None:
    paths.run.parent.mkdir()
    paths.run.parent.chmod(0o770)
    with pytest.raises(AtollError, match="others may write"):
        folders.make_folders(paths)
    assert list(paths.run.parent.iterdir()) == []


def test_a_folder_for_sockets_that_others_may_enter_is_closed(paths: Paths) -> None:
    paths.run.parent.mkdir()
    paths.run.parent.chmod(0o755)
    folders.make_folders(paths)
    assert paths.run.parent.stat().st_mode & 0o777 == 0o700


def test_a_home_that_was_there_before_becomes_private(paths: Paths) -> None:
    paths.home.mkdir(mode=0o755)
    paths.home.chmod(0o775)
    folders.make_folders(paths)
    assert paths.home.stat().st_mode & 0o777 == 0o700


def test_a_folder_of_everybody_is_no_home(paths: Paths) -> None:
    paths.home.mkdir()
    paths.home.chmod(0o1777)
    with pytest.raises(AtollError, match="is everybody's"):
        folders.make_folders(paths)
    assert paths.home.stat().st_mode & 0o777 == 0o777


def test_removing_leaves_the_sockets_of_another_network(paths: Paths) -> None:
    folders.make_folders(paths)
    other = paths.run.parent / "other"
    other.mkdir()
    folders.remove_run(paths)
    assert list(paths.run.parent.iterdir()) == [other]
    other.rmdir()
    folders.remove_run(paths)
    assert not paths.run.parent.exists()
