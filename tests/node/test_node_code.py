"""Which code runs, and that its bytecode is there before a process has to start fast."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from atoll.node.code import code_version, compile_ahead


def test_a_version_is_of_every_byte_of_the_source(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    before = code_version(tmp_path)
    assert code_version(tmp_path) == before
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_version(tmp_path) != before


def test_bytecode_is_made_of_what_is_new(tmp_path: Path) -> None:
    source = tmp_path / "inner/a.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    (tmp_path / "broken.py").write_text("x = \n")
    compile_ahead(tmp_path)
    compiled = Path(importlib.util.cache_from_source(str(source)))
    first = compiled.read_bytes()
    source.write_text("x = 2\n")
    os.utime(source, (1, 1))
    compile_ahead(tmp_path)
    assert compiled.read_bytes() != first


def test_a_folder_that_may_not_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "__pycache__").write_text("in the way")
    compile_ahead(tmp_path)
    assert (tmp_path / "__pycache__").read_text() == "in the way"
