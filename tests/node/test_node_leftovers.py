from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from atoll.config.paths import Paths
from atoll.node.leftovers import leftovers, names_any, sweep


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(home=tmp_path / "home", run=tmp_path / "run", token=tmp_path / "token")


@pytest.fixture
def sleepers() -> Iterator[ExitStack]:
    with ExitStack() as running:
        yield running


def sleeper(running: ExitStack, home: Path, role: str) -> subprocess.Popen[bytes]:
    variable = f'{{"role":"{role}","home":"{home}"}}'
    process = subprocess.Popen(["sleep", "60"], env={**os.environ, "ATOLL_ROLE": variable})
    running.enter_context(process)
    running.callback(process.kill)
    return process


def test_what_is_left_of_a_network_is_ended_and_named(paths: Paths, sleepers: ExitStack) -> None:
    left = sleeper(sleepers, paths.home, "supervisor")
    other = sleeper(sleepers, paths.home.with_name("home2"), "supervisor")
    assert sweep(paths) == [f"sleep (pid {left.pid})"]
    assert list(leftovers(paths)) == []
    assert other.poll() is None


def test_a_daemon_spares_another_that_is_about_to_be_refused(paths: Paths, sleepers: ExitStack) -> None:
    daemon = sleeper(sleepers, paths.home, "network")
    left = sleeper(sleepers, paths.home, "agent")
    assert sweep(paths, daemons=False) == [f"sleep (pid {left.pid})"]
    assert daemon.poll() is None
    assert sweep(paths) == [f"sleep (pid {daemon.pid})"]


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("/a/edge", True),
        ("/a/edge/nats/nats.conf", True),
        ("/a/edge2/nats.conf", False),
        ("/b/a/edge", False),
    ],
)
def test_a_folder_is_named_whole(argument: str, named: bool) -> None:
    assert names_any(["-c", argument], [Path("/a/edge"), Path("/run/x")]) is named
