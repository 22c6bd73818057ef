"""Mutation testing of the pure cores: do their tests notice a changed rule?

Runs mutmut (configured in pyproject.toml, `[tool.mutmut]`) from a clean start, then counts. A mutant is
killed when a test fails or never ends because of it; one that no test reaches counts as a survivor.

    python -m bench.mutate [--json]

Exit code 0 when at least 90 % were killed, else 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from atoll.errors import AtollError

GOAL_PERCENT: Final = 90.0
KILLED: Final = frozenset(("killed", "timeout"))
_CLASS_MARK: Final = "ǁ"  # mutmut's separator of class and method


class Mutant(msgspec.Struct, frozen=True):
    """One change of one function, and what the tests said."""

    module: str
    function: str
    number: int
    status: str  # mutmut's word: killed, survived, timeout, no tests, ...


class ModuleScore(msgspec.Struct, frozen=True):
    """A module's mutants; `survivors` maps a function to the numbers `mutmut show` knows them by."""

    module: str
    mutants: int
    killed: int
    killed_percent: float
    survivors: dict[str, tuple[int, ...]]


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run."""

    name: str = "mutate"
    mutants: int
    killed: int
    killed_percent: float
    goal_percent: float = GOAL_PERCENT
    duration_s: float
    modules: tuple[ModuleScore, ...]
    ok: bool


def parse_results(text: str) -> Iterator[Mutant]:
    """The mutants in what `mutmut results --all true` prints: `module.x_function__mutmut_7: killed`."""
    for line in text.splitlines():
        name, colon, status = line.strip().rpartition(": ")
        qualified, mark, number = name.rpartition("__mutmut_")
        if colon and mark:
            module, _, mangled = qualified.rpartition(".")
            yield Mutant(module, _function(mangled), int(number), status)


def score(mutants: Iterable[Mutant], duration_s: float) -> Score:
    """The numbers of a run."""
    by_module: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        by_module.setdefault(mutant.module, []).append(mutant)
    modules = tuple(_module_score(module, found) for module, found in sorted(by_module.items()))
    total, killed = sum(each.mutants for each in modules), sum(each.killed for each in modules)
    percent = _percent(killed, total)
    return Score(
        mutants=total,
        killed=killed,
        killed_percent=percent,
        duration_s=round(duration_s, 1),
        modules=modules,
        ok=percent >= GOAL_PERCENT,
    )


def render(result: Score) -> str:
    """A table for people."""
    lines = [f"{'module':32} {'mutants':>8} {'killed':>8} {'percent':>8}"]
    for each in result.modules:
        lines.append(f"{each.module:32} {each.mutants:8} {each.killed:8} {each.killed_percent:8.1f}")
        lines += [f"  survived in {name}: {list(ids)}" for name, ids in each.survivors.items()]
    lines.append(f"{'all':32} {result.mutants:8} {result.killed:8} {result.killed_percent:8.1f}")
    return "\n".join(lines)


def run() -> Score:
    """Mutates, tests and counts.

    Raises:
        AtollError: mutmut could not run (usually: a test fails without any mutation).
    """
    began_s = time.monotonic()
    shutil.rmtree("mutants", ignore_errors=True)  # mutmut would keep verdicts of tests that have changed
    _mutmut("run", "--max-children", str(os.cpu_count() or 1))
    return score(parse_results(_mutmut("results", "--all", "true")), time.monotonic() - began_s)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Mutation testing of the pure cores.")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    arguments = parser.parse_args()
    try:
        result = run()
    except AtollError as error:
        print(error, file=sys.stderr)
        return 1
    print(msgspec.json.encode(result).decode() if arguments.json else render(result))
    return 0 if result.ok else 1


def _mutmut(*arguments: str) -> str:
    if not Path("pyproject.toml").is_file():
        raise AtollError("no pyproject.toml here", hint="run it in the checkout's top folder")
    done = subprocess.run(
        [sys.executable, "-m", "mutmut", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        tail = (done.stdout + done.stderr)[-2000:]
        raise AtollError(f"mutmut {arguments[0]} failed:\n{tail}", hint="do the tests pass without it?")
    return done.stdout


def _function(mangled: str) -> str:
    """`x_best` is best, `x__best` _best, `xǁTableǁfind` Table.find."""
    return mangled[2:].replace(_CLASS_MARK, ".")


def _module_score(module: str, mutants: list[Mutant]) -> ModuleScore:
    survivors: dict[str, tuple[int, ...]] = {}
    for mutant in mutants:
        if mutant.status not in KILLED:
            survivors[mutant.function] = (*survivors.get(mutant.function, ()), mutant.number)
    killed = sum(mutant.status in KILLED for mutant in mutants)
    return ModuleScore(module, len(mutants), killed, _percent(killed, len(mutants)), survivors)


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


if __name__ == "__main__":
    sys.exit(main())
