"""The lock files agree: a checkout that has been tested can be started, and the other way round."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON_LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-node.lock")


def packages(name: str) -> dict[str, tuple[str, list[str]]]:
    """Each package of a lock file: its version and its hashes. Markers differ with who needs it."""
    blocks = re.split(r"^(?=[a-z])", (ROOT / name).read_text(), flags=re.MULTILINE)
    found = {}
    for block in blocks:
        if named := re.match(r"([a-z0-9._-]+)==(\S+)", block):
            found[named[1]] = (named[2], sorted(re.findall(r"--hash=sha256:([0-9a-f]{64})", block)))
    return found


def test_what_the_product_needs_is_the_same_with_what_tests_need() -> None:
    product, with_tests = packages("requirements.lock"), packages("requirements-dev.lock")
    assert len(product) > 20
    differing = {name for name, found in product.items() if with_tests.get(name) != found}
    assert not differing, f"run `make lock`: {sorted(differing)}"


def test_every_package_has_hashes_and_no_lock_names_a_host() -> None:
    for name in PYTHON_LOCKS:
        for package, (_, hashes) in packages(name).items():
            assert hashes, (name, package)
        assert "://" not in (ROOT / name).read_text(), name


def test_the_npm_lock_names_no_registry() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    for path, package in lock["packages"].items():
        assert "resolved" not in package, path
        assert not path or "integrity" in package, path
