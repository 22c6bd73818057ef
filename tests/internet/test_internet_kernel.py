"""What machine code costs: nothing where it is not used, and only time where it cannot be kept."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(120)  # one of them compiles


def python(code: str, env: Mapping[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_line_does_not_import_numba() -> None:
    code = "import sys, atoll.cli.main as main; main.run(['--help']); print('numba' in sys.modules)"
    root = Path(__file__).parents[2]
    assert python(code, dict(os.environ), root).endswith("False\n")


def test_it_runs_where_no_cache_can_be_written(tmp_path: Path) -> None:
    """A package whose `__pycache__` is a file, and a cache folder of the user's that cannot be made."""
    root = Path(__file__).parents[2]
    package = tmp_path / "atoll" / "internet"
    package.mkdir(parents=True)
    for path in (root / "atoll/internet").glob("*.py"):
        (package / path.name).write_bytes(path.read_bytes())
    for name in ("config", "wire", "errors.py", "__init__.py"):
        (tmp_path / "atoll" / name).symlink_to(root / "atoll" / name)
    (package / "__pycache__").write_text("a file")
    code = (
        "from atoll.internet import csr, propagate as p\n"
        "g = csr.build([(1, 9), (1, 3)], [])\n"
        "print(csr.__file__, p.propagate(g, [[p.Origin(9)]]).path(3))"
    )
    env = {"PATH": os.environ["PATH"], "HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    shown = python(code, env | {"PYTHONPATH": str(tmp_path)}, tmp_path)
    assert shown == f"{package / 'csr.py'} (3, 1, 9)\n"
