"""docs/source-map.md names every module and only those; what it marks as pure the contracts hold so."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("atoll", "bench", "tools", "examples")
ENDINGS = (".py", ".js", ".css", ".toml")
ROW = re.compile(r"^\| `(?P<path>[^`]+)` \| (?P<pure>●?) ?\| (?P<text>.+) \|$", re.MULTILINE)


def rows() -> list[tuple[str, bool, str]]:
    page = (ROOT / "docs/source-map.md").read_text(encoding="utf-8")
    return [(row["path"], bool(row["pure"]), row["text"]) for row in ROW.finditer(page)]


def modules() -> Iterator[str]:
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            known = path.suffix in ENDINGS and path.name != "__init__.py"
            if known and not {"__pycache__", "results"} & set(path.parts):
                yield path.relative_to(ROOT).as_posix()


def contract() -> tuple[str, ...]:
    """What import-linter keeps away from clock, socket, disk and chance."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (pure,) = [each for each in contracts if each["type"] == "forbidden"]
    return tuple(pure["source_modules"])


def is_pure(path: str) -> bool:
    name = path.removesuffix(".py").replace("/", ".")
    return any(name == each or name.startswith(f"{each}.") for each in contract())


def test_every_module_has_a_row() -> None:
    missing = sorted(set(modules()) - {path for path, _, _ in rows()})
    assert not missing, f"add rows to docs/source-map.md: {missing}"


def test_every_row_has_a_file() -> None:
    gone = [path for path, _, _ in rows() if not (ROOT / path).is_file()]
    assert not gone, f"remove rows from docs/source-map.md: {gone}"


def test_no_module_has_two_rows() -> None:
    paths = [path for path, _, _ in rows()]
    assert len(paths) == len(set(paths))


def test_the_mark_of_purity_is_the_contracts() -> None:
    wrong = [path for path, pure, _ in rows() if pure != is_pure(path)]
    assert not wrong, f"wrong mark in docs/source-map.md: {wrong}"
