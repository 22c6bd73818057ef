from __future__ import annotations

import os
from pathlib import Path

import pytest

from atoll.cli import daemon
from atoll.config.paths import resolve
from atoll.errors import AtollError
from atoll.node.lock import Holder


@pytest.mark.parametrize("pid", [0, -1])
def test_who_holds_the_lock_without_saying_so_is_not_signalled(
    pid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, _number: signalled.append(pid))
    paths = resolve({"ATOLL_HOME": str(tmp_path)}, os.getuid())
    with pytest.raises(AtollError, match="held by a process that it does not name") as refused:
        daemon.stop(Holder(pid=pid, started_s=0.0), paths)
    assert str(paths.lock_file) in refused.value.hint
    assert signalled == []
