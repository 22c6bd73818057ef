"""What the documents point at is there: relative links, files, and functions named beside their file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
LINK = re.compile(r"\]\((?!https?://|#)(?P<path>[^)#\s]+)(?:#[\w-]+)?\)")
FILE = re.compile(r"`(?P<path>(?:atoll|bench|tests|tools|examples|docs)/[\w./-]*\w\.\w+)(?:::\w+)?`")
NAMED = re.compile(r"`(?P<name>[A-Za-z_.]+)(?:\(\))?`(?:\s\w+)*\s\(`(?P<path>atoll/[\w/]+\.py)`")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


@pages
def test_links_lead_somewhere(page: Path) -> None:
    links = [found["path"] for found in LINK.finditer(page.read_text(encoding="utf-8"))]
    assert not [path for path in links if not (page.parent / path).exists()]


@pages
def test_files_named_are_there(page: Path) -> None:
    named = {found["path"] for found in FILE.finditer(page.read_text(encoding="utf-8"))}
    assert not [path for path in sorted(named) if not (ROOT / path).exists()]


@pages
def test_what_is_named_beside_a_file_is_in_it(page: Path) -> None:
    named = {(found["name"], found["path"]) for found in NAMED.finditer(page.read_text(encoding="utf-8"))}
    gone = [(name, path) for name, path in sorted(named) if not defined(name, ROOT / path)]
    assert not gone


def defined(name: str, path: Path) -> bool:
    """Whether each part of `Class.method` is defined in the file."""
    text = path.read_text(encoding="utf-8")
    words = name.split(".")
    return all(re.search(rf"\b(?:def|class) {word}\b|^{word}\b.*=", text, re.MULTILINE) for word in words)


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    listed = {(ROOT / "docs" / found["path"]).resolve() for found in LINK.finditer(index)}
    missing = [page for page in ROOT.glob("docs/**/*.md") if page.resolve() not in listed]
    assert not [page.relative_to(ROOT).as_posix() for page in missing if page.name != "README.md"]
