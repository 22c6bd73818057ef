"""Sets a checkout up: the virtual environment, locked Python packages, locked npm packages.

Needs Python 3.11+ with venv and nothing else; node comes from a wheel where the machine has none. Run again
it does only what is missing: it remembers the hashes of the lock files, and which files it left installed.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = ROOT / ".setup.log"
RECORD = ROOT / ".setup.json"
OLDEST_NODE = 18
BINARIES = ("node_modules/@cloudflare/workerd-*/bin/workerd", "node_modules/@esbuild/*/bin/esbuild")

# What pip and npm say when something usual is wrong: what it is in our words.
REASONS = (
    (r"No space left on device|ENOSPC", "the disk is full"),
    (r"do not match the hashes|EINTEGRITY", "a package is not what its lock file says: is it altered?"),
    (
        r"must have their versions pinned|Invalid requirement|which is not installed|JSONParseError",
        "a lock file is damaged: restore it",
    ),
    (
        r"Failed to establish a new connection|Temporary failure in name|Network is unreachable|timed out"
        r"|ProxyError|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH",
        "the package index cannot be reached: is there a network?",
    ),
    (r"CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT", "the package index's certificate is not trusted here"),
    (r"No matching distribution|ETARGET|E404", "the package index lacks a package of this system"),
    (r"Permission denied|EACCES", "a folder cannot be written"),
)


class SetupError(Exception):
    """One sentence for the person at the keyboard."""


def run(step: str, command: list[str]) -> None:
    """Run `command` under a line of progress; what it prints goes to the log."""
    began = time.monotonic()
    with LOG.open("ab") as log:
        print(f"  {step} …", end="", flush=True)
        log.write(f"\n$ {' '.join(command)}\n".encode())
        log.flush()
        start = log.tell()
        done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        print(" failed", flush=True)
        raise SetupError(f"{step} failed: {reason(start)} (what it said is at the end of {LOG.name})")
    print(f" {time.monotonic() - began:.1f} s")


def reason(start: int) -> str:
    """Why the command failed whose output begins at `start` in the log."""
    said = LOG.read_bytes()[start:].decode(errors="replace")
    for pattern, words in REASONS:
        if re.search(pattern, said):
            return words
    errors = re.findall(r"^(?:ERROR: |Error: |npm error )(.+)$", said, re.MULTILINE)
    return errors[-1].rstrip(".") if errors else "it gave no reason"


def fingerprint(*paths: Path) -> str:
    """A hash over the contents of `paths` and this interpreter's version."""
    digest = hashlib.sha256(sys.version.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def installed() -> set[str]:
    """The files of the virtual environment, without what Python compiles as it goes."""
    return {
        os.path.relpath(os.path.join(folder, name), VENV)
        for folder, _, names in os.walk(VENV)
        for name in names
        if not folder.endswith("__pycache__")
    }


def read_record() -> dict[str, str] | None:
    """The lock files that are installed, with their hashes; None when files of theirs have gone since."""
    try:
        record = json.loads(RECORD.read_text())
        locks: dict[str, str] = record["locks"]
        return locks if installed().issuperset(record["files"]) else None
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def keep_record(locks: dict[str, str]) -> None:
    """Remember what is installed now."""
    RECORD.write_text(json.dumps({"locks": locks, "files": sorted(installed())}))


def make_venv() -> None:
    """The virtual environment, new when it is missing, broken, or was made somewhere else."""
    config = VENV / "pyvenv.cfg"
    whole = (VENV / "bin/python").exists() and any(VENV.glob("lib/python3*/site-packages/pip/__main__.py"))
    if whole and config.is_file() and str(VENV) in config.read_text() and read_record() is not None:
        return
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments; install its venv (on Debian and Ubuntu: "
            "apt install python3-venv), or use another Python: make PYTHON=/path/to/python3.11"
        )
    RECORD.unlink(missing_ok=True)
    run("making the virtual environment", [sys.executable, "-m", "venv", "--clear", str(VENV)])


def pip(*arguments: str) -> list[str]:
    """A pip command line for the virtual environment."""
    return [str(VENV / "bin/python"), "-m", "pip", "--disable-pip-version-check", *arguments]


def install_python(lock: Path) -> None:
    """Packages of `lock` by their hashes, then the project itself."""
    locks, value = read_record() or {}, fingerprint(lock, ROOT / "pyproject.toml")
    if locks.get(lock.name) == value:
        return
    RECORD.unlink(missing_ok=True)
    run(f"installing Python packages ({lock.name})", pip("install", "--require-hashes", "-r", str(lock)))
    run("installing the project", pip("install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)))
    run("checking what is installed", pip("check"))
    keep_record({**locks, lock.name: value})


def find_npm() -> list[str]:
    """The command that is npm: the machine's own, or that of the wheel."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        if version.startswith("v") and int(version[1:].split(".")[0]) >= OLDEST_NODE:
            return [npm]
    lock = ROOT / "requirements-node.lock"
    run("installing node from its wheel", pip("install", "--require-hashes", "-r", str(lock)))
    return [str(VENV / "bin/npm")]


def install_node_packages() -> None:
    """Packages of package-lock.json."""
    stamp = ROOT / "node_modules/.stamp"
    value = fingerprint(ROOT / "package-lock.json", ROOT / "package.json")
    if stamp.is_file() and stamp.read_text() == value and all(map(find_binary, BINARIES)):
        return
    patience = ("--fetch-retry-mintimeout=1000", "--fetch-retry-factor=4")  # npm's own is over a minute
    run("installing npm packages", [*find_npm(), "ci", *patience])
    for pattern in BINARIES:
        check_binary(pattern)
    stamp.write_text(value)


def find_binary(pattern: str) -> Path | None:
    """The program that a package has brought."""
    return next(ROOT.glob(pattern), None)


def check_binary(pattern: str) -> None:
    """Packages are installed without their scripts, so a binary is the platform's or it is missing."""
    found = find_binary(pattern)
    if found is None:
        name = Path(pattern).name
        raise SetupError(f"npm has brought no {name} for this system; Linux on x86-64 and ARM64 has one")
    run(f"trying {found.name}", [str(found), "--version"])


def wait_for_turn() -> None:
    """One set-up of a checkout at a time; the lock goes with this process."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("  waiting for another set-up of this checkout …", flush=True)
        fcntl.flock(folder, fcntl.LOCK_EX)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="also what tests and checks need")
    options = parser.parse_args()
    try:
        wait_for_turn()
        make_venv()
        install_python(ROOT / ("requirements-dev.lock" if options.dev else "requirements.lock"))
        install_node_packages()
    except SetupError as error:
        print(f"{error}.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the checkout cannot be set up: {error.strerror}: {error.filename}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; run it again to go on.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
