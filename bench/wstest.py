"""The Autobahn test suite for WebSockets (`wstest`), found or installed, and what it says.

It is a program for Python 2.7, from PyPI: where the machine has that Python it is installed once into the
folder for tools. Its client breaks the rules on purpose, and looks whether a server notices.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError
from atoll.node.listeners import free_port
from bench import machine
from bench.machine import LOAD_CORE
from bench.targets import wait_listening

PACKAGE: Final = "autobahntestsuite==25.10.1"
QUICK: Final = ("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*")
"""All but limits (9) and compression (12, 13), which take most of the time."""

PASSED: Final = frozenset(("OK", "NON-STRICT", "INFORMATIONAL"))
"""The suite's own words for what conforms, or leaves the choice."""

_PYTHONS: Final = ("python2.7", "python2")
_INSTALL_S: Final = 300.0


class Suite(msgspec.Struct, frozen=True):
    """How `wstest` is called."""

    program: Path
    env: Mapping[str, str]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the suite says of one server, directly or behind a proxy. `strict`: passed without a remark."""

    passed: int
    strict: int
    total: int
    failed: tuple[str, ...] = ()


def find(cache: Path) -> Suite:
    """The suite, installed below `cache` unless it is there.

    Raises:
        AtollError: there is no Python 2.7, or it cannot be installed.
    """
    base = cache / "autobahn"
    env = {"PYTHONUSERBASE": str(base)}
    program = base / "bin/wstest"
    if program.exists():
        return Suite(program, env)
    python = _python()
    if python is None:
        hint = "put python2.7 on PATH, with pip"
        raise AtollError("the Autobahn test suite needs Python 2.7, and there is none", hint=hint)
    done = subprocess.run(
        [python, "-m", "pip", "install", "--user", "--no-warn-script-location", "-q", PACKAGE],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=_INSTALL_S,
        check=False,
    )
    if done.returncode or not program.exists():
        raise AtollError(f"the Autobahn test suite cannot be installed: {done.stderr[-300:]}")
    return Suite(program, env)


def _python() -> str | None:
    """A Python 2.7 with pip: on PATH, or one of pyenv's."""
    found = [shutil.which(name) for name in _PYTHONS]
    found += sorted(map(str, Path.home().glob(".pyenv/versions/2.7*/bin/python2.7")))
    return next((path for path in found if path is not None and _has_pip(path)), None)


def _has_pip(python: str) -> bool:
    done = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=False)
    return done.returncode == 0 and "python 2.7" in done.stdout


class EchoServer:
    """`bench.websocket_echo`: the suite has nothing against it, and it cares for no host."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port(0)
        log = folder / "echo.log"
        argv = [sys.executable, "-m", "bench.websocket_echo", str(self.port)]
        self._process = machine.start(LOAD_CORE, argv, log)
        wait_listening(self.port, "the echo server", self._process, log)

    def stop(self) -> None:
        """End it."""
        machine.stop(self._process)


def run(suite: Suite, folder: Path, ports: Mapping[str, int], cases: Sequence[str]) -> dict[str, Verdict]:
    """Every case against every server of `ports`, by name.

    Raises:
        AtollError: the suite does not come to an end.
    """
    servers = [{"agent": name, "url": f"ws://127.0.0.1:{port}"} for name, port in ports.items()]
    spec = {
        "outdir": str(folder / "reports"),
        "servers": servers,
        "cases": [*cases],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    done = subprocess.run(
        [str(suite.program), "-m", "fuzzingclient", "-s", str(folder / "spec.json")],
        env={**os.environ, **suite.env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    index = folder / "reports/index.json"
    if done.returncode or not index.exists():
        raise AtollError(f"the Autobahn test suite has failed: {(done.stderr or done.stdout)[-300:]}")
    return verdicts(index.read_bytes())


def verdicts(index: bytes) -> dict[str, Verdict]:
    """What an `index.json` of the suite's reports says, by agent."""
    found: dict[str, dict[str, dict[str, object]]] = json.loads(index)
    return {agent: _verdict(cases) for agent, cases in found.items()}


def _verdict(cases: Mapping[str, Mapping[str, object]]) -> Verdict:
    words = {case: (str(each["behavior"]), str(each["behaviorClose"])) for case, each in cases.items()}
    failed = [case for case, said in words.items() if not set(said) <= PASSED]
    return Verdict(
        passed=len(words) - len(failed),
        strict=sum("NON-STRICT" not in said and set(said) <= PASSED for said in words.values()),
        total=len(words),
        failed=tuple(in_order(failed)),
    )


def in_order(cases: Iterable[str]) -> list[str]:
    """Cases by their numbers: 2.9 comes before 2.10."""
    return sorted(cases, key=lambda case: [int(part) for part in case.split(".")])
