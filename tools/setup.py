"""Sets a checkout up: the virtual environment, locked Python packages, locked npm packages.

Needs Python 3.11+ with venv and nothing else; node comes from a wheel where the machine has none. Run again
it does only what has changed (it remembers the hashes of the lock files). Standard library only: it runs
before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = ROOT / ".setup.log"
OLDEST_NODE = 18
BINARIES = ("node_modules/@cloudflare/workerd-*/bin/workerd", "node_modules/@esbuild/*/bin/esbuild")


class SetupError(Exception):
    """One sentence for the person at the keyboard."""


def run(step: str, command: list[str]) -> None:
    """Run `command` under a line of progress; what it prints goes to the log."""
    began = time.monotonic()
    print(f"  {step} …", end="", flush=True)
    with LOG.open("ab") as log:
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(" failed")
        raise SetupError(f"{step} failed; what it said is at the end of {LOG.relative_to(ROOT)}")
    print(f" {time.monotonic() - began:.1f} s")


def fingerprint(paths: list[Path]) -> str:
    """A hash over the contents of `paths` and this interpreter's version."""
    digest = hashlib.sha256(sys.version.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def unchanged(stamp: Path, value: str) -> bool:
    """Whether a step was done for the same inputs before."""
    return stamp.is_file() and stamp.read_text() == value


def make_venv() -> None:
    """The virtual environment, new when it is missing, broken, or was made somewhere else."""
    config = VENV / "pyvenv.cfg"
    if (VENV / "bin/python").exists() and config.is_file() and str(VENV) in config.read_text():
        return
    try:
        run("making the virtual environment", [sys.executable, "-m", "venv", "--clear", str(VENV)])
    except SetupError as error:
        raise SetupError("this Python cannot make virtual environments; install python3-venv") from error


def install_python(lock: Path) -> None:
    """Packages of `lock` by their hashes, then the project itself."""
    stamp = VENV / f".{lock.stem}.stamp"
    value = fingerprint([lock, ROOT / "pyproject.toml"])
    if unchanged(stamp, value):
        return
    pip = [str(VENV / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install"]
    run(f"installing Python packages ({lock.name})", [*pip, "--require-hashes", "-r", str(lock)])
    run("installing the project", [*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    stamp.write_text(value)


def find_npm() -> list[str]:
    """The command that is npm: the machine's own, or that of the wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if version.startswith("v") and int(version[1:].split(".")[0]) >= OLDEST_NODE:
            return [npm]
    pip = [str(VENV / "bin/python"), "-m", "pip", "--disable-pip-version-check", "install"]
    lock = ROOT / "requirements-node.lock"
    run("installing node from its wheel", [*pip, "--require-hashes", "-r", str(lock)])
    return [str(VENV / "bin/npm")]


def install_node_packages() -> None:
    """Packages of package-lock.json."""
    stamp = ROOT / "node_modules/.stamp"
    value = fingerprint([ROOT / "package-lock.json", ROOT / "package.json"])
    if unchanged(stamp, value):
        return
    run("installing npm packages", [*find_npm(), "ci"])
    for pattern in BINARIES:
        check_binary(pattern)
    stamp.write_text(value)


def check_binary(pattern: str) -> None:
    """Packages are installed without their scripts, so a binary is the platform's or it is missing."""
    found = next(ROOT.glob(pattern), None)
    if found is None:
        raise SetupError(f"npm has brought no {Path(pattern).name} for this system; Linux and macOS have one")
    run(f"trying {found.name}", [str(found), "--version"])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    options = parser.parse_args()
    if sys.version_info < (3, 11):  # noqa: UP036 - this file runs before anything has checked
        print(f"Atoll needs Python 3.11 or newer; this is {sys.version.split()[0]}.", file=sys.stderr)
        return 1
    try:
        make_venv()
        install_python(ROOT / ("requirements-dev.lock" if options.dev else "requirements.lock"))
        install_node_packages()
    except SetupError as error:
        print(f"{error}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
